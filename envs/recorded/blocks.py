"""Recorded slots that the market can play: base fees, gas, reference prices and swaps.

What is recorded is taken as it was; what is not (prices between two bars, tips of netted swaps) is
filled in as the functions below say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from history.blocks import Blocks, load_blocks
from history.mempool import load_mempool
from history.prices import Bars, SymbolBars
from history.swaps import PoolReserves, load_swap_logs, swaps_between
from history.transactions import load_transactions

SYMBOLS = ("ETHUSDT", "BTCUSDT")
SLOT_S = 12
BARS_EACH_SIDE = 6  # of the volatility around a bar
# Median priority fee after the merge (8,759 transactions): for swaps that are not single
# transactions, and so have no tip of their own.
TYPICAL_TIP_GWEI = 0.81
SECONDS_PER_BLOCK = 12.13  # slots of 12 s, of which 1.1 % are missed (14,650 blocks of May 2023)


@dataclass(frozen=True)
class PoolKey:
    """A pool whose swaps are recorded: its address (lower case) and its tokens."""

    address: str
    symbol0: str
    symbol1: str
    decimals0: int
    decimals1: int


@dataclass(frozen=True)
class Swaps:
    """m swaps in order of inclusion; those of slot k are start[k] .. start[k + 1]."""

    start: np.ndarray  # int64[n + 1]
    pool: np.ndarray  # int64[m], index into RecordedSlots.pools
    zero_for_one: np.ndarray  # bool[m], sells token0
    amount_in: np.ndarray  # float64[m], whole tokens
    tip_gwei: np.ndarray  # float64[m]
    seen_s: np.ndarray  # float64[m], seconds into the slot when the public mempool showed it
    private: np.ndarray  # bool[m], the public mempool never showed it


@dataclass(frozen=True)
class RecordedSlots:
    """n slots; `segment` is equal within consecutive ones, and an episode stays in one.

    Slot k begins with the prices and the reserves of row k (nan where they are not recorded); its
    block pays the base fee of row k, and its swaps lead to row k + 1. A missed slot has no block:
    its number and its gas are -1, its base fee is that of the next block.
    """

    block: np.ndarray  # int64[n]
    timestamp: np.ndarray  # int64[n], seconds since the epoch
    missed: np.ndarray  # bool[n]
    base_fee_wei: np.ndarray  # int64[n]
    gas_used: np.ndarray  # int64[n]
    gas_limit: np.ndarray  # int64[n]
    log_price: np.ndarray  # float64[n, 2], ln ETH/USD and ln BTC/USD
    segment: np.ndarray  # int64[n]
    reserves: np.ndarray  # float64[n, pools, 2], whole tokens
    swaps: Swaps
    pools: tuple[PoolKey, ...]
    source: str

    def __len__(self) -> int:
        return self.block.size


def bridged_prices(
    bars: SymbolBars, bar_minutes: int, timestamp: np.ndarray, seed: int = 0
) -> np.ndarray:
    """ln price float64[n] at each `timestamp` int64[n] (seconds, rising) that the bars cover.

    At a bar's close it is the close; between closes a Brownian bridge with the volatility of the
    bars around, drawn from (seed, symbol), so that prices inside a bar do not run straight to where
    they end. Raises ValueError naming the first time without bars.
    """
    step = bar_minutes * 60
    close_time = (bars.minute + bar_minutes) * 60
    after = np.searchsorted(close_time, timestamp)  # the close at or after each time
    reached = np.minimum(after, close_time.size - 1)
    covered = (after < close_time.size) & (
        (close_time[reached] == timestamp)
        | ((after > 0) & (close_time[reached] - close_time[np.maximum(after - 1, 0)] == step))
    )
    if not covered.all():
        missing = np.datetime64(int(timestamp[int(np.argmin(covered))]), "s")
        raise ValueError(
            f"{bars.symbol}: no bar covers {missing}Z; give bars without a gap from "
            f"{np.datetime64(int(timestamp[0]), 's')}Z to {np.datetime64(int(timestamp[-1]), 's')}Z"
        )
    close = np.log(bars.ohlcv[:, 3])
    # A free Brownian path through all times and closes, less its own straight line.
    grid = np.union1d(timestamp, close_time[max(int(after[0]) - 1, 0) : int(reached[-1]) + 1])
    key = np.array([seed, int.from_bytes(bars.symbol[:8].encode(), "big")], np.uint64)
    normals = np.random.Generator(np.random.Philox(key=key)).standard_normal(grid.size)
    free = np.cumsum(normals * np.sqrt(np.diff(grid, prepend=grid[0]) / step))
    at_close = np.isin(grid, close_time)
    line = np.interp(grid, grid[at_close], free[at_close])
    bridge = (free - line)[np.searchsorted(grid, timestamp)]
    return np.interp(timestamp, close_time, close) + _deviation(close)[reached] * bridge


def _deviation(close: np.ndarray) -> np.ndarray:
    """Root mean square return of the bars around each, float64[n]."""
    squares = np.cumsum(np.concatenate([[0.0, 0.0], np.diff(close) ** 2]))
    bar = np.arange(close.size)
    first = np.maximum(bar - BARS_EACH_SIDE, 0)
    last = np.minimum(bar + BARS_EACH_SIDE + 1, close.size)
    return np.sqrt((squares[last] - squares[first]) / (last - first))


def slot_prices(bars: Bars, timestamp: np.ndarray, seed: int = 0) -> np.ndarray:
    """float64[n, 2] for `RecordedSlots.log_price` from bars of ETHUSDT and BTCUSDT.

    Bars without BTCUSDT give a constant bitcoin price of one dollar, for markets without it.
    """
    columns = [
        bridged_prices(bars.of(symbol), bars.bar_minutes, timestamp, seed)
        if symbol in bars.symbols
        else np.zeros(timestamp.size)
        for symbol in SYMBOLS
    ]
    return np.stack(columns, axis=1)


def slots_of_blocks(blocks: Blocks, bars: Bars, seed: int = 0) -> RecordedSlots:
    """Base fees, gas and prices of recorded blocks; users are left to the simulator.

    After the merge slots are 12 s apart and a longer gap is missed slots; before it, where times
    are irregular, every block is a slot.
    """
    slot, timestamp, segment = _slot_grid(blocks)
    n = timestamp.size
    missed = np.ones(n, np.bool_)
    missed[slot] = False
    following = np.searchsorted(slot, np.arange(n))  # the block in a slot, or the next one
    return RecordedSlots(
        block=np.where(missed, -1, blocks.number[following]),
        timestamp=timestamp,
        missed=missed,
        base_fee_wei=blocks.base_fee_wei[following],
        gas_used=np.where(missed, -1, blocks.gas_used[following]),
        gas_limit=blocks.gas_limit[following],
        log_price=slot_prices(bars, timestamp, seed),
        segment=segment,
        reserves=np.full((n, 0, 2), np.nan),
        swaps=_swaps(n, *(np.zeros(0) for _ in range(7))),
        pools=(),
        source=f"{blocks.source}, {bars.source}",
    )


def _slot_grid(blocks: Blocks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slot of each block int64[b], and time and segment of each slot int64[n]."""
    slots, times, segments, first = [], [], [], 0
    for run in np.unique(blocks.segment):
        time = blocks.timestamp[blocks.segment == run]
        steps = np.diff(time)
        if np.all(steps % SLOT_S == 0):
            place = (time - time[0]) // SLOT_S
            times.append(time[0] + SLOT_S * np.arange(place[-1] + 1))
        else:
            place = np.arange(time.size)
            times.append(time)
        slots.append(first + place)
        segments.append(np.full(times[-1].size, run))
        first += times[-1].size
    return np.concatenate(slots), np.concatenate(times), np.concatenate(segments)


def _swaps(
    slots: int,
    slot: np.ndarray,
    pool: np.ndarray,
    zero_for_one: np.ndarray,
    amount_in: np.ndarray,
    tip_gwei: np.ndarray,
    seen_s: np.ndarray,
    private: np.ndarray,
) -> Swaps:
    """Swaps sorted by slot, kept in order within one."""
    order = np.argsort(slot, kind="stable")
    return Swaps(
        start=np.searchsorted(slot[order], np.arange(slots + 1)).astype(np.int64),
        pool=pool[order].astype(np.int64),
        zero_for_one=zero_for_one[order].astype(np.bool_),
        amount_in=amount_in[order].astype(np.float64),
        tip_gwei=tip_gwei[order].astype(np.float64),
        seen_s=seen_s[order].astype(np.float64),
        private=private[order].astype(np.bool_),
    )


def slots_of_reserves(
    reserves: PoolReserves,
    key: PoolKey,
    bars: Bars,
    first_timestamp: int,
    blocks: Blocks,
    seed: int = 0,
) -> RecordedSlots:
    """Swaps of one V2 pool, found again from its reserves, under the base fees of `blocks`.

    Files of reserves tell no time: blocks are `SECONDS_PER_BLOCK` apart from `first_timestamp`, the
    time of the first one. Base fees are taken in order from `blocks`, which may be of another
    date: a spliced record, whose gas and swaps did not happen together. A net swap has no tip of
    its own, so `TYPICAL_TIP_GWEI` it is; all are public from the slot's start. Where liquidity
    moved, a segment ends.
    """
    n = min(len(reserves), len(blocks)) - 1
    found = swaps_between(reserves)
    units = np.array([10.0**key.decimals0, 10.0**key.decimals1])
    both = np.stack([reserves.reserve0, reserves.reserve1], axis=1) / units
    timestamp = first_timestamp + np.rint(SECONDS_PER_BLOCK * np.arange(1, n + 1)).astype(np.int64)
    joint = (blocks.segment[1 : n + 1] == blocks.segment[:n]) & found.traded[:n]
    # A sale of token0 comes before one of token1 in the same block, as `swaps_between` has it.
    sold = np.stack([found.sold0, found.sold1], axis=1)[:n] / units
    slot, side = np.nonzero(sold)
    m = slot.size
    tips = np.full(m, TYPICAL_TIP_GWEI)
    return RecordedSlots(
        block=reserves.number[1 : n + 1],
        timestamp=timestamp,
        missed=np.zeros(n, np.bool_),
        base_fee_wei=blocks.base_fee_wei[:n],
        gas_used=blocks.gas_used[:n],
        gas_limit=blocks.gas_limit[:n],
        log_price=slot_prices(bars, timestamp, seed),
        segment=np.cumsum(np.concatenate([[False], ~joint[:-1]])),
        reserves=both[:n, None, :],
        swaps=_swaps(n, slot, np.zeros(m), side == 0, sold[slot, side], tips, *np.zeros((2, m))),
        pools=(key,),
        source=f"{reserves.source}, {blocks.source}, {bars.source}",
    )


def slots_of_cryo(
    blocks: Path,
    logs: Path,
    transactions: Path,
    pools: Sequence[PoolKey],
    bars: Bars,
    mempool: Path | None = None,
    seed: int = 0,
) -> RecordedSlots:
    """Everything from cryo's blocks, logs and transactions of the same range (files or folders).

    A swap is private when its transaction is not in `mempool`, a mempool-dumpster file of the same
    time; without one all are public from the slot's start. Swaps of other pools, and of
    transactions that are not there, are left out. Raises TableError or ValueError.
    """
    recorded = load_blocks(blocks)
    slots = slots_of_blocks(recorded, bars, seed)
    place = pl.DataFrame({"block_number": slots.block, "slot": np.arange(len(slots))})
    rows = load_swap_logs(logs).filter(pl.col("pool").is_in([key.address for key in pools]))
    included = load_transactions(transactions, blocks).select(
        "block_number", "transaction_index", "transaction_hash", "priority_fee_gwei"
    )
    rows = rows.join(included, on=["block_number", "transaction_index"], maintain_order="left")
    rows = rows.join(place, on="block_number", maintain_order="left")
    slot = rows["slot"].to_numpy()
    index = {key.address: k for k, key in enumerate(pools)}
    pool = np.array([index[address] for address in rows["pool"]], np.int64)
    forward = (rows["amount0"] > 0).to_numpy()
    units = 10.0 ** np.array([[key.decimals0, key.decimals1] for key in pools])
    amounts = [rows[name].cast(pl.Float64).to_numpy() for name in ("amount0", "amount1")]
    paid = np.where(forward, amounts[0] / units[pool, 0], amounts[1] / units[pool, 1])
    seen_s, private = np.zeros(len(rows)), np.zeros(len(rows), np.bool_)
    if mempool is not None:
        seen_s, private = _first_seen(rows, slots.timestamp[slot], mempool)
    tips = rows["priority_fee_gwei"].to_numpy()
    n = len(slots)
    return replace(
        slots,
        reserves=np.full((n, len(pools), 2), np.nan),
        swaps=_swaps(n, slot, pool, forward, paid, tips, seen_s, private),
        pools=tuple(pools),
        source=f"{blocks}, {logs}, {bars.source}",
    )


def _first_seen(
    rows: pl.DataFrame, slot_time: np.ndarray, mempool: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Second of the slot at which each transaction was in public, and whether it never was.

    A block's timestamp is its slot's start, and what it includes was sent in the 12 s before: the
    decisions of the slot that ends there.
    """
    seen = load_mempool(mempool).select(
        transaction_hash=pl.col("hash").str.to_lowercase(), seen_ms="timestamp_ms"
    )
    seen = seen.unique("transaction_hash", keep="first", maintain_order=True)
    first = rows.join(seen, on="transaction_hash", how="left", maintain_order="left")["seen_ms"]
    private = first.is_null().to_numpy()
    begins_ms = (slot_time - SLOT_S) * 1000
    second = (first.fill_null(0).to_numpy() - begins_ms) / 1000.0
    return np.where(private, 0.0, np.clip(second, 0.0, SLOT_S)), private
