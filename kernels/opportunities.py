"""The best arbitrages that can all execute in one block: disjoint in pools, best first."""

import numpy as np

from kernels.compile import inline, kernel
from kernels.graph import MAX_HOPS, POOL
from kernels.market import (
    BASE_FEE,
    FOUND_AGE,
    FOUND_AMOUNT_IN,
    FOUND_COUNT,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_NET,
    FOUND_TARGETS,
    LANES,
    OPPORTUNITIES,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_VISIBLE,
    SLOT,
    amount_in_row,
    gross_row,
    net_row,
    since_row,
)

GWEI = 1e-9  # ETH


@inline
def _nets(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray, lanes: int) -> None:
    """Net of every cycle, since when it has paid its gas, how many do, and which is best."""
    count = cycles.shape[0]
    pools = weights.shape[0] - count
    for lane in range(lanes):
        tile[FOUND_COUNT, lane] = 0.0
        tile[FOUND_CYCLE, lane] = -1.0
        tile[FOUND_NET, lane] = 0.0
    for cycle in range(count):
        gross, net = gross_row(pools, count) + cycle, net_row(pools, count) + cycle
        since = since_row(pools) + cycle
        gas = weights[pools + cycle] * GWEI
        for lane in range(lanes):
            profit = tile[gross, lane] - gas * (tile[BASE_FEE, lane] + tile[OWN_TIP, lane])
            tile[net, lane] = profit
            before = tile[since, lane]
            start = tile[SLOT, lane] if before < 0.0 else before
            tile[since, lane] = start if profit > 0.0 else -1.0
            tile[FOUND_COUNT, lane] += 1.0 if profit > 0.0 else 0.0
            best = tile[FOUND_NET, lane]
            tile[FOUND_CYCLE, lane] = cycle if profit > best else tile[FOUND_CYCLE, lane]
            tile[FOUND_NET, lane] = profit if profit > best else best


@inline
def _share_a_pool(cycles: np.ndarray, one: int, other: int) -> bool:
    for i in range(MAX_HOPS):
        pool = cycles[one, POOL + i]
        if pool >= 0:
            for j in range(MAX_HOPS):
                if pool == cycles[other, POOL + j]:
                    return True
    return False


@inline
def _choose_next(cycles: np.ndarray, first_net: int, tile: np.ndarray, lane: int, k: int) -> int:
    """The best cycle without a pool of the k chosen ones, -1 when none pays its gas."""
    best, best_net = -1, 0.0
    for cycle in range(cycles.shape[0]):
        net = tile[first_net + cycle, lane]
        if net <= best_net:
            continue
        free = True
        for earlier in range(k):
            if _share_a_pool(cycles, cycle, int(tile[FOUND_CYCLE + earlier, lane])):
                free = False
                break
        if free:
            best, best_net = cycle, net
    tile[FOUND_CYCLE + k, lane] = best
    tile[FOUND_NET + k, lane] = best_net
    return best


@inline
def _targets(cycles: np.ndarray, tile: np.ndarray, lane: int, cycle: int) -> int:
    """Bit m is set when visible pending swap m trades in a pool of `cycle`."""
    found = 0
    for swap in range(PENDING):
        visible = tile[PENDING_VISIBLE + swap, lane] > 0.0
        if visible and tile[PENDING_AMOUNT_IN + swap, lane] > 0.0:
            touched = int(tile[PENDING_POOL + swap, lane])
            for hop in range(MAX_HOPS):
                if touched == cycles[cycle, POOL + hop]:
                    found |= 1 << swap
    return found


@kernel
def find(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Choose K pool-disjoint cycles greedily by net = gross - gas * (base fee + own tip).

    Reads the sized cycles, the gas rows and the pending rows; writes the FOUND_* rows, best first:
    cycle (-1 none), amount_in (hub tokens), gross and net (ETH), targets (bit mask over pending
    swaps), age (slots); the net rows and since rows too. Ties go to the lower cycle index.
    """
    count = cycles.shape[0]
    pools = weights.shape[0] - count
    since, first_net = since_row(pools), net_row(pools, count)
    gross, amount = gross_row(pools, count), amount_in_row(pools, count)
    if tile.shape[1] == LANES:
        _nets(cycles, weights, tile, LANES)
    else:
        _nets(cycles, weights, tile, tile.shape[1])
    for lane in range(tile.shape[1]):
        chosen = 0
        while chosen < OPPORTUNITIES and chosen < int(tile[FOUND_COUNT, lane]):
            if chosen > 0 and _choose_next(cycles, first_net, tile, lane, chosen) < 0:
                break
            best = int(tile[FOUND_CYCLE + chosen, lane])
            tile[FOUND_AMOUNT_IN + chosen, lane] = tile[amount + best, lane]
            tile[FOUND_GROSS + chosen, lane] = tile[gross + best, lane]
            tile[FOUND_TARGETS + chosen, lane] = _targets(cycles, tile, lane, best)
            tile[FOUND_AGE + chosen, lane] = tile[SLOT, lane] - tile[since + best, lane]
            chosen += 1
        for k in range(chosen, OPPORTUNITIES):
            tile[FOUND_CYCLE + k, lane] = -1.0
            tile[FOUND_AMOUNT_IN + k, lane] = 0.0
            tile[FOUND_GROSS + k, lane] = 0.0
            tile[FOUND_NET + k, lane] = 0.0
            tile[FOUND_TARGETS + k, lane] = 0.0
            tile[FOUND_AGE + k, lane] = 0.0
