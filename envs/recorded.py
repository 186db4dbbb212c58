"""Recorded slots that the market can play: base fees, gas, reference prices and swaps by block.

One block is one slot. What is recorded is taken as it was; what is not (prices between two bars,
tips of netted swaps) is filled in as the functions below say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from envs.paths import SLOTS_PER_MINUTE, PricePaths, price_paths
from history.blocks import Blocks, load_blocks
from history.mempool import load_mempool
from history.prices import Bars, SymbolBars
from history.swaps import PoolReserves, load_swap_logs, swaps_between
from history.transactions import load_transactions

SYMBOLS = ("ETHUSDT", "BTCUSDT")
BARS_EACH_SIDE = 6  # of the volatility around a bar
# Median priority fee after the merge (8,759 transactions): for swaps that are not single
# transactions, and so have no tip of their own.
TYPICAL_TIP_GWEI = 0.81
SECONDS_PER_BLOCK = 12.13  # slots of 12 s, of which 1.1 % are missed (14,650 blocks of May 2023)


@dataclass(frozen=True)
class PoolKey:
    """A pool whose swaps are recorded: its address (lower case) and its tokens' decimals."""

    address: str
    decimals0: int
    decimals1: int


@dataclass(frozen=True)
class Swaps:
    """m swaps in order of inclusion; those of slot k are start[k] .. start[k + 1]."""

    start: np.ndarray  # int64[n + 1]
    pool: np.ndarray  # int64[m], index into the recorded pools
    zero_for_one: np.ndarray  # bool[m], sells token0
    amount_in: np.ndarray  # float64[m], whole tokens
    tip_gwei: np.ndarray  # float64[m]
    private: np.ndarray  # bool[m], was not seen in the public mempool


@dataclass(frozen=True)
class RecordedSlots:
    """n slots; `segment` is equal within consecutive blocks, and an episode stays in one.

    Slot k begins with the fees and prices of row k and with `reserves` row k (nan where they are
    not recorded), and its swaps lead to row k + 1.
    """

    block: np.ndarray  # int64[n]
    timestamp: np.ndarray  # int64[n], seconds since the epoch
    base_fee_wei: np.ndarray  # int64[n]
    gas_used: np.ndarray  # int64[n]
    gas_limit: np.ndarray  # int64[n]
    log_price: np.ndarray  # float64[n, 2], ln ETH/USD and ln BTC/USD when the slot begins
    segment: np.ndarray  # int64[n]
    reserves: np.ndarray  # float64[n, pools, 2], whole tokens
    swaps: Swaps
    source: str

    def __len__(self) -> int:
        return self.block.size

    def paths(self) -> PricePaths:
        """The reference prices as the market reads them: minute m begins with slot 5 m.

        Segments are cut to whole minutes and counted from their own first slot, so that slot
        5 m + s of row m is row `rows()[5 m + s]` here.
        """
        rows = self.rows()[::SLOTS_PER_MINUTE]
        return price_paths(
            np.exp(self.log_price[rows, 0]),
            np.exp(self.log_price[rows, 1]),
            segment=self.segment[rows],
            source=self.source,
        )

    def rows(self) -> np.ndarray:
        """The slots int64[5 * minutes] that `paths()` covers, segment by segment."""
        kept = []
        for segment in np.unique(self.segment):
            rows = np.flatnonzero(self.segment == segment)
            kept.append(rows[: rows.size // SLOTS_PER_MINUTE * SLOTS_PER_MINUTE])
        return np.concatenate(kept)


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
    """Base fees, gas and prices of recorded blocks; users are left to the simulator."""
    n = len(blocks)
    return RecordedSlots(
        block=blocks.number,
        timestamp=blocks.timestamp,
        base_fee_wei=blocks.base_fee_wei,
        gas_used=blocks.gas_used,
        gas_limit=blocks.gas_limit,
        log_price=slot_prices(bars, blocks.timestamp, seed),
        segment=blocks.segment,
        reserves=np.full((n, 0, 2), np.nan),
        swaps=_no_swaps(n),
        source=f"{blocks.source}, {bars.source}",
    )


def _no_swaps(slots: int) -> Swaps:
    return _swaps(slots, *(np.zeros(0) for _ in range(6)))


def _swaps(
    slots: int,
    slot: np.ndarray,
    pool: np.ndarray,
    zero_for_one: np.ndarray,
    amount_in: np.ndarray,
    tip_gwei: np.ndarray,
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
    its own, so `TYPICAL_TIP_GWEI` it is; each is public. Where liquidity moved, a segment ends.
    """
    n = min(len(reserves), len(blocks)) - 1
    found = swaps_between(reserves)
    units = np.array([10.0**key.decimals0, 10.0**key.decimals1])
    both = np.stack([reserves.reserve0, reserves.reserve1], axis=1) / units
    timestamp = first_timestamp + np.rint(SECONDS_PER_BLOCK * np.arange(1, n + 1)).astype(np.int64)
    joint = (blocks.segment[1 : n + 1] == blocks.segment[:n]) & found.traded[:n]
    # A token0 sale comes before the token1 sale of the same block, as `swaps_between` applies them.
    sold = np.stack([found.sold0, found.sold1], axis=1)[:n] / units
    slot, side = np.nonzero(sold)
    m = slot.size
    return RecordedSlots(
        block=reserves.number[1 : n + 1],
        timestamp=timestamp,
        base_fee_wei=blocks.base_fee_wei[:n],
        gas_used=blocks.gas_used[:n],
        gas_limit=blocks.gas_limit[:n],
        log_price=slot_prices(bars, timestamp, seed),
        segment=np.cumsum(np.concatenate([[False], ~joint[:-1]])),
        reserves=both[:n, None, :],
        swaps=_swaps(
            n,
            slot,
            np.zeros(m),
            side == 0,
            sold[slot, side],
            np.full(m, TYPICAL_TIP_GWEI),
            np.zeros(m),
        ),
        source=f"{reserves.source}, {blocks.source}, {bars.source}",
    )


def slots_of_cryo(
    blocks: Path,
    logs: Path,
    transactions: Path,
    pools: Sequence[PoolKey],
    bars: Bars,
    mempool: Path | None = None,
    reserves: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> RecordedSlots:
    """Everything from cryo's blocks, logs and transactions of the same range (files or folders).

    A swap is private when its transaction is not in `mempool`, a mempool-dumpster file of the same
    time; without one all are public. Swaps of other pools, and of transactions that are not there,
    are left out. `reserves` gives float64[n, 2] by pool address where they are known. Raises
    TableError or ValueError.
    """
    slots = load_blocks(blocks)
    rows = load_swap_logs(logs).filter(pl.col("pool").is_in([key.address for key in pools]))
    included = load_transactions(transactions, blocks).select(
        "block_number", "transaction_index", "transaction_hash", "priority_fee_gwei"
    )
    rows = rows.join(included, on=["block_number", "transaction_index"], maintain_order="left")
    slot = np.searchsorted(slots.number, rows["block_number"].to_numpy())
    known = slot < len(slots)
    known[known] &= slots.number[slot[known]] == rows["block_number"].to_numpy()[known]
    rows, slot = rows.filter(pl.Series(known)), slot[known]
    index = {key.address: k for k, key in enumerate(pools)}
    pool = np.array([index[address] for address in rows["pool"]], np.int64)
    forward = (rows["amount0"] > 0).to_numpy()
    paid = np.where(
        forward,
        rows["amount0"].cast(pl.Float64).to_numpy()
        / np.array([10.0**key.decimals0 for key in pools])[pool],
        rows["amount1"].cast(pl.Float64).to_numpy()
        / np.array([10.0**key.decimals1 for key in pools])[pool],
    )
    private = np.zeros(len(rows), np.bool_)
    if mempool is not None:
        seen = load_mempool(mempool)["hash"].str.to_lowercase()
        private = ~rows["transaction_hash"].is_in(seen.implode()).to_numpy()
    n = len(slots)
    states = np.full((n, len(pools), 2), np.nan)
    for address, values in (reserves or {}).items():
        states[:, index[address]] = values
    tips = rows["priority_fee_gwei"].to_numpy()
    return RecordedSlots(
        block=slots.number,
        timestamp=slots.timestamp,
        base_fee_wei=slots.base_fee_wei,
        gas_used=slots.gas_used,
        gas_limit=slots.gas_limit,
        log_price=slot_prices(bars, slots.timestamp, seed),
        segment=slots.segment,
        reserves=states,
        swaps=_swaps(n, slot, pool, forward, paid, tips, private),
        source=f"{blocks}, {logs}, {bars.source}",
    )
