"""The static token graph of one configuration and every arbitrage cycle through its hub token.

Cycles of two and three hops are enumerated once and indexed by pool, so that a changed pool names
the cycles to look at again (completeness is checked against brute force in the tests).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.chain.fees import DEFAULT_BASE_GAS, DEFAULT_HOP_GAS, plan_gas

MAX_HOPS = 3
# The conflict table has one byte per pair of cycles: 256 MiB at this many.
MAX_CYCLES = 16_384

# Columns of Graph.cycles, the table that kernels read.
HOPS = 0
POOL = 1  # [3]
ROW_IN = 4  # [3]
ROW_OUT = 7  # [3]
COLUMNS = 10


class Graph(NamedTuple):
    """Pools, and the cycles that start and end at the hub (P pools, T tokens, C cycles).

    A missing third hop is -1. Kernels take only `cycles` and `weights`: unboxing all of these
    arrays would cost more than the kernels do.
    """

    token0: np.ndarray  # int64[P]
    token1: np.ndarray  # int64[P]
    fee_numerator: np.ndarray  # int64[P], what is left of an input: 997 for 0.3 %
    fee_denominator: np.ndarray  # int64[P]
    gamma: np.ndarray  # float64[P], fee_numerator / fee_denominator
    decimals: np.ndarray  # int64[T]
    cycle_pool: np.ndarray  # int64[C, 3]
    cycle_zero_for_one: np.ndarray  # int64[C, 3], 1 when the hop sells token0
    cycle_hops: np.ndarray  # int64[C]
    cycle_gas: np.ndarray  # float64[C], gas units of the whole plan
    conflict: np.ndarray  # bool[C, C], share a pool (a cycle conflicts with itself)
    pool_cycle_start: np.ndarray  # int64[P + 1]
    pool_cycle: np.ndarray  # int64[sum of hops], the cycles of pool p at start[p] .. start[p + 1]
    cycles: np.ndarray  # int64[C, 10]: hops, pools[3], rows_in[3], rows_out[3]; see _table
    weights: np.ndarray  # float64[P + C]: gamma of the pools, then gas units of the cycles
    hub: int


def _int_array(name: str, values: Sequence[int] | np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} is {values!r}: pass a non-empty list of integers")
    return np.ascontiguousarray(array, np.int64)


def _check(
    token0: np.ndarray,
    token1: np.ndarray,
    numerator: np.ndarray,
    denominator: np.ndarray,
    decimals: np.ndarray,
    hub: int,
    max_hops: int,
) -> None:
    pools, tokens = token0.size, decimals.size
    for name, array in (
        ("token1", token1),
        ("fee_numerator", numerator),
        ("fee_denominator", denominator),
    ):
        if array.size != pools:
            raise ValueError(f"{name} has {array.size} entries, token0 {pools}: one per pool")
    for name, array in (("token0", token0), ("token1", token1)):
        if array.min() < 0 or array.max() >= tokens:
            raise ValueError(f"{name} holds a token outside 0 .. {tokens - 1}: see decimals")
    if np.any(token0 == token1):
        raise ValueError(f"pool {int(np.argmax(token0 == token1))} trades a token against itself")
    if np.any(numerator <= 0) or np.any(numerator > denominator):
        raise ValueError("fee_numerator must be above 0 and at most fee_denominator (997 of 1000)")
    if decimals.min() < 0 or decimals.max() > 77:
        raise ValueError(f"decimals {decimals.tolist()}: an ERC-20 has 0 to 77")
    if not 0 <= hub < tokens:
        raise ValueError(f"hub {hub} is not one of the {tokens} tokens")
    if max_hops not in (2, MAX_HOPS):
        raise ValueError(f"max_hops {max_hops}: cycles of 2 or 3 hops are supported")


def _enumerate(
    token0: np.ndarray, token1: np.ndarray, hub: int, max_hops: int
) -> list[list[tuple[int, int]]]:
    """All directed cycles as lists of (pool, zero_for_one), in lexicographic order."""
    hops_from: dict[int, list[tuple[int, int, int]]] = {}
    for pool, (a, b) in enumerate(zip(token0.tolist(), token1.tolist())):
        hops_from.setdefault(a, []).append((pool, 1, b))
        hops_from.setdefault(b, []).append((pool, 0, a))
    cycles: list[list[tuple[int, int]]] = []
    paths = [([(pool, side)], token) for pool, side, token in hops_from.get(hub, [])]
    for _ in range(max_hops - 1):
        longer = []
        for path, token in paths:
            used = {pool for pool, _ in path}
            for pool, side, reached in hops_from[token]:
                if pool in used:
                    continue
                if reached == hub:
                    cycles.append([*path, (pool, side)])
                elif len(path) + 1 < max_hops:
                    longer.append(([*path, (pool, side)], reached))
            if len(cycles) > MAX_CYCLES:
                raise ValueError(f"more than {MAX_CYCLES} cycles: leave out pools, or set max_hops")
        paths = longer
    return sorted(cycles, key=lambda cycle: (len(cycle), cycle))


def _table(cycle_pool: np.ndarray, cycle_side: np.ndarray, pools: int) -> np.ndarray:
    """Cycles as kernels read them: int64[C, COLUMNS].

    rows_in and rows_out count rows from the first of 2 P reserve rows, where those of token0
    come before those of token1.
    """
    table = np.full((cycle_pool.shape[0], COLUMNS), -1, np.int64)
    present = cycle_pool >= 0
    table[:, HOPS] = present.sum(axis=1)
    table[:, POOL : POOL + MAX_HOPS] = cycle_pool
    sold0 = cycle_pool + np.where(cycle_side == 1, 0, pools)
    bought1 = cycle_pool + np.where(cycle_side == 1, pools, 0)
    table[:, ROW_IN : ROW_IN + MAX_HOPS] = np.where(present, sold0, -1)
    table[:, ROW_OUT : ROW_OUT + MAX_HOPS] = np.where(present, bought1, -1)
    return table


def build_graph(
    token0: Sequence[int] | np.ndarray,
    token1: Sequence[int] | np.ndarray,
    fee_numerator: Sequence[int] | np.ndarray,
    fee_denominator: Sequence[int] | np.ndarray,
    decimals: Sequence[int] | np.ndarray,
    hub: int = 0,
    max_hops: int = 3,
    base_gas: int = DEFAULT_BASE_GAS,
    gas_per_hop: int = DEFAULT_HOP_GAS,
) -> Graph:
    """Enumerate every directed cycle of 2 .. max_hops pools through `hub`, no pool used twice.

    Tokens are indices into `decimals`, pools are in the order of `token0`. Gas units of a cycle are
    fees.plan_gas of its hops. Raises ValueError naming the field, the value and the remedy.
    """
    first, second = _int_array("token0", token0), _int_array("token1", token1)
    numerator = _int_array("fee_numerator", fee_numerator)
    denominator = _int_array("fee_denominator", fee_denominator)
    scale = _int_array("decimals", decimals)
    _check(first, second, numerator, denominator, scale, hub, max_hops)
    cycles = _enumerate(first, second, hub, max_hops)
    if not cycles:
        raise ValueError(f"no cycle of at most {max_hops} hops passes through hub {hub}")
    count, pools = len(cycles), first.size
    cycle_pool = np.full((count, MAX_HOPS), -1, np.int64)
    cycle_side = np.zeros((count, MAX_HOPS), np.int64)
    uses = np.zeros((count, pools), np.float32)
    for index, cycle in enumerate(cycles):
        for hop, (pool, side) in enumerate(cycle):
            cycle_pool[index, hop], cycle_side[index, hop] = pool, side
            uses[index, pool] = 1.0
    hops = np.count_nonzero(cycle_pool >= 0, axis=1).astype(np.int64)
    by_pool = [np.flatnonzero(uses[:, pool]) for pool in range(pools)]
    start = np.concatenate([[0], np.cumsum([touching.size for touching in by_pool])])
    gamma = numerator / denominator
    gas = np.array([float(plan_gas(int(hop_count), base_gas, gas_per_hop)) for hop_count in hops])
    return Graph(
        token0=first,
        token1=second,
        fee_numerator=numerator,
        fee_denominator=denominator,
        gamma=gamma,
        decimals=scale,
        cycle_pool=cycle_pool,
        cycle_zero_for_one=cycle_side,
        cycle_hops=hops,
        cycle_gas=gas,
        conflict=(uses @ uses.T) > 0.0,
        pool_cycle_start=start.astype(np.int64),
        pool_cycle=np.concatenate(by_pool).astype(np.int64),
        cycles=_table(cycle_pool, cycle_side, pools),
        weights=np.concatenate([gamma, gas]),
        hub=int(hub),
    )
