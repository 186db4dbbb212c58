"""The state in which our plan would run: pending swaps applied to the head's reserves on exact
integers, as the router and the pairs compute them, and the same swaps as rows of the float tile.

Formulas: UniswapV2Router02 (getAmountsOut, getAmountsIn, its limits) over kernels.pools.uniswap_v2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.compile import kernel
from kernels.graph.market_graph import HOPS, POOL, ROW_IN, ROW_OUT, Graph
from kernels.market.tile import (
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
)
from kernels.numbers.u256 import load128, store128, to_float, u128, u256
from kernels.pools.uniswap_v2 import OK, get_amount_in, get_amount_out
from kernels.sizing.product_cycles import cycle_amounts, refine_cycle
from live.market.mempool import SwapTable

LIMIT_NOT_MET = 100  # the router's own require: too little out, or too much in
POOL_OVERFLOW = 101  # a reserve would pass uint112
NO_OUTPUT = 102  # a pair refuses to pay out nothing
# Pivot amounts tried on each side: the optimum is among them in 96 % of cycles, and the rest lack
# a few hundred wei (kernels.sizing.product_cycles).
SEARCH_WIDTH = 8
MAX_CYCLE_HOPS = 3


class PoolTable(NamedTuple):
    """What these kernels need of a Graph: fees int64[P], units per token float64[2P]."""

    fee_numerator: np.ndarray
    fee_denominator: np.ndarray
    scale: np.ndarray


def pool_table(graph: Graph) -> PoolTable:
    """Of a graph; rows of `scale` are token0 of every pool, then token1."""
    decimals = np.concatenate([graph.decimals[graph.token0], graph.decimals[graph.token1]])
    scale = np.array([float(10 ** int(d)) for d in decimals])
    return PoolTable(graph.fee_numerator, graph.fee_denominator, scale)


@kernel
def quote_swap(
    pools: PoolTable,
    table: SwapTable,
    row: int,
    reserves: np.ndarray,
    amounts: np.ndarray,
) -> int:
    """Amounts along the path of one swap: uint64[MAX_HOPS + 1, 2], first the input; a status."""
    count = pools.fee_numerator.shape[0]
    hops = table.hops[row]
    exact_out = table.exact_out[row] != 0
    store128(amounts, hops if exact_out else 0, load128(table.amount, row))
    for step in range(hops):
        hop = hops - 1 - step if exact_out else step
        pool = table.pool[row, hop]
        forward = table.zero_for_one[row, hop] != 0
        reserve_in = load128(reserves, pool if forward else pool + count)
        reserve_out = load128(reserves, pool + count if forward else pool)
        numerator: Any = pools.fee_numerator[pool]
        denominator: Any = pools.fee_denominator[pool]
        if exact_out:
            wanted = load128(amounts, hop + 1)
            status, needed = get_amount_in(wanted, reserve_in, reserve_out, numerator, denominator)
            if status != OK:
                return status
            if (needed >> 128) != u256(0):
                return POOL_OVERFLOW
            store128(amounts, hop, u128(needed))
        else:
            status, out = get_amount_out(
                load128(amounts, hop), reserve_in, reserve_out, numerator, denominator
            )
            if status != OK:
                return status
            if out == u128(0):
                return NO_OUTPUT
            store128(amounts, hop + 1, out)
    limit = load128(table.limit, row)
    if exact_out:
        return LIMIT_NOT_MET if load128(amounts, 0) > limit else OK
    return LIMIT_NOT_MET if load128(amounts, hops) < limit else OK


@kernel
def _move(
    count: int, table: SwapTable, row: int, hop: int, amounts: np.ndarray, reserves: np.ndarray
) -> None:
    """Change the reserves of one hop's pool."""
    pool = table.pool[row, hop]
    forward = table.zero_for_one[row, hop] != 0
    row_in = pool if forward else pool + count
    row_out = pool + count if forward else pool
    store128(reserves, row_in, load128(reserves, row_in) + load128(amounts, hop))
    store128(reserves, row_out, load128(reserves, row_out) - load128(amounts, hop + 1))


@kernel
def apply_swaps(
    pools: PoolTable,
    table: SwapTable,
    order: np.ndarray,
    reserves: np.ndarray,
    amounts: np.ndarray,
    status: np.ndarray,
) -> int:
    """Apply the swaps in rows `order` (int64[n]) one after the other; the hops that happened.

    `reserves` uint64[2P, 2] is changed in place; `amounts` uint64[n, MAX_HOPS + 1, 2] and `status`
    int64[n] are written. A swap that reverts changes nothing. Paths visit no pool twice (the
    decoder sorts those out), so a transaction can be checked before any of its pools changes.
    """
    count = pools.fee_numerator.shape[0]
    applied: Any = 0
    for place in range(order.shape[0]):
        row = order[place]
        hops = table.hops[row]
        outcome = quote_swap(pools, table, row, reserves, amounts[place])
        if outcome == OK:
            for hop in range(hops):
                pool = table.pool[row, hop]
                row_in = pool if table.zero_for_one[row, hop] != 0 else pool + count
                after = u256(load128(reserves, row_in)) + load128(amounts[place], hop)
                if (after >> 112) != u256(0):
                    outcome = POOL_OVERFLOW
        status[place] = outcome
        if outcome == OK:
            for hop in range(hops):
                _move(count, table, row, hop, amounts[place], reserves)
            applied += hops
    return applied


class Followed(NamedTuple):
    """Pending swaps in order of inclusion, and what `apply_swaps` found of them."""

    table: SwapTable
    order: np.ndarray  # int64[n], rows of the table
    amounts: np.ndarray  # uint64[n, MAX_HOPS + 1, 2]
    status: np.ndarray  # int64[n]
    applied: int  # hops
    tip_gwei: np.ndarray  # float64[n], never rising: the tile is sorted by it again


class State(NamedTuple):
    """The pools at the head of the chain."""

    mirror: np.ndarray  # float64[2P], reserves in whole tokens
    base: np.ndarray  # uint64[2P, 2], the same to the unit; used up
    blocked: np.ndarray  # bool[P], pools that get no reserves: no opportunity


@kernel
def fill_tile(pools: PoolTable, followed: Followed, state: State, tile: np.ndarray) -> None:
    """Write the reserve and pending rows of a tile of one lane, from what `apply_swaps` found.

    The tile holds PENDING swaps; when there are more hops, the first ones are already part of its
    reserves.
    """
    table, amounts, base = followed.table, followed.amounts, state.base
    blocked = state.blocked
    count = pools.fee_numerator.shape[0]
    for row in range(2 * count):
        tile[RESERVES + row, 0] = 0.0 if blocked[row % count] else state.mirror[row]
    for row in range(PENDING_POOL, PENDING_VISIBLE + PENDING):
        tile[row, 0] = 0.0
    slot = 0
    folded = max(followed.applied - PENDING, 0)
    for place in range(followed.order.shape[0]):
        if followed.status[place] != OK:
            continue
        row = followed.order[place]
        for hop in range(table.hops[row]):
            pool = table.pool[row, hop]
            forward = table.zero_for_one[row, hop] != 0
            if folded > 0:
                folded -= 1
                _move(count, table, row, hop, amounts[place], base)
                if not blocked[pool]:
                    for at in (pool, pool + count):
                        tile[RESERVES + at, 0] = to_float(load128(base, at)) / pools.scale[at]
            elif not blocked[pool]:
                amount = to_float(load128(amounts[place], hop))
                tile[PENDING_POOL + slot, 0] = pool
                tile[PENDING_ZERO_FOR_ONE + slot, 0] = 1.0 if forward else 0.0
                tile[PENDING_AMOUNT_IN + slot, 0] = (
                    amount / pools.scale[pool if forward else pool + count]
                )
                tile[PENDING_TIP + slot, 0] = followed.tip_gwei[place]
                tile[PENDING_VISIBLE + slot, 0] = 1.0
                slot += 1


@kernel
def size_exactly(
    pools: PoolTable,
    cycles: np.ndarray,
    cycle: int,
    reserves: np.ndarray,
    most: np.ndarray,
    amounts: np.ndarray,
) -> int:
    """Amounts of one cycle to the wei: uint64[4, 2], input first; a status of
    kernels.sizing.product_cycles.

    `reserves` uint64[2P, 2] as `apply_swaps` left them. An optimum above `most` (uint64[1, 2]) is
    cut to it: profit rises with the input up to the optimum, so the cut cycle still pays.
    """
    hops = cycles[cycle, HOPS]
    reserve_in = np.empty((MAX_CYCLE_HOPS, 2), np.uint64)
    reserve_out = np.empty((MAX_CYCLE_HOPS, 2), np.uint64)
    numerator = np.empty(MAX_CYCLE_HOPS, np.int64)
    denominator = np.empty(MAX_CYCLE_HOPS, np.int64)
    for hop in range(hops):
        pool = cycles[cycle, POOL + hop]
        row_in, row_out = cycles[cycle, ROW_IN + hop], cycles[cycle, ROW_OUT + hop]
        store128(reserve_in, hop, load128(reserves, row_in))
        store128(reserve_out, hop, load128(reserves, row_out))
        numerator[hop] = pools.fee_numerator[pool]
        denominator[hop] = pools.fee_denominator[pool]
    status, _, _ = refine_cycle(
        reserve_in, reserve_out, numerator, denominator, hops, 0.0, SEARCH_WIDTH, amounts
    )
    limit = load128(most, 0)
    if status == OK and load128(amounts, 0) > limit:
        store128(amounts, 0, limit)
        status = cycle_amounts(reserve_in, reserve_out, numerator, denominator, hops, amounts)
    return status
