"""Best input of every cycle in float64: the closed form for chains of constant-product pools.

A chain of V2 pools is a Moebius map x -> A x / (1 + C x); its best input is (sqrt(A) - 1) / C and
its profit (sqrt(A) - 1)^2 / C. A segment of a concentrated pool is such a map too, up to its end,
where the ranked plan stops (kernels.opportunities goes on for the chosen
ones). It only ranks: amounts that are signed come from kernels.sizing.
"""

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph import HOPS, POOL, ROW_IN, ROW_OUT
from kernels.market import (
    CONCENTRATED_FROM,
    LANES,
    amount_in_row,
    gross_row,
    overlay_row,
    rate_row,
)


@inline
def _best_input(A: float, C: float) -> tuple[float, float]:
    """Input and profit of x -> A x / (1 + C x) - x; zeros unless finite and profitable."""
    edge = np.sqrt(A) - 1.0
    amount = edge / C
    # Written so that NaN and infinity (an empty pool) mean "no opportunity".
    sound = edge > 0.0 and amount < np.inf
    return (amount, edge * amount) if sound else (0.0, 0.0)


@inline
def _input_that_fills(A: float, C: float, capacity: float) -> float:
    """x at which A x / (1 + C x) reaches `capacity`; infinite when it never does."""
    slope = A - C * capacity
    return capacity / slope if slope > 0.0 else np.inf


@inline
def _capped_input(A: float, C: float, most: float) -> tuple[float, float]:
    """`_best_input` with at most `most` of input."""
    amount, profit = _best_input(A, C)
    least = min(amount, most)
    capped = A * least / (1.0 + C * least) - least
    return least, max(profit if least == amount else capped, 0.0)


@inline
def _rates(weights: np.ndarray, pools: int, tile: np.ndarray) -> None:
    """gamma / reserve per pool and side, shared by all cycles: divisions are what costs.

    Not with a constant number of lanes: LLVM would unroll so small a loop before it vectorises.
    """
    source, target = overlay_row(pools), rate_row(pools)
    for side in range(2):
        for pool in range(pools):
            row = side * pools + pool
            gamma = weights[pool]
            for lane in range(tile.shape[1]):
                tile[target + row, lane] = gamma / tile[source + row, lane]


@inline
def _size(cycles: np.ndarray, pools: int, tile: np.ndarray, lanes: int) -> None:
    count = cycles.shape[0]
    reserve, rate = overlay_row(pools), rate_row(pools)
    capacity = reserve + 2 * pools
    to_amount, to_gross = amount_in_row(pools, count), gross_row(pools, count)
    plain = int(tile[CONCENTRATED_FROM, 0])
    for cycle in range(count):
        in0, out0 = rate + cycles[cycle, ROW_IN], reserve + cycles[cycle, ROW_OUT]
        in1, out1 = rate + cycles[cycle, ROW_IN + 1], reserve + cycles[cycle, ROW_OUT + 1]
        most0 = capacity + cycles[cycle, ROW_IN]
        most1 = capacity + cycles[cycle, ROW_IN + 1]
        amount_row, profit_row = to_amount + cycle, to_gross + cycle
        capped = (
            cycles[cycle, POOL] >= plain
            or cycles[cycle, POOL + 1] >= plain
            or cycles[cycle, POOL + 2] >= plain
        )
        if cycles[cycle, HOPS] == 2:
            if not capped:
                for lane in range(lanes):
                    A = tile[in0, lane] * tile[out0, lane]
                    C = tile[in0, lane] + A * tile[in1, lane]
                    A *= tile[in1, lane] * tile[out1, lane]
                    amount, gross = _best_input(A, C)
                    tile[amount_row, lane] = amount
                    tile[profit_row, lane] = gross
                continue
            for lane in range(lanes):
                A, C = tile[in0, lane] * tile[out0, lane], tile[in0, lane]
                most = min(tile[most0, lane], _input_that_fills(A, C, tile[most1, lane]))
                C += A * tile[in1, lane]
                A *= tile[in1, lane] * tile[out1, lane]
                amount, gross = _capped_input(A, C, most)
                tile[amount_row, lane] = amount
                tile[profit_row, lane] = gross
            continue
        in2, out2 = rate + cycles[cycle, ROW_IN + 2], reserve + cycles[cycle, ROW_OUT + 2]
        if not capped:
            for lane in range(lanes):
                A = tile[in0, lane] * tile[out0, lane]
                C = tile[in0, lane] + A * tile[in1, lane]
                A *= tile[in1, lane] * tile[out1, lane]
                C += A * tile[in2, lane]
                A *= tile[in2, lane] * tile[out2, lane]
                amount, gross = _best_input(A, C)
                tile[amount_row, lane] = amount
                tile[profit_row, lane] = gross
            continue
        most2 = capacity + cycles[cycle, ROW_IN + 2]
        for lane in range(lanes):
            A, C = tile[in0, lane] * tile[out0, lane], tile[in0, lane]
            most = min(tile[most0, lane], _input_that_fills(A, C, tile[most1, lane]))
            C += A * tile[in1, lane]
            A *= tile[in1, lane] * tile[out1, lane]
            most = min(most, _input_that_fills(A, C, tile[most2, lane]))
            C += A * tile[in2, lane]
            A *= tile[in2, lane] * tile[out2, lane]
            amount, gross = _capped_input(A, C, most)
            tile[amount_row, lane] = amount
            tile[profit_row, lane] = gross


@lean_kernel
def size_cycles(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Size every cycle on the overlaid reserves: writes the rate, amount_in and gross rows.

    Hub tokens and ETH; both 0 where the cycle does not pay, or where a reserve is 0. Compiled
    without fastmath, so that one lane and sixteen give the same bits.
    """
    never_inline()
    pools = weights.shape[0] - cycles.shape[0]
    _rates(weights, pools, tile)
    if tile.shape[1] == LANES:
        _size(cycles, pools, tile, LANES)
    else:
        _size(cycles, pools, tile, tile.shape[1])
