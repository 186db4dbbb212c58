"""Exact Uniswap V2 quotes beside Python integers and the deployed pair in pyrevm, and the float64
closed form of arbitrage cycles, each on one thread."""

import numpy as np

from benchmarks.harness import Measurement, check, paired_seconds, seconds_per_call
from kernels.graph import Graph, build_graph
from kernels.market import LANES, amount_in_row, new_tile, overlay_row
from kernels.sizing_filter import size_cycles
from kernels.u256 import from_limbs, to_limbs
from kernels.uniswap_v2 import OK, quote_out_batch

SEED = 20240117


def python_quotes(amounts: list[int], ins: list[int], outs: list[int]) -> list[int]:
    """UniswapV2Library.getAmountOut in Python integers: the referee and the yardstick."""
    quotes = []
    for amount, reserve_in, reserve_out in zip(amounts, ins, outs):
        paid = amount * 997
        quotes.append(paid * reserve_out // (reserve_in * 1000 + paid))
    return quotes


def v2_quotes(quick: bool) -> list[Measurement]:
    """Quotes of random pools with reserves of 10^9 to 10^26 smallest units."""
    count = 4_000 if quick else 40_000
    rng = np.random.default_rng(SEED)
    draw = lambda low, high: [int(10**x) for x in rng.uniform(low, high, count)]  # noqa: E731
    ins, outs = draw(9, 26), draw(9, 26)
    amounts = [max(1, int(r * x)) for r, x in zip(ins, 10 ** rng.uniform(-6, -0.5, count))]
    arrays = [to_limbs(values, 2) for values in (ins, outs, amounts)]
    numerator, denominator = np.full(count, 997), np.full(count, 1000)
    quoted, status = np.zeros((count, 2), np.uint64), np.zeros(count, np.int64)

    def kernel() -> None:
        quote_out_batch(arrays[0], arrays[1], numerator, denominator, arrays[2], quoted, status)

    kernel()
    expected = python_quotes(amounts, ins, outs)
    served = [i for i in range(count) if expected[i] > 0]
    check(all(status[i] == OK for i in served), "a V2 quote was refused that Python serves")
    ours = from_limbs(quoted)
    check(all(ours[i] == expected[i] for i in served), "a V2 quote differs from Python integers")
    kernel_s, python_s = paired_seconds(
        kernel, lambda: python_quotes(amounts, ins, outs), 1.0 if quick else 5.0
    )
    return [
        Measurement("V2 exact quotes", count / kernel_s, "quotes/s", f"{count} pools, 997/1000"),
        Measurement("V2 quotes, Python integers", count / python_s, "quotes/s"),
        Measurement("V2 exact / Python integers", python_s / kernel_s, "ratio", at_least=18.0),
    ]


def cycles(quick: bool) -> list[Measurement]:
    """Closed-form best input of every cycle of a small graph, checked against its derivative."""
    hub_pairs = [(0, token) for token in (1, 1, 2, 2, 3, 3)]
    token0, token1 = zip(*hub_pairs, (1, 2), (2, 3), (1, 3))
    pools = len(token0)
    graph = build_graph(token0, token1, [997] * pools, [1000] * pools, [18] * 4)
    tile = new_tile(graph, LANES)
    rng = np.random.default_rng(SEED)
    first = overlay_row(pools)
    tile[first : first + 2 * pools] = 1000.0 * np.exp(0.02 * rng.normal(size=(2 * pools, LANES)))
    count = graph.cycle_hops.size
    tiles = [tile.copy() for _ in range(64 if quick else 256)]

    def run() -> None:
        for each in tiles:
            size_cycles(graph.cycles, graph.weights, each)

    run()
    check_optimum(graph, tiles[0])
    seconds = seconds_per_call(run, 0.5 if quick else 3.0)
    rate = len(tiles) * LANES * count / seconds
    note = f"{count} cycles of 2 and 3 hops, {LANES} lanes"
    return [Measurement("closed-form cycles", rate, "cycles/s", note, at_least=300e6)]


def check_optimum(graph: Graph, tile: np.ndarray) -> None:
    """Neither a little more nor a little less input pays more, for every profitable cycle."""
    pools = graph.token0.size
    first = overlay_row(pools)
    for cycle in range(graph.cycle_hops.size):
        best = tile[amount_in_row(pools, graph.cycle_hops.size) + cycle]

        def profit(amount: np.ndarray, cycle: int = cycle) -> np.ndarray:
            out = amount
            for hop in range(graph.cycle_hops[cycle]):
                pool, side = graph.cycle_pool[cycle, hop], graph.cycle_zero_for_one[cycle, hop]
                first_row, second_row = tile[first + pool], tile[first + pools + pool]
                reserve_in, reserve_out = (
                    (first_row, second_row) if side else (second_row, first_row)
                )
                out = 0.997 * out * reserve_out / (reserve_in + 0.997 * out)
            return out - amount

        pays = best > 0.0
        for factor in (0.999, 1.001):
            worse = profit(best * factor) <= profit(best) + 1e-12
            check(bool(worse[pays].all()), f"cycle {cycle} is not sized at its optimum")


def run(quick: bool) -> list[Measurement]:
    return v2_quotes(quick) + cycles(quick)
