"""How the cost of a decision grows with pools, tokens, waiting swaps and decisions per slot.

`python -m benchmarks env --figures docs/figures` draws what it prints.
"""

import time
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.env import SEED, drawn_actions
from benchmarks.harness import Measurement
from configs.eras import MAJOR_V2_DEPTH, MAJOR_V3_DEPTH, TAIL_DEEPER, TAIL_SECOND
from envs.market.config import Loans, MarketConfig, Pools
from envs.market.paths import PricePaths, stand_in_paths
from envs.vector import MarketVectorEnv
from kernels.market.tile import FOUND_COUNT

VENUES = (1, 2, 3)  # of each kind, over three tokens
DOLLARS = (1, 2, 3)  # dollar tokens at two venues of each kind
SWAPS = (0.5, 1.5, 3.0, 6.0, 12.0)  # per slot
ROUNDS = 5
TICKS = 3  # decisions per slot, but where they are what varies
DECISIONS = (1, 2, 3, 6)  # per slot
WIDE = (8, 16, 32, 64, 128, 256)  # pools of a market of true size
AXES = ("pools", "tokens", "swaps per slot", "decisions per slot", "pools of true size")
TARGET_POOLS, TARGET_RATE = 128, 0.5e6  # decisions per second


def larger(venues: int, dollars: int) -> MarketConfig:
    """`venues` constant-product and as many concentrated venues, and that many dollars."""
    symbols = ("WETH", "WBTC", *(f"USD{i}" for i in range(dollars)))
    pairs = [(0, token) for token in range(1, len(symbols))] + [(1, 2)]
    plain = pairs * venues
    pools = Pools(
        symbols=symbols,
        decimals=(18, 8) + (6,) * dollars,
        eth_exposure=(0.0, -1.0) + (-1.0,) * dollars,
        btc_exposure=(0.0, 1.0) + (0.0,) * dollars,
        token0=tuple(a for a, _ in plain * 2),
        token1=tuple(b for _, b in plain * 2),
        depth_eth=(2000.0,) * (2 * len(plain)),
        concentrated=len(plain),
    )
    return MarketConfig(era="rich", ticks_per_slot=TICKS, pools=pools, loans=Loans(pools=(1, 1)))


def true_size(pools: int) -> MarketConfig:
    """The era 2021 on so many pools: arrivals, sizes, fees and traders are its own, so that few
    cycles pay at a time, however many there are.

    Two venues of WETH/USDC; then long-tail tokens with a constant-product and a concentrated pool
    against WETH each, every fourth of them with one against USDC too. Users take all pools alike.
    """
    plain, concentrated = [(0, 1)], [(0, 1)]
    depth, second = [MAJOR_V2_DEPTH], [MAJOR_V3_DEPTH[0]]
    token = 2
    while len(plain) + len(concentrated) < pools:
        tail = token % len(TAIL_DEEPER)
        plain.append((0, token))
        depth.append(TAIL_DEEPER[tail])
        if len(plain) + len(concentrated) < pools:
            concentrated.append((0, token))
            second.append(TAIL_SECOND[tail])
        if token % 4 == 0 and len(plain) + len(concentrated) < pools:
            plain.append((1, token))
            depth.append(TAIL_SECOND[tail])
        token += 1
    pairs = plain + concentrated
    changes = {
        "ticks_per_slot": TICKS,
        "pools.symbols": ("WETH", "USDC", *(f"TAIL{k}" for k in range(2, token))),
        "pools.decimals": (18, 6, *(18,) * (token - 2)),
        "pools.eth_exposure": (0.0, -1.0, *(0.0,) * (token - 2)),
        "pools.btc_exposure": (0.0,) * token,
        "pools.token0": tuple(a for a, _ in pairs),
        "pools.token1": tuple(b for _, b in pairs),
        "pools.concentrated": len(concentrated),
        "pools.fee_pips": (3000,) * len(pairs),
        "pools.depth_eth": tuple(depth + second),
        "users.size_scale": (),
        "users.pool_weight": (),
        "informed.payment_law": (),
        "loans.pools": (0, 0, 0, 0),
    }
    return MarketConfig(era="2021").changed(changes)


def cases() -> list[tuple[str, float, MarketConfig]]:
    """(axis, place on it, market) of every point; the other quantities are the default's."""
    default = MarketConfig(era="rich", ticks_per_slot=TICKS)
    by_venue = [larger(venues, 1) for venues in VENUES]
    by_token = [larger(2, dollars) for dollars in DOLLARS]
    return [
        *(("pools", float(len(config.pools.token0)), config) for config in by_venue),
        *(("tokens", float(len(config.pools.symbols)), config) for config in by_token),
        *(("swaps per slot", rate, default.changed({"users.rate": rate})) for rate in SWAPS),
        *(
            ("decisions per slot", float(count), replace(default, ticks_per_slot=count))
            for count in DECISIONS
        ),
        *(("pools of true size", float(pools), true_size(pools)) for pools in WIDE),
    ]


def measure(
    axis: str, place: float, config: MarketConfig, paths: PricePaths, lanes: int, steps: int
) -> Measurement:
    """Nanoseconds of this thread per decision of one market, best of ROUNDS.

    Processor time, so that the curve keeps its shape on a machine that does other work.
    """
    env = MarketVectorEnv(lanes, config, paths, seed=SEED)
    env.reset(seed=SEED)
    plans = drawn_actions(env, steps)
    rounds = []
    for _ in range(ROUNDS):
        begin = time.thread_time()
        for actions in plans:
            env.step(actions)
        rounds.append(time.thread_time() - begin)
    seconds = min(rounds)
    pools, cycles = len(config.pools.token0), config.graph.cycle_hops.size
    note = f"{pools} pools, {cycles} cycles, {lanes * steps / seconds:,.0f} steps/s"
    paying = float(env._tiles[:, FOUND_COUNT].mean())
    extra = {"place": place, "pools": float(pools), "cycles": float(cycles), "paying": paying}
    name = f"growth: {place:g} {axis}"
    wanted = axis == "pools of true size" and pools == TARGET_POOLS
    most = 1e9 / TARGET_RATE if wanted else None
    cost = 1e9 * seconds / (lanes * steps)
    return Measurement(name, cost, "ns/step", note, extra, at_most=most)


def draw(rows: list[Measurement], folder: Path) -> None:
    """growth.png: one panel per axis, all on one scale."""
    figure = Figure(figsize=(13.5, 3.2), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for panel, axis in zip(panels, AXES):
        shown = [row for row in rows if row.name.endswith(f" {axis}")]
        panel.plot([row.extra["place"] for row in shown], [row.value for row in shown], "o-", ms=4)
        if axis in ("pools", "tokens"):
            panel.set_xticks([row.extra["place"] for row in shown])
            for row in shown:
                label = f"{row.extra['cycles']:.0f} cycles"
                at = (row.extra["place"], row.value)
                panel.annotate(label, at, (0, -12), textcoords="offset points", fontsize=7)
        if axis == "pools of true size":
            panel.set_xscale("log", base=2)
            panel.set_xticks(WIDE, [str(pools) for pools in WIDE])
            for row in shown:
                label = f"{row.extra['cycles']:.0f} cycles\n{row.extra['paying']:.1f} pay"
                at = (row.extra["place"], row.value)
                panel.annotate(label, at, (0, 6), textcoords="offset points", fontsize=6)
        panel.set_xlabel(axis)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("processor ns per decision")
    panels[0].set_ylim(bottom=0.0)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "growth.png", dpi=110)


def run(quick: bool) -> list[Measurement]:
    """Every case of `cases` with 1,024 markets."""
    paths = stand_in_paths(10 if quick else 60)
    lanes, steps = (256, 6) if quick else (1024, 60)
    return [measure(axis, place, config, paths, lanes, steps) for axis, place, config in cases()]
