"""Plays the bare auctions against what theory says of them: the rows of docs/validation.md.

python -m agents.studies.auction_validation [--figures FOLDER] prints the tables and draws the
figures.
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("agents.studies.auction_validation")  # before the heavy imports: they take seconds

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from envs.auctions.block_auction import BlockAuction, Builder, Played, play_block_auctions
from envs.auctions.equilibrium import (
    CommonValue,
    LogNormalLaw,
    PowerLaw,
    Rivals,
    StationaryRivals,
    ValueLaw,
    first_price_bid,
    win_probability,
)
from envs.auctions.game import AuctionGame, AuctionVectorEnv

Array = NDArray[np.float64]
LANES = 20_000
DEVIATIONS = np.linspace(0.0, 1.0, 501)  # bids tried, as shares of the value

FIRST_PRICE: dict[str, tuple[ValueLaw, Rivals]] = {
    "U[0,1], 2 bidders": (PowerLaw(), Rivals(1)),
    "U[0,1], 3 bidders": (PowerLaw(), Rivals(2)),
    "U[0,1], 5 bidders": (PowerLaw(), Rivals(4)),
    "U[0,1], 10 bidders": (PowerLaw(), Rivals(9)),
    "F = v^2, 3 bidders": (PowerLaw(2.0), Rivals(2)),
    "F = v^0.5, 5 bidders": (PowerLaw(0.5), Rivals(4)),
    "LN(0,1), 2 bidders": (LogNormalLaw(), Rivals(1)),
    "LN(0,1), 3 bidders": (LogNormalLaw(), Rivals(2)),
    "LN(0,1), 10 bidders": (LogNormalLaw(), Rivals(9)),
    "U[0,1], Poisson(0.5) rivals": (PowerLaw(), Rivals(rate=0.5)),
    "U[0,1], Poisson(2) rivals": (PowerLaw(), Rivals(rate=2.0)),
    "U[0,1], Poisson(5) rivals": (PowerLaw(), Rivals(rate=5.0)),
}
STATIONARY = (
    StationaryRivals(2, 0.8, 8, 2),
    StationaryRivals(3, 0.8, 18, 2),
    StationaryRivals(5, 0.6, 18, 2),
    StationaryRivals(1, 0.5, 8, 2),
)
# Access 0.80, 0.82, ..., 0.98: share of 10,000 auctions won, as published with 2312.14510.
PUBLISHED_WIN_SHARE = np.array(
    [0.0023, 0.0027, 0.0075, 0.0101, 0.0206, 0.0364, 0.0685, 0.1258, 0.2319, 0.4942]
)
PUBLISHED_EFFICIENCY = 0.9395
PUBLISHED_PROFIT_ETH = 0.00656


def highest_rival_bids(game: AuctionGame, auctions: int, seed: int = 0) -> Array:
    """Sorted highest scripted bids of the compiled game, -1 where nobody bids."""
    env = AuctionVectorEnv(LANES, game, rounds=1 + auctions // LANES, split="test", seed=seed)
    env.reset(seed=seed)
    stay_out = np.zeros(LANES)
    rounds = range(auctions // LANES)
    return np.sort(np.concatenate([env.step_fractions(stay_out)[4]["top_other"] for _ in rounds]))


@dataclass(frozen=True)
class Deviation:
    """What bidding otherwise gains against equilibrium rivals as they are played."""

    gain: float
    """Mean profit of the best deviation at every value, over the equilibrium's, less 1."""
    worst: float
    """The largest such gain at one value among those that win more than 10 %."""


def best_deviation(law: ValueLaw, rivals: Rivals, auctions: int = 2_000_000) -> Deviation:
    """Try DEVIATIONS at 49 values against the scripted rivals of the environment."""
    top = highest_rival_bids(AuctionGame(law, rivals=rivals), auctions)
    values = law.quantile(np.linspace(0.02, 0.98, 49))
    bids = values[:, None] * DEVIATIONS
    win = np.searchsorted(top, bids.ravel()).reshape(bids.shape) / top.size
    best = ((values[:, None] - bids) * win).max(axis=1)
    equilibrium = first_price_bid(law, rivals, values)
    own = (values - equilibrium) * np.searchsorted(top, equilibrium) / top.size
    often = win_probability(law, rivals, values) > 0.1
    return Deviation(
        gain=float(best.sum() / own.sum() - 1.0),
        worst=float((best[often] / own[often]).max() - 1.0),
    )


def equilibrium_revenue(bidders: int, auctions: int = 1_000_000) -> tuple[float, float]:
    """(mean, standard error) of the highest bid when U[0, 1] bidders all play the equilibrium."""
    env = AuctionVectorEnv(LANES * bidders, AuctionGame(PowerLaw(), learners=bidders), split="test")
    env.reset(seed=1)
    share = np.full(env.num_envs, (bidders - 1) / bidders)
    revenue = np.concatenate(
        [
            env.step_fractions(share)[4]["bid"].reshape(-1, bidders).max(axis=1)
            for _ in range(auctions // LANES)
        ]
    )
    return float(revenue.mean()), float(revenue.std() / np.sqrt(revenue.size))


@dataclass(frozen=True)
class Unprotected:
    """The common-value auction without revert protection, played by its mixed equilibrium."""

    abstain: float
    sold: float
    revenue: float
    failures: float
    profit: float
    """Of one bidder per auction."""
    payoff_error: float
    """Largest mean payoff of any bid against equilibrium rivals, which should be 0."""


def play_unprotected(game: CommonValue, auctions: int = 1_000_000) -> Unprotected:
    """All players mix; then every bid of a grid is tried against one sample of rivals."""
    n = game.players
    env = AuctionVectorEnv(LANES * n, AuctionGame(game, learners=n), split="test")
    env.reset(seed=2)
    rng = np.random.default_rng(0)
    totals = np.zeros(5)
    for _ in range(auctions // LANES):
        u = rng.random(env.num_envs)
        bids = np.maximum(game.bid(np.maximum(u, game.abstain) ** (n - 1)), 0.0)
        shares = np.where(u < game.abstain, -1.0, bids / game.top)
        _, rewards, _, _, infos = env.step_fractions(shares)
        made, won = infos["bid"] >= 0.0, infos["won"] > 0.0
        paid = infos["bid"][won].sum() + game.loser_share * infos["bid"][made & ~won].sum()
        totals += [(~made).mean(), won.sum(), paid, (made & ~won).sum(), rewards.sum()]
    played = auctions // LANES
    abstain, sold, revenue, failures, profit = totals / played / np.array([1, *[LANES] * 4])
    top = highest_rival_bids(AuctionGame(game), auctions)
    grid = game.top * np.linspace(0.0, 0.999, 200)
    win = np.searchsorted(top, grid) / top.size
    lost = game.loser_share * grid + game.failed_gas
    payoff = win * (game.top - grid) - (1.0 - win) * lost
    return Unprotected(
        float(abstain), float(sold), float(revenue), float(failures), float(profit) / n,
        float(np.abs(payoff).max()),
    )  # fmt: skip


def static_curve(rivals: StationaryRivals, fractions: Array, auctions: int = 2_000_000) -> Array:
    """Mean share of the value kept by each constant bid against the rivals as played."""
    top = highest_rival_bids(AuctionGame(rivals), auctions)
    return (1.0 - fractions) * np.searchsorted(top, fractions) / top.size


def access_auctions(auctions: int = 10_000) -> Played:
    """Ten naive builders who see 80 %, 82 %, ..., 98 % of the private order flow (O11)."""
    builders = tuple(Builder("naive", 0.80 + 0.02 * index, 1) for index in range(10))
    return play_block_auctions(BlockAuction(builders, network_delay_steps=1), auctions, "test")


PROFILE_DELAYS = (1, 2, 3, 4)


def profile(strategy: str) -> BlockAuction:
    """Four naive, four adaptive and four builders of a third strategy with equal access."""
    kinds = ("naive", "adaptive", strategy)
    builders = (Builder(kind, 0.9, delay) for kind in kinds for delay in PROFILE_DELAYS)
    return BlockAuction(tuple(builders))


@dataclass(frozen=True)
class ProfileResult:
    """Outcome of `profile` by strategy: naive, adaptive, the third."""

    wins: Array
    profit: Array
    """Median per auction won, ETH: one late large transaction would move a mean."""
    loss_share: float
    """Auctions that the third strategy wins at a loss, of all auctions."""
    efficiency: float


def play_profile(
    strategy: str, delay: int, safety: int = 0, end_sd: float = 0.0, auctions: int = 2000
) -> ProfileResult:
    """Play `profile` with a network delay, a safety margin and a random end, all in steps."""
    model = replace(
        profile(strategy), network_delay_steps=delay, safety_steps=safety, end_sd_steps=end_sd
    )
    played = play_block_auctions(model, auctions, "test")
    group = played.winner // len(PROFILE_DELAYS)
    wins = np.array([(group == kind).mean() for kind in range(3)])
    profit = np.array([np.median(played.profit[group == kind]) for kind in range(3)])
    losses = float(((group == 2) & (played.profit < 0.0)).mean())
    return ProfileResult(wins, profit, losses, float(np.median(played.efficiency)))


def _axes(figure: Figure, place: tuple[int, int, int], x: str, y: str) -> object:
    axes = figure.add_subplot(*place)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def bids_figure() -> Figure:
    """Equilibrium bids of O5 and O6, and what deviating earns at three values."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left = _axes(figure, (1, 2, 1), "quantile of the value", "equilibrium bid / value")
    u = np.linspace(0.01, 0.99, 99)
    for name in ("U[0,1], 3 bidders", "LN(0,1), 3 bidders", "LN(0,1), 10 bidders",
                 "U[0,1], Poisson(2) rivals"):  # fmt: skip
        law, rivals = FIRST_PRICE[name]
        values = law.quantile(u)
        left.plot(u, first_price_bid(law, rivals, values) / values, label=name)  # type: ignore[attr-defined]
    left.legend(frameon=False)  # type: ignore[attr-defined]
    right = _axes(figure, (1, 2, 2), "bid / value", "mean profit, LN(0,1), 3 bidders")
    law, rivals = FIRST_PRICE["LN(0,1), 3 bidders"]
    top = highest_rival_bids(AuctionGame(law, rivals=rivals), 1_000_000)
    for value in (0.7, 1.5, 3.0):
        bids = value * DEVIATIONS
        (line,) = right.plot(  # type: ignore[attr-defined]
            DEVIATIONS, (value - bids) * np.searchsorted(top, bids) / top.size, label=f"v = {value}"
        )
        best = float(first_price_bid(law, rivals, value)) / value
        right.axvline(best, color=line.get_color(), linestyle=":")  # type: ignore[attr-defined]
    right.set_title("dotted: the equilibrium bid", fontsize=9)  # type: ignore[attr-defined]
    right.legend(frameon=False)  # type: ignore[attr-defined]
    return figure


def payoffs_figure() -> Figure:
    """Payoffs by bid: flat at 0 without revert protection (O7), two maxima in O8."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left = _axes(figure, (1, 2, 1), "bid / (value - gas)", "mean payoff against the equilibrium")
    shares = np.linspace(0.0, 0.999, 200)
    for players in (2, 5):
        game = CommonValue(players)
        top = highest_rival_bids(AuctionGame(game), 1_000_000)
        win = np.searchsorted(top, game.top * shares) / top.size
        payoff = win * game.top * (1.0 - shares) - (1.0 - win) * game.failed_gas
        left.plot(shares, payoff, label=f"{players} bidders")  # type: ignore[attr-defined]
    left.set_ylim(-2e-3, 2e-3)  # type: ignore[attr-defined]
    left.legend(frameon=False)  # type: ignore[attr-defined]
    right = _axes(figure, (1, 2, 2), "constant bid / value", "share of the value kept")
    fractions = np.linspace(0.0, 1.0, 201)
    for rivals in STATIONARY[:3]:
        name = f"{rivals.count} rivals join with {rivals.join}, Beta({rivals.a:g}, {rivals.b:g})"
        right.plot(fractions, static_curve(rivals, fractions), label=name)  # type: ignore[attr-defined]
        best, kept = rivals.best()
        right.plot([best], [kept], "ko", markersize=4)  # type: ignore[attr-defined]
    right.legend(frameon=False, fontsize=8)  # type: ignore[attr-defined]
    return figure


def builders_figure() -> Figure:
    """O11: win share by order-flow access, and what network delay does to three profiles."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left = _axes(figure, (1, 2, 1), "share of private order flow seen", "share of auctions won")
    access = 0.80 + 0.02 * np.arange(10)
    left.bar(access - 0.004, PUBLISHED_WIN_SHARE, 0.008, label="published", color="#8c8c8c")  # type: ignore[attr-defined]
    left.bar(access + 0.004, access_auctions().win_share(10), 0.008, label="mevrl")  # type: ignore[attr-defined]
    left.legend(frameon=False)  # type: ignore[attr-defined]
    right = _axes(figure, (1, 2, 2), "network delay (10 ms steps)", "median bid / total signal")
    delays = (1, 5, 10, 20)
    for strategy in ("last_minute", "stealth", "bluff"):
        efficiency = [play_profile(strategy, delay).efficiency for delay in delays]
        right.plot(delays, efficiency, "o-", label=strategy.replace("_", "-"))  # type: ignore[attr-defined]
    right.legend(frameon=False)  # type: ignore[attr-defined]
    return figure


FIGURES = {
    "validation_bids.png": bids_figure,
    "validation_payoffs.png": payoffs_figure,
    "validation_builders.png": builders_figure,
}


def tables() -> str:
    """The measured rows as Markdown."""
    lines = ["| O5, O6 | gain of deviating | worst value |", "|---|---|---|"]
    for name, (law, rivals) in FIRST_PRICE.items():
        found = best_deviation(law, rivals)
        lines.append(f"| {name} | {found.gain:.3%} | {found.worst:.3%} |")
    lines += ["", "| revenue, U[0,1] bidders | theory | played |", "|---|---|---|"]
    for bidders in (2, 3, 5, 10):
        mean, error = equilibrium_revenue(bidders)
        lines.append(
            f"| {bidders} | {(bidders - 1) / (bidders + 1):.5f} | {mean:.5f} +- {error:.5f} |"
        )
    lines += ["", "| O7 | abstains | sold | revenue | failed | profit | payoff |", "|---" * 7 + "|"]
    for players in (2, 5):
        game, found = CommonValue(players), play_unprotected(CommonValue(players))
        lines.append(
            f"| N = {players} | {found.abstain:.4f} ({game.abstain:.4f}) | {found.sold:.4f} "
            f"({game.sold:.4f}) | {found.revenue:.4f} ({game.revenue:.4f}) | {found.failures:.4f} "
            f"({game.failures:.4f}) | {found.profit:.5f} | {found.payoff_error:.5f} |"
        )
    lines += ["", "| O8 | f*, kept | played: f, kept |", "|---|---|---|"]
    grid = np.linspace(0.0, 0.999, 1000)
    for rivals in STATIONARY:
        curve = static_curve(rivals, grid)
        best, kept = rivals.best()
        played = grid[curve.argmax()], curve.max()
        lines.append(f"| {rivals} | {best:.4f}, {kept:.4f} | {played[0]:.3f}, {played[1]:.4f} |")
    found = access_auctions()
    lines += ["", "O11 win shares: " + " ".join(f"{x:.4f}" for x in found.win_share(10))]
    lines.append(
        f"median efficiency {np.median(found.efficiency):.4f}, profit per win "
        f"{found.profit.mean():.5f} ETH, mean signal {found.total.mean():.4f} ETH"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = ArgumentParser(prog="python -m agents.studies.auction_validation", description=__doc__)
    parser.add_argument("--figures", default="", help="folder to write the figures to")
    given = parser.parse_args(arguments)
    print(tables())
    if given.figures:
        for name, draw in FIGURES.items():
            draw().savefig(Path(given.figures) / name, dpi=110)
    return 0


if __name__ == "__main__":
    ended("agents.studies.auction_validation", main)
