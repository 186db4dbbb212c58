"""The compiled gradient of PPO for tanh perceptrons: acting (`policy_step`) and one minibatch
(`policy_gradient`).
"""
