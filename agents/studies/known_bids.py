"""Bids that theory knows, asked of the bare auctions as they are played and of the learner in them.

The bounds are those that tests/theory holds; docs/validation.md and docs/learning.md say why.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from agents.config import BARE_AUCTIONS
from agents.findings import Finding, near
from agents.studies.auction_learning import (
    AveragePolicy,
    decode,
    first_price_score,
    learn,
    probabilities,
)
from agents.studies.auction_validation import (
    FIRST_PRICE,
    PUBLISHED_EFFICIENCY,
    PUBLISHED_PROFIT_ETH,
    PUBLISHED_WIN_SHARE,
    STATIONARY,
    access_auctions,
    best_deviation,
    equilibrium_revenue,
    play_unprotected,
    static_curve,
)
from envs.auctions.equilibrium import CommonValue, LogNormalLaw, PowerLaw, Rivals, StationaryRivals
from envs.auctions.exploitability import (
    common_value_exploitability,
    first_price_exploitability,
    payoffs_against_mixing_rivals,
)
from envs.auctions.game import AuctionGame, AuctionVectorEnv, log_gap_fractions

QUANTILES = (np.arange(4000) + 0.5) / 4000
QUICK = replace(BARE_AUCTIONS, rollout_slots=8, minibatch=2048)
UNPROTECTED = 1.0 - np.geomspace(1.0, 0.001, 64)  # of V - g


def _deviations(name: str) -> list[Finding]:
    """O5, O6: no deviation from the equilibrium gains half a percent."""
    found = best_deviation(*FIRST_PRICE[name])
    return [
        Finding("gain of the best deviation", found.gain, 0.0, 0.005),
        Finding("gain at the worst value", found.worst, None, 0.005),
    ]


def _revenue(bidders: int) -> list[Finding]:
    """O5: (n - 1) / (n + 1), the mean of the second highest value."""
    mean, error = equilibrium_revenue(bidders)
    return [near("revenue", mean, (bidders - 1) / (bidders + 1), 4.0 * error)]


def _mixing(players: int) -> list[Finding]:
    """O7: without revert protection bidders mix and earn nothing."""
    game, found = CommonValue(players), play_unprotected(CommonValue(players))
    return [
        near("abstains", found.abstain, game.abstain, 2e-3),
        near("sold", found.sold, game.sold, 5e-4),
        near("revenue", found.revenue, game.revenue, 1e-3),
        near("failures", found.failures, game.failures, 5e-3),
        near("profit of a bidder", found.profit, 0.0, 2e-4),
        # two standard errors of the sample at the worst bid
        Finding("largest payoff of a bid", found.payoff_error, None, 1e-3),
    ]


def _static(rivals: StationaryRivals) -> list[Finding]:
    """O8: within 1 % of the closed form everywhere, the best bid within 0.005."""
    grid = np.linspace(0.0, 0.99, 991)
    played, exact = static_curve(rivals, grid), rivals.capture(grid)
    best, kept = rivals.best()
    off = float(np.abs(played - exact).max())
    return [
        Finding("largest error of the share kept", off, None, 0.01 * kept),
        near("best bid", grid[played.argmax()], best, 0.005),
        near("share that it keeps", played.max(), kept, 0.01 * kept),
    ]


def _access() -> list[Finding]:
    """O11: order-flow access decides who wins; arrival rates were fitted, the order was not."""
    played = access_auctions()
    share = played.win_share(10)
    profit, close = PUBLISHED_PROFIT_ETH, float(np.abs(share - PUBLISHED_WIN_SHARE).sum())
    return [
        Finding("least growth of the win share by access", float(np.diff(share).min()), 1e-9),
        Finding("distance from the published win shares", close, None, 0.08),
        near("median efficiency", np.median(played.efficiency), PUBLISHED_EFFICIENCY, 0.01),
        near("profit per win, ETH", played.profit.mean(), profit, 0.06 * profit),
        Finding("mean signal, ETH", float(played.total.mean()), 0.1, 0.16),
    ]


def _uniform() -> list[Finding]:
    """64 linear bins (one is 2/3), argmax; the error counts where winning has more than 1 %."""
    law, rivals = PowerLaw(), Rivals(2)
    game = AuctionGame(law, rivals=rivals)
    trainer = learn(game, 1_000_000, replace(BARE_AUCTIONS, entropy=0.002), 0.2)
    seen = AuctionVectorEnv(1, game).observe(QUANTILES)
    bids = decode(probabilities(trainer, seen), np.array(game.fractions))
    score = first_price_score(law, rivals, QUANTILES, bids)
    return [
        Finding("share of the equilibrium's profit", score.share, 0.99),
        Finding("largest error of a bid", score.error, None, 0.02),
    ]


def _lognormal() -> list[Finding]:
    """Flat sampling of ln v, reward as a share of the value."""
    law, rivals = LogNormalLaw(), Rivals(2)
    game = AuctionGame(law, rivals=rivals, flat_z=(-3.0, 4.0))
    trainer = learn(game, 2_000_000, replace(BARE_AUCTIONS, entropy=0.002), 0.2, reward="share")
    # Equal weights of quantiles miss the tail that holds the profit: draw finely there.
    quantiles = (np.arange(200_000) + 0.5) / 200_000
    chances = probabilities(trainer, AuctionVectorEnv(1, game).observe(law.quantile(quantiles)))
    mean, argmax = (
        first_price_score(law, rivals, quantiles, decode(chances, np.array(game.fractions), how))
        for how in ("mean", "argmax")
    )
    return [
        Finding("share of the equilibrium's profit, mean decode", mean.share, 0.99),
        Finding("the same by argmax", argmax.share),
        Finding("largest error of a bid over the value, mean decode", mean.relative_error),
    ]


def _stationary(rivals: StationaryRivals) -> list[Finding]:
    """O8, 64 log-gap bins, argmax, 400,000 decisions."""
    game = AuctionGame(rivals, fractions=log_gap_fractions())
    trainer = learn(game, 400_000, QUICK, 0.1)
    seen = AuctionVectorEnv(1, game).observe(np.ones(1))
    bid = decode(probabilities(trainer, seen), np.array(game.fractions))
    share = float(rivals.capture(bid)[0]) / rivals.best()[1]
    return [Finding("share of the best constant bid's profit", share, 0.99)]


def _unprotected(players: int) -> list[Finding]:
    """O7 against rivals who never abstain: the best reply is to stay out."""
    prize = CommonValue(players)
    game = AuctionGame(prize, rival_abstain=0.0, fractions=tuple(UNPROTECTED.tolist()))
    trainer = learn(game, 400_000, QUICK, 0.1)
    chances = probabilities(trainer, AuctionVectorEnv(1, game).observe(np.ones(1)))[0]
    payoffs = payoffs_against_mixing_rivals(prize, 0.0, prize.top * UNPROTECTED)
    regret = float(payoffs.max() - chances @ payoffs)
    return [Finding("regret over V", regret, None, 0.001), Finding("abstains", float(chances[0]))]


def _timid(players: int, abstain: float) -> list[Finding]:
    """O7 against rivals who stay out too often."""
    prize = CommonValue(players)
    game = AuctionGame(prize, rival_abstain=abstain, fractions=tuple(UNPROTECTED.tolist()))
    trainer = learn(game, 400_000, QUICK, 0.3)
    chances = probabilities(trainer, AuctionVectorEnv(1, game).observe(np.ones(1)))[0]
    payoffs = payoffs_against_mixing_rivals(prize, abstain, prize.top * UNPROTECTED)
    best = payoffs.max()
    return [
        Finding("share of the best reply, stochastic", float(chances @ payoffs / best), 0.85),
        Finding("share of the best reply, argmax", float(payoffs[chances.argmax()] / best), 0.95),
    ]


def _unprotected_self_play() -> list[Finding]:
    """O7, five bidders. Two are left out: their self-play chases itself up to V - g."""
    prize = CommonValue(5)
    game = AuctionGame(prize, learners=5, fractions=tuple(UNPROTECTED.tolist()))
    seen = AuctionVectorEnv(5, game).observe(np.ones(1))[0]
    watch = AveragePolicy(seen)
    config = replace(BARE_AUCTIONS, num_envs=1020, rollout_slots=16, minibatch=4080)
    trainer = learn(game, 1_000_000, config, 0.3, callback=watch)
    bids = prize.top * UNPROTECTED
    average = common_value_exploitability(prize, watch.average(), bids)
    last = common_value_exploitability(prize, probabilities(trainer, seen[None])[0], bids)
    return [
        Finding("exploitable by, time average, over V", average.exploitability, None, 0.02),
        Finding("the same, last policy", last.exploitability),
        Finding("abstains, time average", float(watch.average()[0])),
    ]


def _self_play(bidders: int, lanes: int) -> list[Finding]:
    """U[0, 1], one shared policy; exploitability over the best reply's profit."""
    game = AuctionGame(PowerLaw(), learners=bidders)
    config = replace(BARE_AUCTIONS, num_envs=lanes, rollout_slots=32, minibatch=lanes * 4)
    trainer = learn(game, 1_500_000, config, 0.2)
    values = (np.arange(500) + 0.5) / 500
    chances = probabilities(trainer, AuctionVectorEnv(bidders, game).observe(values))
    fractions, weights = np.array(game.fractions), np.full(500, 1 / 500)
    stochastic = first_price_exploitability(chances, values, weights, fractions, bidders - 1)
    greedy = np.eye(fractions.size)[chances.argmax(axis=1)]
    argmax = first_price_exploitability(greedy, values, weights, fractions, bidders - 1)
    bids = decode(chances, fractions) * values
    winning = values ** (bidders - 1) > 0.01
    error = float(np.abs(bids - values * (bidders - 1) / bidders)[winning].max())
    return [
        Finding("exploitable by, stochastic", stochastic.relative, None, 0.02),
        Finding("exploitable by, argmax", argmax.relative),
        Finding("largest error of a bid", error, None, 0.035),
    ]


def _of_stationary(rivals: StationaryRivals) -> str:
    return f"{rivals.count} stationary rivals"


Check = Callable[[], list[Finding]]
PLAYED: dict[str, Check] = {
    **{f"played: {name}": partial(_deviations, name) for name in FIRST_PRICE},
    **{f"played: revenue of {n} bidders": partial(_revenue, n) for n in (2, 3, 5, 10)},
    **{f"played: unprotected, {n} bidders": partial(_mixing, n) for n in (2, 5)},
    **{f"played: {_of_stationary(rivals)}": partial(_static, rivals) for rivals in STATIONARY},
    "played: builders by access": _access,
}
LEARNED: dict[str, Check] = {
    "learned: U[0,1], 3 bidders": _uniform,
    "learned: LN(0,1), 3 bidders": _lognormal,
    **{f"learned: {_of_stationary(rivals)}": partial(_stationary, rivals) for rivals in STATIONARY},
    **{f"learned: unprotected, {n} bidders": partial(_unprotected, n) for n in (2, 5)},
    "learned: unprotected, 2 bidders, timid rivals": partial(_timid, 2, 0.22),
    "learned: unprotected, 5 bidders, timid rivals": partial(_timid, 5, 0.83),
    "learned: unprotected, 5 bidders, self-play": _unprotected_self_play,
    "learned: U[0,1], 3 bidders, self-play": partial(_self_play, 3, 1023),
    "learned: U[0,1], 5 bidders, self-play": partial(_self_play, 5, 1020),
}
CHECKS = PLAYED | LEARNED


def check(name: str) -> list[Finding]:
    """The findings of one of CHECKS, seed 0."""
    return CHECKS[name]()
