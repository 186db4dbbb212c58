"""Freeze a policy that was trained elsewhere, let it decide, and serve it on a local chain.

python examples/freeze_and_serve_a_policy.py [POLICY_FOLDER] [SECONDS_TO_SERVE]

`mevrl freeze --model model.zip --policy DIR` does the same with a saved model or an ONNX file.
"""

import sys
import tempfile

from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

import mevrl
from agents.config import PricesConfig, TrainConfig
from models.policy.convert import CannotServeError
from models.volatility.config import VolatilityConfig

folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp() + "/policy"
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0

# Trained elsewhere: any library, any network that maps observations to logits of the actions.
market = mevrl.MarketConfig(episode_slots=64, ticks_per_slot=1)
env = make_vec_env("mevrl/Market-v0", n_envs=4, seed=0, env_kwargs={"config": market})
model = PPO("MlpPolicy", env, n_steps=64, policy_kwargs={"activation_fn": nn.ReLU}).learn(256)

# The folder also holds the forecaster that fills three fields of the observation, and examples of
# decisions that every loader must reproduce. A real one trains longer, or comes from an earlier
# run: freeze_policy(model, folder, settings, forecaster="runs/latest/policy").
settings = TrainConfig(
    market=market,
    prices=PricesConfig(stand_in_days=20),
    forecaster=VolatilityConfig(ensemble=1, epochs=1),
)
mevrl.freeze_policy(model, folder, settings)

policy = mevrl.load_policy(folder)
one = mevrl.Searcher(market, split="test", seed=1)
observation, _ = one.reset()
action = policy.decide(observation, one.action_masks())
print(f"{folder} runs in {policy.manifest.get('runtime', 'the kernel')}, decides {action}")

# What a server could not play is refused by name.
try:
    mevrl.freeze_policy(nn.Linear(3, 3), folder + "-wrong", settings)
except CannotServeError as error:
    print(f"refused: {error}")

if seconds:
    sys.exit(mevrl.serve(["--policy", folder, "--duration", str(seconds)]))
print(f"serve it on a local chain: mevrl serve --policy {folder} --duration 30")
