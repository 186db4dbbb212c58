"""Informed traders on the market's own pools and paths against what theory says they earn: the rows
of O2 to O4 in docs/validation.md.

python -m envs.arbitrage_validation [--figures FOLDER] [--paths N] prints the tables and draws.
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("envs.arbitrage_validation")  # before the heavy imports: they take seconds

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtr

from envs.market.config import Blocks, Gas, Informed, Loans, MarketConfig, Pools, Users
from envs.market.paths import SLOTS_PER_MINUTE, PricePaths
from envs.market.physics import INFORMED_BOOK, MINUTE, PRICE, book_row
from envs.vector import MarketVectorEnv
from kernels.market.tile import LANES, RESERVES

FEE = -float(np.log(0.997))  # g, the log half-width of the band without arbitrage
POOLS = 2  # the fewest that make a cycle, without which there is no graph
POISSON_CHANCE = 0.04  # that an informed trader comes in a slot, in O3
NEZLOBIN_TASSY = 1.7164519  # c = sqrt(2 pi) / |zeta(1/2)|
DEVIATIONS = (0.002, 0.01, 0.05)  # of the log price between two blocks, in O2
RATIOS = (0.5, 1.0, 2.0, 5.0)  # g / s in O3 and O4
FIRST_PATH = 3  # seed of the first price path
GROUPS = 32  # parts of the price path, for standard errors
NODES = 160  # of the quadrature on the band


@dataclass(frozen=True)
class Arbitrage:
    """What informed traders earned, in units of the pools' value, and how often they traded.

    Standard errors are those of GROUPS parts of the path: lanes in one part share their prices.
    """

    profit: float  # per slot and pool value
    profit_error: float
    trades: float  # per slot and pool
    trades_error: float


@dataclass(frozen=True)
class Prediction:
    """What a formula, or the quadrature, says: per arrival of an informed trader."""

    profit: float  # over pool value
    trades: float  # probability


def lvr(deviation: float) -> float:
    """Profit / V per block without a fee: 1 - exp(-s^2 / 8) (Milionis et al. 2022)."""
    return -float(np.expm1(-(deviation**2) / 8.0))


def poisson_blocks(ratio: float) -> Prediction:
    """Fee g and exponential waiting times (Milionis, Moallemi, Roughgarden 2023); ratio is g / s.

    P = 1 / (1 + sqrt 2 g / s), profit / V = s^2/8 P cosh(g/2) / (1 - s^2/8).
    """
    variance, trades = (FEE / ratio) ** 2, 1.0 / (1.0 + np.sqrt(2.0) * ratio)
    profit = variance / 8.0 * trades * np.cosh(FEE / 2.0) / (1.0 - variance / 8.0)
    return Prediction(float(profit), float(trades))


def fixed_blocks(ratio: float) -> float:
    """Profit / V with a block after every step (Nezlobin and Tassy 2025); ratio is g / s.

    (s^2 / 4) / (2 + c w / s) with w = 2 g, the whole band.
    """
    return (FEE / ratio) ** 2 / 4.0 / (2.0 + NEZLOBIN_TASSY * 2.0 * ratio)


def quadrature(ratio: float, chance: float = 1.0) -> Prediction:
    """The stationary mispricing of a band, solved by quadrature to leading order in g and s.

    An informed trader comes with `chance` per slot and pulls the mispricing back to the edge of
    [-g, g]; s = g / ratio is the deviation between arrivals. The mispricing after an arrival has a
    density inside and an atom at either edge, whose mass is the chance of a trade; an overshoot d
    earns d^2 / 8. With chance 1 this is O4, with a small one almost O3: waiting times are
    geometric there, not exponential.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    nodes, weights = ratio * nodes, ratio * weights  # in units of s
    counts = range(1, 2 if chance == 1.0 else int(25.0 / chance))  # slots until an arrival
    jumps = [(chance * (1.0 - chance) ** (n - 1), float(np.sqrt(chance * n))) for n in counts]

    def density(x: np.ndarray) -> np.ndarray:
        return sum(
            (share / width * np.exp(-0.5 * (x / width) ** 2) for share, width in jumps),
            np.zeros(x.shape),
        ) / np.sqrt(2.0 * np.pi)

    def beyond(x: np.ndarray) -> np.ndarray:
        return sum((share * ndtr(-x / width) for share, width in jumps), np.zeros(x.shape))

    def squared(x: np.ndarray) -> np.ndarray:
        """Mean of (jump - x)^2 where the jump is larger than x."""
        total = np.zeros(x.shape)
        for share, width in jumps:
            z = x / width
            peak = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
            total += share * width**2 * ((1.0 + z * z) * ndtr(-z) - z * peak)
        return total

    # Unknowns: the density at the nodes and the mass of one edge; the edges are alike.
    system = np.zeros((NODES + 1, NODES + 1))
    system[:NODES, :NODES] = density(nodes[:, None] - nodes) * weights
    system[:NODES, NODES] = density(nodes - ratio) + density(nodes + ratio)
    system[NODES, :NODES] = beyond(ratio - nodes) * weights
    system[NODES, NODES] = beyond(np.array([0.0, 2.0 * ratio])).sum()
    system -= np.eye(NODES + 1)
    system[0] = [*weights, 2.0]  # one balance follows from the others: all mass is 1
    solved = np.linalg.solve(system, np.eye(NODES + 1)[0])
    inside, edge = solved[:NODES], solved[NODES]
    overshoot = (squared(ratio - nodes) * weights) @ inside
    overshoot += edge * squared(np.array([0.0, 2.0 * ratio])).sum()
    return Prediction(float(2.0 * overshoot * (FEE / ratio) ** 2 / 8.0), float(2.0 * edge))


def _paths(slot_deviation: float, seed: int) -> PricePaths:
    """A dollar that is a martingale in ETH, with the same deviation in every slot."""
    minutes = int(min(1_000_000, 100.0 / slot_deviation**2))  # the price must stay a float
    rng = np.random.default_rng(seed)
    per_minute = SLOTS_PER_MINUTE * slot_deviation**2
    # The dollar costs 1 / (ETH/USD): its drift is 0 when ln ETH/USD drifts by half the variance.
    steps = rng.normal(0.5 * per_minute, np.sqrt(per_minute), minutes)
    log_price = np.zeros((minutes, 2))
    log_price[:, 0] = np.cumsum(steps) + np.log(2000.0)
    return PricePaths(
        log_price=log_price,
        slot_sigma=np.full((minutes, 2), slot_deviation),
        forecast=np.full((minutes, 3), -12.0),
        segment=np.zeros(minutes, np.int64),
        source="driftless Brownian dollar",
    )


def _config(episode_slots: int, fee_numerator: int, watched: float) -> MarketConfig:
    """Nobody but informed traders, on constant products of WETH and one dollar; gas is free."""
    return MarketConfig(
        era="rich",
        episode_slots=episode_slots,
        ticks_per_slot=1,
        decision_lead_s=0.0,
        pools=Pools(
            symbols=("WETH", "DAI"),
            decimals=(18, 18),
            eth_exposure=(0.0, -1.0),
            btc_exposure=(0.0, 0.0),
            token0=(0,) * POOLS,
            token1=(1,) * POOLS,
            concentrated=0,
            fee_numerator=fee_numerator,
            depth_eth=(2000.0,) * POOLS,
            provider_rate=0.0,
        ),
        users=Users(rate=1e-12, swap_gas=1),
        informed=Informed(probability=watched, payment_bps=(0.0,) * 5),
        loans=Loans(pools=()),
        gas=Gas(
            per_arbitrage=10**15,  # no cycle ever pays: only the reference price is arbitraged
            own_tip_gwei=0.0,
            base_fee_median_gwei=1e-3,
        ),
        blocks=Blocks(missed_share=0.0),
    )


def _grouped(values: np.ndarray, start: np.ndarray) -> tuple[float, float]:
    """Mean of values[lanes], and its standard error from GROUPS parts of the path."""
    parts = np.array_split(values[np.argsort(start)], GROUPS)
    means = np.array([part.mean() for part in parts])
    return float(values.mean()), float(means.std(ddof=1) / np.sqrt(GROUPS))


def watch(
    slot_deviation: float,
    fee_numerator: int,
    watched: float = 1.0,
    lanes: int = 2048,
    seed: int = FIRST_PATH,
) -> Arbitrage:
    """Play `lanes` markets in which informed traders come with chance `watched` per slot."""
    slots = 1500 if watched < 1.0 else 360
    # The mispricing of the start is forgotten after it has crossed the band a few times.
    ratio = -np.log(fee_numerator / 1000) / (slot_deviation / np.sqrt(watched))
    settling = int((40 + 8 * ratio**2) / watched)
    config = _config(slots + settling + 1, fee_numerator, watched)
    env = MarketVectorEnv(lanes, config, _paths(slot_deviation, seed), seed=1)
    env.reset(seed=1)
    start = env._tiles[:, env._physics.world_row + MINUTE].reshape(-1).copy()
    price = slice(env._physics.world_row + PRICE, env._physics.world_row + PRICE + 2)
    first = book_row(env._physics.world_row, 2, INFORMED_BOOK)
    informed = slice(first, first + 2)
    passing = np.zeros(lanes, np.int64)
    for _ in range(settling):
        env.step(passing)
    profit, trades = np.zeros((2, lanes))
    for _ in range(slots):
        before = env._tiles.copy()
        env.step(passing)
        after = env._tiles
        # They trade at the price of the slot, which moves afterwards.
        gain = ((after[:, informed] - before[:, informed]) * before[:, price]).sum(axis=1)
        held = before[:, RESERVES : RESERVES + 2 * POOLS].reshape(-1, 2, POOLS, LANES).sum(axis=2)
        profit += (gain / (held * before[:, price]).sum(axis=1)).reshape(-1)
        moved = after[:, RESERVES : RESERVES + POOLS] != before[:, RESERVES : RESERVES + POOLS]
        trades += moved.mean(axis=1).reshape(-1)
    return Arbitrage(*_grouped(profit / slots, start), *_grouped(trades / slots, start))


def _on_paths(paths: int, slot_deviation: float, fee: int, watched: float = 1.0) -> Arbitrage:
    """`watch` on several independent price paths, per arrival of an informed trader."""
    found = [watch(slot_deviation, fee, watched, seed=FIRST_PATH + path) for path in range(paths)]

    def mean(name: str) -> float:
        return sum(getattr(one, name) for one in found) / paths / watched

    def error(name: str) -> float:
        return float(np.hypot.reduce([getattr(one, name) for one in found])) / paths / watched

    return Arbitrage(mean("profit"), error("profit_error"), mean("trades"), error("trades_error"))


def watch_without_fee(deviation: float, paths: int = 1) -> Arbitrage:
    """O2: one informed trader per block, no fee."""
    return _on_paths(paths, deviation, 1000)


def watch_poisson(ratio: float, paths: int = 1) -> Arbitrage:
    """O3, per arrival: they come with POISSON_CHANCE, s = g / ratio is between arrivals."""
    return _on_paths(paths, FEE / ratio * np.sqrt(POISSON_CHANCE), 997, POISSON_CHANCE)


def watch_fixed(ratio: float, paths: int = 1) -> Arbitrage:
    """O4: one informed trader in every block."""
    return _on_paths(paths, FEE / ratio, 997)


@dataclass(frozen=True)
class Results:
    """Every case that the tables show and the figure draws."""

    without_fee: dict[float, Arbitrage]
    poisson: dict[float, Arbitrage]
    fixed: dict[float, Arbitrage]


def play(paths: int) -> Results:
    """All cases of O2, O3 and O4 on so many price paths (a minute each)."""
    return Results(
        {s: watch_without_fee(s, paths) for s in DEVIATIONS},
        {ratio: watch_poisson(ratio, paths) for ratio in RATIOS},
        {ratio: watch_fixed(ratio, paths) for ratio in RATIOS},
    )


def _row(ratio: float, seen: Arbitrage, theory: Prediction, slots: Prediction) -> str:
    return (
        f"| {ratio:g} | {seen.trades:.4f} ± {seen.trades_error:.4f} | {theory.trades:.4f} "
        f"| {slots.trades:.4f} | {seen.profit:.4g} ± {seen.profit_error:.1g} "
        f"| {theory.profit:.4g} | {slots.profit:.4g} | {seen.profit / theory.profit:.3f} |"
    )


def tables(results: Results) -> str:
    """The measured rows as Markdown."""
    lines = ["| s | simulated ± standard error | theory | ratio |", "|---|---|---|---|"]
    for s, seen in results.without_fee.items():
        value = f"{seen.profit:.5g} ± {seen.profit_error:.1g}"
        lines.append(f"| {s:g} | {value} | {lvr(s):.5g} | {seen.profit / lvr(s):.4f} |")
    head = "| g/s | P simulated | theory | quadrature "
    head += "| profit/V simulated | theory | quadrature | ratio |"
    lines += ["", "O3", head, "|---" * 8 + "|"]
    for ratio, seen in results.poisson.items():
        slots = quadrature(ratio, POISSON_CHANCE)
        lines.append(_row(ratio, seen, poisson_blocks(ratio), slots))
    lines += ["", "O4", head, "|---" * 8 + "|"]
    for ratio, seen in results.fixed.items():
        slots = quadrature(ratio)
        lines.append(_row(ratio, seen, Prediction(fixed_blocks(ratio), slots.trades), slots))
    return "\n".join(lines)


def _points(axes: Axes, x: Sequence[float], y: list[float], error: list[float], label: str) -> None:
    """Simulated points with two standard errors either way."""
    bars = [2.0 * value for value in error]
    axes.errorbar(x, y, bars, fmt="o", ms=4, capsize=3, label=label, zorder=3)


def figure(results: Results) -> Figure:
    """Simulated points over the curves of theory, and their ratio with error bars below."""
    drawn = Figure(figsize=(11, 6), layout="constrained")
    axes = drawn.subplots(2, 3, sharex="col", height_ratios=(2, 1))
    s = np.geomspace(min(DEVIATIONS) / 1.5, max(DEVIATIONS) * 1.5, 60)
    ratios = np.geomspace(min(RATIOS) / 1.3, max(RATIOS) * 1.3, 12)
    cases = (
        ("O2: no fee", "s", s, results.without_fee, {"blocks": lvr}),
        (
            "O3: fee, Poisson arrivals",
            "g / s",
            ratios,
            results.poisson,
            {
                "exponential waits": lambda r: poisson_blocks(r).profit,
                "geometric waits": lambda r: quadrature(r, POISSON_CHANCE).profit,
            },
        ),
        ("O4: fee, fixed blocks", "g / s", ratios, results.fixed, {"fixed blocks": fixed_blocks}),
    )
    for column, (title, name, x, seen, curves) in enumerate(cases):
        top, bottom = axes[0, column], axes[1, column]
        theory = next(iter(curves.values()))
        at = list(seen)
        for style, (label, curve) in zip(("-", "--"), curves.items()):
            values = [curve(float(value)) for value in x]
            top.plot(x, values, style, color="#555555", lw=1, label=f"theory, {label}")
            share = [value / theory(float(place)) for value, place in zip(values, x)]
            bottom.plot(x, share, style, color="#555555", lw=1)
        profits = [found.profit for found in seen.values()]
        errors = [found.profit_error for found in seen.values()]
        _points(top, at, profits, errors, "simulated")
        scale = [theory(place) for place in at]
        _points(
            bottom,
            at,
            [value / unit for value, unit in zip(profits, scale)],
            [value / unit for value, unit in zip(errors, scale)],
            "simulated",
        )
        top.set(title=title, xscale="log", yscale="log")
        top.legend(frameon=False, fontsize=8)
        bottom.set(xlabel=name, ylim=(0.96, 1.02))
        bottom.set_xticks(at, [f"{place:g}" for place in at])
        bottom.minorticks_off()
    axes[0, 0].set_ylabel("profit / pool value")
    axes[1, 0].set_ylabel("/ theory (± 2 s.e.)")
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = ArgumentParser(prog="python -m envs.arbitrage_validation", description=__doc__)
    parser.add_argument("--figures", default="", help="folder to write the figure to")
    parser.add_argument("--paths", type=int, default=8, help="price paths to average over")
    given = parser.parse_args(arguments)
    results = play(given.paths)
    print(tables(results))
    if given.figures:
        figure(results).savefig(Path(given.figures) / "validation_arbitrage.png", dpi=110)
    return 0


if __name__ == "__main__":
    ended("envs.arbitrage_validation", main)
