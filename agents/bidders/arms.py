"""The arms of a comparison: the policy, today's fixed rules, and the best rules without learning.

Everything that is chosen is chosen on validation episodes of the scenario itself, an advantage over
the policy, which was trained in the default market.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.bidders.adaptive import (
    BUCKETS,
    Tuned,
    aimd_candidates,
    by_value,
    ema_candidates,
    tune,
)
from agents.bidders.baselines import (
    FRACTIONS,
    Bidder,
    Remembering,
    greedy,
    gross_rule,
    no_op,
    static,
)
from agents.measures.intervals import iqm
from agents.measures.tally import Tally, best_net_eth
from envs.market.config import MarketConfig
from envs.vector import MarketVectorEnv
from kernels.market.action import BIDS
from kernels.market.observation import VALUE_CENTRE, VALUE_SCALE

POLICY, STATIC, NO_OP = "policy", "best static", "no-op"
STATIC_BY_VALUE, EMA, AIMD = "best static by value", "EMA of clearing", "up on loss, down on win"
VALIDATION_SEED = 7001  # trials choose checkpoints on another one
Watch = Callable[[NDArray[np.float64], NDArray[np.float64], dict[str, Any]], None]


def play(bidder: Bidder, env: MarketVectorEnv, seed: int, watch: Watch | None = None) -> Tally:
    """One whole episode per market from `seed`.

    `watch` sees every slot: best net profit on offer [N], profit [N] (both ETH) and the infos.
    """
    observations, _ = env.reset(seed=seed)
    memory: object = bidder
    if isinstance(memory, Remembering):
        memory.restart()
    tally = Tally(env.num_envs)
    while True:
        masks = env.action_masks()
        tally.harm_eth = env.sandwich_harm()  # the last slot's is lost: it begins anew with it
        available = best_net_eth(observations, masks)
        actions = bidder(observations, masks)
        observations, _, _, ended, infos = env.step(actions)
        tally.add(available, infos["profit"], infos)
        if watch is not None:
            watch(available, infos["profit"], infos)
        if ended.all():
            return tally


class Sweep(NamedTuple):
    """Validation results of always bidding each fraction of the grid."""

    scores_eth: list[float]
    """IQM profit per episode of every fraction."""
    by_value: Tuned
    """The best fraction of each value bucket."""

    @property
    def best(self) -> int:
        """Grid entry with the highest IQM profit."""
        return int(np.argmax(self.scores_eth))

    @property
    def best_static(self) -> Tuned:
        """Always bidding it."""
        return Tuned(static(self.best), f"{FRACTIONS[self.best]:.1%}", BIDS)


def sweep_static(env: MarketVectorEnv, seed: int = VALIDATION_SEED) -> Sweep:
    """Play every fraction of the grid, keeping what each earned in each tenth of the values."""
    seen: list[NDArray[np.float64]] = []
    play(static(BIDS // 2), env, seed, lambda available, *_: seen.append(available[available > 0]))
    values = np.concatenate([np.ones(1), *seen])
    edges_eth = np.quantile(values, np.arange(1, BUCKETS) / BUCKETS)
    earned = np.zeros((BIDS, BUCKETS))
    scores = []
    for bid in range(BIDS):

        def watch(
            available: NDArray[np.float64],
            rewards: NDArray[np.float64],
            _: dict[str, Any],
            row: NDArray[np.float64] = earned[bid],
        ) -> None:
            row += np.bincount(np.searchsorted(edges_eth, available), rewards, BUCKETS)

        scores.append(float(iqm(play(static(bid), env, seed, watch).profit_eth)))
    bids = earned.argmax(axis=0)
    edges = (np.log(edges_eth) - VALUE_CENTRE) / VALUE_SCALE
    setting = ", ".join(f"{FRACTIONS[bid]:.0%}" for bid in bids)
    return Sweep(scores, Tuned(by_value(edges, bids), setting, BIDS * BUCKETS))


# Fixed rules, made for a market.
FIXED: dict[str, Callable[[MarketConfig], Bidder]] = {
    "greedy 80 %": lambda _: greedy(0.8),
    "greedy 90 %": lambda _: greedy(0.9),
    "gross / 1.25": gross_rule,
    "true value (99 %)": lambda _: static(BIDS - 1),
    NO_OP: lambda _: no_op,
}
# Rules with settings, by the grid bid that they make before the first auction.
ADAPTIVE: dict[str, Callable[[int], dict[str, Bidder]]] = {
    EMA: ema_candidates,
    AIMD: aimd_candidates,
}
SCRIPTED = (STATIC, STATIC_BY_VALUE, *ADAPTIVE, *FIXED)


def tuned_adaptive(arm: str, fallback: int, validation: MarketVectorEnv) -> Tuned:
    """An arm of ADAPTIVE with the settings that earn most on `validation`."""

    def score(bidder: Bidder) -> float:
        return float(iqm(play(bidder, validation, VALIDATION_SEED).profit_eth))

    return tune(score, ADAPTIVE[arm](fallback))
