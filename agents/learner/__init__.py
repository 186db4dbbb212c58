"""The learners: masked PPO, masked recurrent PPO, their buffers, and rollouts from other
processes."""
