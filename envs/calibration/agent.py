"""What a searcher with one fixed bid earns per block of an era, beside what there is to earn."""

from typing import Any

import numpy as np

from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.market.action import BID_FRACTION, PASS, action_of

FRACTIONS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def _bid(fraction: float) -> int:
    """The action that bids nearest to `fraction` of net on the best opportunity, as a bundle."""
    return action_of(0, int(np.argmin(np.abs(BID_FRACTION - fraction))))


def _earned(env: MarketVectorEnv, action: int, slots: int) -> tuple[float, float]:
    """(profit, best response in hindsight), ETH per slot, of one fixed action."""
    env.reset()
    profit = best = 0.0
    for _ in range(slots):
        masks = env.action_masks()
        infos = env.step(np.where(masks[:, action], action, PASS))[4]
        profit += float(infos["profit"].mean())
        best += float(infos["best_response"].mean())
    return profit / slots, best / slots


def agent_per_block(
    config: MarketConfig, paths: PricePaths | None, lanes: int, slots: int, seed: int
) -> dict[str, Any]:
    """Profit per slot of the best fixed bid, chosen on validation and played on test markets.

    `best_response` is what the best bid of the grid would have earned after the fact: a bound.
    """
    scores = {}
    valid = MarketVectorEnv(lanes, config, paths, split="validation", seed=seed)
    for fraction in FRACTIONS:
        scores[fraction] = _earned(valid, _bid(fraction), slots)[0]
    chosen = max(scores, key=lambda fraction: scores[fraction])
    test = MarketVectorEnv(lanes, config, paths, split="test", seed=seed)
    profit, best = _earned(test, _bid(chosen), slots)
    return {"fraction": chosen, "profit_eth": profit, "best_response_eth": best}
