"""The arms of a comparison: the policy, today's fixed rules, and the best rules without learning.

Everything that is chosen is chosen on validation episodes of the scenario itself, an advantage over
the policy, which was trained in the default market.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.bidders.adaptive import AIMD_GRID, BUCKETS, EMA_GRID, by_value
from agents.bidders.baselines import (
    FRACTIONS,
    Bidder,
    Remembering,
    greedy,
    gross_rule,
    static,
)
from agents.bidders.beliefs import BayesFilter, best_response_grid
from agents.bidders.channels import (
    NO_PUBLIC,
    PUBLIC_FRACTIONS,
    OnBothChannels,
    builds_alone,
    public_by_value,
    public_static,
)
from agents.bidders.clearing_laws import ClearingLaws, estimate_laws
from agents.bidders.tuning import Grid, Tuned, tune_grid
from agents.measures.intervals import iqm
from agents.measures.tally import Tally, best_net_eth
from envs.market.config import MarketConfig
from envs.vector import MarketVectorEnv
from kernels.market.action import BIDS
from kernels.market.observation import VALUE_CENTRE, VALUE_SCALE

POLICY, STATIC, NO_OP = "policy", "best static", "no-op"
STATIC_BY_VALUE, EMA, AIMD = "best static by value", "EMA of clearing", "up on loss, down on win"
BEST_RESPONSE, BAYES = "best response to the last auctions", "Bayes filter, laws of training"
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


def with_public(bundles: Bidder, public: int) -> Bidder:
    """A rule for bundles that bids entry `public` of the public grid where no bundle is taken."""
    return OnBothChannels(bundles, public_static(public))


def public_setting(public: int) -> str:
    """What a table says of a public bid."""
    return "no public bid" if public == NO_PUBLIC else f"public {PUBLIC_FRACTIONS[public]:.0%}"


class Sweep(NamedTuple):
    """Validation results of always bidding each fraction of the grid, and each public one."""

    scores_eth: list[float]
    """IQM profit per episode of every fraction, in bundles alone."""
    public_scores_eth: list[float]
    """The same of every public fraction, and of none, beside the best of these."""
    by_value: Tuned
    """The best bundle and the best public bid of each value bucket."""

    @property
    def best(self) -> int:
        """Grid entry with the highest IQM profit."""
        return int(np.argmax(self.scores_eth))

    @property
    def public(self) -> int:
        """Entry of the public grid with the highest, NO_PUBLIC for none."""
        return int(np.argmax(self.public_scores_eth))

    @property
    def best_static(self) -> Tuned:
        """Always bidding both."""
        setting = f"{FRACTIONS[self.best]:.1%}, {public_setting(self.public)}"
        tried = BIDS + len(self.public_scores_eth)
        return Tuned(with_public(static(self.best), self.public), setting, tried)


class _Buckets:
    """What bids earned in each tenth of the values, on one channel."""

    def __init__(self, edges_eth: NDArray[np.float64], rows: int, alone: bool) -> None:
        self.edges_eth, self.alone = edges_eth, alone
        self.earned = np.zeros((rows, BUCKETS))

    def play(self, row: int, bidder: Bidder, env: MarketVectorEnv, seed: int) -> float:
        """IQM profit per episode of a bidder, whose profit by bucket is kept in `row`."""
        here = np.zeros(env.num_envs, np.bool_)

        def noted(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
            here[:] = builds_alone(observations) == self.alone
            return bidder(observations, masks)

        def watch(
            available: NDArray[np.float64], rewards: NDArray[np.float64], _: dict[str, Any]
        ) -> None:
            buckets = np.searchsorted(self.edges_eth, available[here])
            self.earned[row] += np.bincount(buckets, rewards[here], BUCKETS)

        return float(iqm(play(noted, env, seed, watch).profit_eth))


def sweep_static(env: MarketVectorEnv, seed: int = VALIDATION_SEED) -> Sweep:
    """Play every fraction of both grids, keeping what each earned in each tenth of the values.

    Slots that take bundles and slots that do not are different slots: the bundle is chosen first,
    the public bid beside it.
    """
    seen: list[NDArray[np.float64]] = []
    play(static(BIDS // 2), env, seed, lambda available, *_: seen.append(available[available > 0]))
    values = np.concatenate([np.ones(1), *seen])
    edges_eth = np.quantile(values, np.arange(1, BUCKETS) / BUCKETS)
    bundles = _Buckets(edges_eth, BIDS, alone=False)
    scores = [bundles.play(bid, static(bid), env, seed) for bid in range(BIDS)]
    best = static(int(np.argmax(scores)))
    public = _Buckets(edges_eth, NO_PUBLIC + 1, alone=True)
    public_scores = [
        public.play(entry, with_public(best, entry), env, seed) for entry in range(NO_PUBLIC + 1)
    ]
    bids, entries = bundles.earned.argmax(axis=0), public.earned.argmax(axis=0)
    edges = (np.log(edges_eth) - VALUE_CENTRE) / VALUE_SCALE
    setting = ", ".join(f"{FRACTIONS[bid]:.0%}" for bid in bids) + "; "
    setting += ", ".join(map(public_setting, entries)).replace(", public", ",")
    rule = OnBothChannels(by_value(edges, bids), public_by_value(edges, entries))
    tried = BUCKETS * (BIDS + len(public_scores))
    return Sweep(scores, public_scores, Tuned(rule, setting, tried))


# Fixed rules, made for a market.
FIXED: dict[str, Callable[[MarketConfig], Bidder]] = {
    "greedy 80 %": lambda _: greedy(0.8),
    "greedy 90 %": lambda _: greedy(0.9),
    "gross / 1.25": gross_rule,
    "true value (99 %)": lambda _: static(BIDS - 1),
}
# Rules with settings; those of the second kind know laws that were estimated on training episodes.
GRIDS: dict[str, Grid] = {EMA: EMA_GRID, AIMD: AIMD_GRID}
INFORMED = (BEST_RESPONSE, BAYES)
ADAPTIVE = (*GRIDS, *INFORMED)
SCRIPTED = (STATIC, STATIC_BY_VALUE, *ADAPTIVE, *FIXED, NO_OP)


def tuned_adaptive(
    arm: str, fallback: int, public: int, validation: MarketVectorEnv, training: MarketVectorEnv
) -> Tuned:
    """An arm of ADAPTIVE with the settings that earn most on `validation`.

    fallback: its grid bid before the first auction; public: entry of the public grid. `training`
    tells the laws of INFORMED.
    """
    if arm == BAYES:
        rule = BayesFilter(_laws(training))
        return Tuned(with_public(rule, public), public_setting(public), 1)

    def score(bidder: Bidder) -> float:
        played = play(with_public(bidder, public), validation, VALIDATION_SEED)
        return float(iqm(played.profit_eth))

    grid = best_response_grid(_laws(training)) if arm == BEST_RESPONSE else GRIDS[arm]
    found = tune_grid(score, grid, fallback)
    setting = f"{found.setting}; {public_setting(public)}"
    return Tuned(with_public(found.bidder, public), setting, found.tried)


def _laws(training: MarketVectorEnv) -> ClearingLaws:
    return estimate_laws(training, len(training.config.regimes.log_rate))
