"""A rule of your own in the comparison table, with settings that validation episodes choose from.

python examples/own_rule.py

In a training or an evaluation it is named by import path, from the folder that holds this file:

    python train.py --evaluation.rules '["own_rule:ShadeByGas"]'
    mevrl evaluate --policy runs/latest/policy --rules own_rule:ShadeByGas
"""

import numpy as np
from rich.console import Console

import mevrl
from agents.bidders.baselines import greedy
from agents.config import EvaluationConfig
from agents.evaluate.comparison import compare_all
from agents.evaluate.held_out import HeldOut
from agents.evaluate.verdicts import arm_table
from envs.market.paths import stand_in_paths

names = [field.name for field in mevrl.FIELDS]
GAS_SHARE = names.index("opportunity0_gas_share")
bids = np.array([action.bid_ppm / 1e6 for action in mevrl.ACTION_TABLE[1:33]])


class Shaded:
    """Bids less where gas eats more of the gross profit. Called once per decision."""

    def __init__(self, start: float, slope: float) -> None:
        self.start, self.slope = start, slope

    def __call__(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Actions int[n] for observations float32[n, fields] under masks bool[n, actions]."""
        wanted = self.start - self.slope * observations[:, GAS_SHARE]
        nearest = np.abs(bids - wanted[:, None]).argmin(axis=1)
        return np.where(masks[:, 1], 1 + nearest, 0)  # 1: the lowest bid on the best opportunity


def ShadeByGas(market: mevrl.MarketConfig) -> dict[str, Shaded]:  # noqa: N802  its arm's name
    """What the import path leads to: bidders by setting; a single bidder is not tuned."""
    return {f"slope {slope}": Shaded(0.9, slope) for slope in (0.0, 0.5)}


if __name__ == "__main__":
    market = mevrl.MarketConfig(episode_slots=64, ticks_per_slot=1)
    config = EvaluationConfig(
        seeds=1, episodes=32, resamples=200, scenarios=("default",), rules=("own_rule:ShadeByGas",)
    )
    # The arm "policy" is whatever bidder is compared with the others: here, 80 % always.
    (found,) = compare_all(greedy(0.8), HeldOut(market, stand_in_paths(20), config))
    arms = {arm: {"default": numbers} for arm, numbers in found.summary(config).items()}
    Console(width=80).print(arm_table("default", arms))
    print("chosen on validation:", found.settings["ShadeByGas"])
