"""Exact Uniswap V2 quotes beside Python integers and the deployed pair in pyrevm, closed-form and
refined arbitrage cycles, and the float filters, each on one thread."""

import statistics
import time
from itertools import combinations

import numpy as np

from benchmarks.harness import Measurement, check, paired_seconds, seconds_per_call
from kernels.graph.market_graph import Graph, build_graph
from kernels.market.sizing import size_cycles
from kernels.market.tile import LANES, layout_of, new_tile
from kernels.numbers.u256 import from_limbs, to_limbs
from kernels.pools.product_filter import (
    PRODUCT_ERROR,
    rank_product_outputs,
    rank_stable_outputs,
    rank_weighted_outputs,
)
from kernels.pools.uniswap_v2 import OK, quote_out_batch
from kernels.sizing.moebius import moebius, profit_bound
from kernels.sizing.product_cycles import UNPROFITABLE, refine_batch
from tests.support.uniswap_v2_referee import RECIPIENT, UniswapV2, selector, words

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
    evm_s = swap_seconds(list(zip(ins, outs, amounts))[: 500 if quick else 4_000])
    return [
        Measurement(
            "V2 exact quotes", count / kernel_s, "quotes/s", f"{count} pools", at_least=60e6
        ),
        Measurement("V2 quotes, Python integers", count / python_s, "quotes/s"),
        Measurement("V2 exact / Python integers", python_s / kernel_s, "ratio", at_least=18.0),
        Measurement("pair.swap in pyrevm", 1.0 / evm_s, "swaps/s", "bytecode, storage set before"),
        Measurement(
            "V2 exact / pair.swap in pyrevm", evm_s * count / kernel_s, "ratio", at_least=500.0
        ),
    ]


def swap_seconds(cases: list[tuple[int, int, int]]) -> float:
    """Median seconds of one pair.swap that pays what we quote; writing its state is not counted."""
    exchange = UniswapV2()
    pair = exchange.pair(0, 1)
    token_in, token_out = (0, 1) if exchange.is_token0(0, 1) else (1, 0)
    samples = []
    for reserve_in, reserve_out, amount in cases:
        output = python_quotes([amount], [reserve_in], [reserve_out])[0]
        if not output:
            continue
        exchange.set_reserves(token_in, token_out, reserve_in, reserve_out)
        exchange.set_balance(token_in, pair, reserve_in + amount)
        exchange.set_balance(token_out, pair, reserve_out)
        data = selector("swap(uint256,uint256,address,bytes)")
        data += words(0, output, int(RECIPIENT, 16), 128, 0)
        begin = time.perf_counter()
        exchange.evm.call(pair, data)
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples)


def cycles(quick: bool) -> list[Measurement]:
    """Closed-form best input of three-hop cycles, checked against its derivative."""
    token0, token1 = zip(*combinations(range(7), 2))
    pools = len(token0)
    graph = build_graph(token0, token1, [997] * pools, [1000] * pools, [18] * 7)
    tile = new_tile(graph, LANES)
    rng = np.random.default_rng(SEED)
    first = layout_of(graph).overlay
    tile[first : first + 2 * pools] = 1000.0 * np.exp(0.02 * rng.normal(size=(2 * pools, LANES)))
    count = graph.cycle_hops.size
    check(bool((graph.cycle_hops == 3).all()), "the benchmark graph has other cycles than 3 hops")
    tiles = [tile.copy() for _ in range(64 if quick else 256)]

    def run() -> None:
        for each in tiles:
            size_cycles(graph.cycles, graph.weights, each)

    run()
    check_optimum(graph, tiles[0])
    seconds = seconds_per_call(run, 0.5 if quick else 3.0)
    rate = len(tiles) * LANES * count / seconds
    note = f"{count} cycles of 3 hops on {pools} pools, {LANES} lanes"
    return [Measurement("closed-form cycles", rate, "cycles/s", note, at_least=300e6)]


def refined(quick: bool) -> list[Measurement]:
    """Exact sizes with certificate of three-hop cycles, all of them paying, K = 8."""
    rng = np.random.default_rng(SEED)
    chains = []
    while len(chains) < (1_000 if quick else 8_000):
        prices = 10.0 ** rng.uniform(-1, 1, 2)
        prices = np.append(prices, np.exp(abs(rng.normal(0, 0.05))) / prices.prod())
        into = [int(10.0**x) for x in rng.uniform(20, 25, 3)]
        out = [int(reserve * price) for reserve, price in zip(into, prices.tolist())]
        bound = profit_bound(*moebius(into, out, [(997, 1000)] * 3))
        if bound > 0:
            chains.append((into, out, bound))
    count = len(chains)
    ins, outs = (np.stack([to_limbs(chain[side], 2) for chain in chains]) for side in range(2))
    fees = np.full((count, 3), 997), np.full((count, 3), 1000)
    amounts = np.zeros((count, 4, 2), np.uint64)
    status, gap, estimate = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)

    def run() -> None:
        refine_batch(ins, outs, *fees, estimate, 8, amounts, status, gap)

    run()
    paths = [from_limbs(rows) for rows in amounts]
    for (into, out, bound), path, code, distance in zip(chains, paths, status, gap):
        check(code in (OK, UNPROFITABLE), f"a cycle has status {code}")
        walked = path[:1]
        for reserve_in, reserve_out in zip(into, out):
            walked += python_quotes(walked[-1:], [reserve_in], [reserve_out])
        check(code != OK or walked == path, "the amounts of a cycle are not what pairs pay")
        missed = bound - (path[-1] - path[0])
        check(0 <= missed < distance + 1, "a certificate does not reach the rational bound")
    seconds = seconds_per_call(run, 0.5 if quick else 3.0)
    proved = f"{count} paying cycles of 3 hops, K = 8; optimum proved for {(gap < 1).mean():.0%}"
    return [Measurement("refined cycles", count / seconds, "cycles/s", proved, at_least=0.4e6)]


def filters(quick: bool) -> list[Measurement]:
    """Float mirrors of 8,192 quotes; the first is checked against its bound, all against NaN."""
    rng = np.random.default_rng(SEED)
    size = 8_192
    amounts = rng.uniform(1.0, 1e3, size)
    into, out = rng.uniform(1e4, 1e6, (2, size))
    keep, exponents = np.full(size, 0.997), rng.uniform(0.1, 9.0, size)
    columns = {
        rank_product_outputs: (amounts, into, out, keep),
        rank_weighted_outputs: (amounts, into, out, exponents, keep),
        rank_stable_outputs: (amounts, into, out, into + out, into, into * into * out, keep),
    }
    outputs, rows = np.empty(size), []
    for function, arrays in columns.items():
        function(*arrays, outputs)
        check(bool(np.isfinite(outputs).all()), f"{function} gives a NaN")
        if function is rank_product_outputs:
            real = amounts * keep * out / (into + amounts * keep)
            check(bool((abs(outputs / real - 1) < 2 * PRODUCT_ERROR).all()), "outside its bound")
        seconds = seconds_per_call(lambda f=function, a=arrays: f(*a, outputs), 0.3)
        name = function.__name__.replace("_", " ").replace("rank ", "")
        rows.append(Measurement(f"float filter, {name}", size / seconds, "quotes/s"))
    return rows


def check_optimum(graph: Graph, tile: np.ndarray) -> None:
    """Neither a little more nor a little less input pays more, for every profitable cycle."""
    pools = graph.token0.size
    first = layout_of(graph).overlay
    for cycle in range(graph.cycle_hops.size):
        best = tile[layout_of(graph).amount_in + cycle]

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
    return v2_quotes(quick) + cycles(quick) + refined(quick) + filters(quick)
