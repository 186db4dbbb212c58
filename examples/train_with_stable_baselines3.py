"""Train with stable-baselines3 and sb3-contrib as they are, by the environment's name alone.

python examples/train_with_stable_baselines3.py [STEPS]
"""

import sys

import numpy as np
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

import mevrl

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 512

# The one-liner. PPO may choose any action; one that cannot be done counts as a pass.
plain = PPO("MlpPolicy", "mevrl/Market-v0", n_steps=128, seed=0).learn(steps)

# Maskable PPO asks the environment for `action_masks`. One decision per slot, four markets.
market = mevrl.MarketConfig(episode_slots=64, ticks_per_slot=1)
train = make_vec_env("mevrl/Market-v0", n_envs=4, seed=0, env_kwargs={"config": market})
masked = MaskablePPO("MlpPolicy", train, n_steps=128, seed=0).learn(steps)

# Both play the same episodes of the test split, which the training never saw.
test = mevrl.MarketVectorEnv(32, market, split="test")
for name, model in (("PPO", plain), ("MaskablePPO", masked)):
    observations, _ = test.reset(seed=1)
    profit_eth = np.zeros(test.num_envs)
    for _ in range(market.episode_slots):
        if isinstance(model, MaskablePPO):
            masks = test.action_masks()
            actions, _ = model.predict(observations, action_masks=masks, deterministic=True)
        else:
            actions, _ = model.predict(observations, deterministic=True)
        observations, _, _, _, infos = test.step(actions)
        profit_eth += infos["profit"]
    print(f"{name}: {profit_eth.mean():+.4f} ETH per episode after {steps} steps")

assert get_action_masks(train).shape == (4, len(mevrl.ACTION_TABLE))
