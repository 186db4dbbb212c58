"""Read a frozen policy and decide once.

python examples/read_a_frozen_policy.py [POLICY_FOLDER]

Without a folder an untrained network is frozen first, with a forecaster trained for a second.
"""

import sys
import tempfile

from torch import nn

import mevrl
from agents.config import PricesConfig, TrainConfig
from models.volatility.config import VolatilityConfig

if len(sys.argv) > 1:
    folder = sys.argv[1]
else:
    folder = tempfile.mkdtemp() + "/policy"
    fields, actions = len(mevrl.FIELDS), len(mevrl.ACTION_TABLE)
    network = nn.Sequential(nn.Linear(fields, 64), nn.ReLU(), nn.Linear(64, actions))
    settings = TrainConfig(
        prices=PricesConfig(stand_in_days=20), forecaster=VolatilityConfig(ensemble=1, epochs=1)
    )
    mevrl.freeze_policy(network, folder, settings)

# Hashes, fields, actions and recorded decisions are checked before the policy may decide.
policy = mevrl.load_policy(folder)
print(f"frozen by {policy.manifest['commit']}: {policy.manifest['shapes']}")

env = mevrl.Searcher(split="test", seed=1)
observation, _ = env.reset()
while env.action_masks().sum() == 1:  # nothing to bid on yet
    observation, *_ = env.step(0)
action = policy.decide(observation, env.action_masks())
print(f"action {action}: {mevrl.ACTION_TABLE[action]}")
print("logits of passing and of this action:", policy.logits[0], policy.logits[action])
