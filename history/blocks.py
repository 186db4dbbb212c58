"""Recorded blocks: base fee, time and gas, from cryo exports or files of base fees alone.

Where the gas is not recorded it follows from the base fees: EIP-1559 (execution-specs, Cancun) is
inverted exactly, and the gas limit is traced along the votes that block producers may cast.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from history.tables import INTEGER, MILLISECONDS, Column, TableError, read_table
from kernels.chain.fees import MAX_GAS_LIMIT, MIN_GAS_LIMIT, next_base_fee

WHAT = "blocks: block_number, timestamp, base_fee_per_gas"
# What geth's miners vote for unless told otherwise, from London to January 2025.
USUAL_GAS_LIMIT = 30_000_000
GAS_LIMIT_ADJUSTMENT = 1024  # a child's limit differs by less than parent // 1024
MAX_TRACED_LIMITS = 256  # paths of the limit kept in mind; 22 is the most seen on real blocks

COLUMNS = (
    Column(("block_number", "number"), INTEGER, low=0),
    Column(("timestamp",), MILLISECONDS, low=0),
    Column(("base_fee_per_gas", "basefee_wei", "base_fee_wei"), INTEGER, low=1, high=2.0**62),
    Column(("gas_used",), INTEGER, low=0, high=MAX_GAS_LIMIT, optional=True),
    Column(("gas_limit",), INTEGER, low=MIN_GAS_LIMIT, high=MAX_GAS_LIMIT, optional=True),
)


@dataclass(frozen=True)
class Blocks:
    """n blocks in order of their numbers; `segment` is equal within a run without a gap.

    Every block's base fee follows from its parent's by EIP-1559, exactly, within a segment.
    """

    number: np.ndarray  # int64[n], strictly increasing
    timestamp: np.ndarray  # int64[n], seconds since the epoch
    base_fee_wei: np.ndarray  # int64[n]
    gas_used: np.ndarray  # int64[n]
    gas_limit: np.ndarray  # int64[n]
    segment: np.ndarray  # int64[n]
    source: str

    def __len__(self) -> int:
        return self.number.size

    def select(self, rows: np.ndarray) -> "Blocks":
        """The blocks that bool[n] or int64[k] names, in order."""
        return Blocks(
            number=self.number[rows],
            timestamp=self.timestamp[rows],
            base_fee_wei=self.base_fee_wei[rows],
            gas_used=self.gas_used[rows],
            gas_limit=self.gas_limit[rows],
            segment=self.segment[rows],
            source=self.source,
        )


def load_blocks(path: str | Path) -> Blocks:
    """Blocks of a cryo export (file or folder), or of a file with base fees alone.

    Columns: block_number (or number), timestamp (seconds, or a clock time), base_fee_per_gas (or
    basefee_wei); gas_used and gas_limit where recorded. cryo exports no gas limit; it is traced,
    and so is the gas used where it is missing. The last block of a segment has no successor to
    tell its gas and is left out then. Raises TableError.
    """
    frame = read_table(path, COLUMNS, WHAT).unique(maintain_order=True).sort("block_number")
    number = frame["block_number"].to_numpy()
    twice = np.flatnonzero(np.diff(number) == 0)
    if twice.size:
        raise TableError(f"{path}: block {number[twice[0]]} twice with different values; keep one")
    # cryo stores whole seconds, which arrive here as if they were milliseconds.
    time = frame["timestamp"].to_numpy()
    timestamp = time if time.size == 0 or time.max() < 10**11 else time // 1000
    backwards = np.flatnonzero(np.diff(timestamp) <= 0)
    if backwards.size:
        raise TableError(
            f"{path}: block {number[backwards[0] + 1]}: timestamp does not rise; repair it"
        )
    fees = frame["base_fee_per_gas"].to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(number) != 1) + 1).tolist(), number.size]
    used, limit = _recorded(frame, "gas_used"), _recorded(frame, "gas_limit")
    kept, segments = [], []
    for index, (first, stop) in enumerate(pairwise(edges)):
        stop = _fill_gas(path, number, fees, used, limit, first, stop)
        kept.append(np.arange(first, stop))
        segments.append(np.full(stop - first, index, np.int64))
    rows = np.concatenate(kept)
    return Blocks(
        number=number[rows],
        timestamp=timestamp[rows],
        base_fee_wei=fees[rows],
        gas_used=used[rows],
        gas_limit=limit[rows],
        segment=np.concatenate(segments),
        source=str(path),
    )


def _recorded(frame: pl.DataFrame, column: str) -> np.ndarray:
    """int64[n], -1 where nothing is recorded."""
    return frame[column].fill_null(-1).to_numpy().astype(np.int64)


def _fill_gas(
    path: str | Path,
    number: np.ndarray,
    fees: np.ndarray,
    used: np.ndarray,
    limit: np.ndarray,
    first: int,
    stop: int,
) -> int:
    """Fill one segment's missing gas in place; the end of the blocks whose gas is known."""
    if stop == first:
        return stop
    rows = slice(first, stop)
    if np.all(used[rows] >= 0) and np.all(limit[rows] >= 0):
        for row in range(first, stop - 1):
            expected = next_base_fee(fees[row], used[row], limit[row])
            if expected != fees[row + 1]:
                raise TableError(
                    f"{path}: block {number[row + 1]}: base fee {fees[row + 1]}, but EIP-1559 "
                    f"gives {expected}; fees, gas and limit do not belong together"
                )
        return stop
    traced, _ = trace_gas_limit(fees[rows], used[rows])
    limit[first : stop - 1] = traced
    for row in range(first, stop - 1):
        if used[row] < 0:
            used[row] = gas_used_between(int(fees[row]), int(fees[row + 1]), int(limit[row]))
    return stop - 1


def gas_used_between(base_fee_wei: int, next_base_fee_wei: int, gas_limit: int) -> int:
    """The gas use nearest the target that turns one base fee into the next; -1 if none does.

    The exact inverse of EIP-1559: with target = gas_limit // 2, a rise by c > 0 needs the least d
    with floor(floor(fee d / target) / 8) >= c, d = ceil(8 c target / fee). At tens of gwei one unit
    of gas moves the fee by hundreds of wei, so that most fees cannot follow at all.
    """
    target = gas_limit // 2
    change = abs(next_base_fee_wei - base_fee_wei)
    if change == 0:
        return target
    distance = max(-(-8 * change * target // base_fee_wei), 1)
    used = target + distance if next_base_fee_wei > base_fee_wei else target - distance
    if not 0 <= used <= gas_limit:
        return -1
    # A rise is never less than 1 wei, so that one of 1 may come with less gas than computed.
    for candidate in (used, target + 1):
        if next_base_fee(base_fee_wei, candidate, gas_limit) == next_base_fee_wei:
            return candidate
    return -1


def trace_gas_limit(
    base_fee_wei: np.ndarray, gas_used: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """A path of gas limits int64[n - 1] under which every base fee follows exactly from its parent.

    Producers keep the limit or move it by the most that geth's rule allows, parent // 1024 - 1,
    stopping at their goal (`USUAL_GAS_LIMIT`, or the next tens of millions). Where no such vote
    fits, any limit within the protocol's bound is taken; the second value counts those blocks.
    `gas_used` int64[n], -1 where unknown, must then agree. Raises TableError if nothing fits.
    """
    fees = [int(fee) for fee in base_fee_wei]
    used = [-1] * len(fees) if gas_used is None else [int(gas) for gas in gas_used]
    known = _likely_limits(fees, used)
    steps: list[dict[int, int]] = []
    free_votes = 0
    for block in range(len(fees) - 1):
        candidates = known
        if steps:
            candidates = {vote: limit for limit in steps[-1] for vote in _votes(limit)}
            candidates |= {limit: limit for limit in steps[-1]}
        fits = _fitting(candidates, fees, used, block)
        if not fits:
            free_votes += 1
            anchors = steps[-1] if steps else known
            fits = _fitting(_any_vote(anchors), fees, used, block)
        if not fits:
            raise TableError(
                f"base fee {fees[block + 1]} wei cannot follow {fees[block]} under any gas limit "
                f"near {sorted(candidates)[:3]}; the blocks are not consecutive, or not EIP-1559"
            )
        steps.append(fits)
    path = np.empty(len(steps), np.int64)
    limit = next(iter(steps[-1])) if steps else 0
    for block in range(len(steps) - 1, -1, -1):
        path[block] = limit
        limit = steps[block][limit]
    return path, free_votes


def _votes(limit: int) -> set[int]:
    """Limits that a producer of geth's rule may give the child block."""
    step = limit // GAS_LIMIT_ADJUSTMENT - 1
    goal = round(limit / 10**6) * 10**6
    votes = {limit + step, limit - step}
    return votes | {goal} if abs(goal - limit) <= step else votes


def _likely_limits(fees: list[int], used: list[int]) -> dict[int, int]:
    """Where a trace may start: the usual limits and all that a few votes lead to."""
    limits = {USUAL_GAS_LIMIT, 36_000_000, 45_000_000, 60_000_000}
    for _ in range(4):
        limits |= {vote for limit in limits for vote in _votes(limit)}
    return {limit: limit for limit in sorted(limits, key=lambda x: abs(x - USUAL_GAS_LIMIT))}


def _any_vote(limits: dict[int, int]) -> dict[int, int]:
    """All limits within the protocol's bound of the likeliest one so far."""
    limit = next(iter(limits))
    bound = limit // GAS_LIMIT_ADJUSTMENT - 1
    return dict.fromkeys(range(limit - bound, limit + bound + 1), limit)


def _fitting(
    candidates: dict[int, int], fees: list[int], used: list[int], block: int
) -> dict[int, int]:
    """The candidates under which the next base fee follows, with their parents; nearest first."""
    fee, following, gas = fees[block], fees[block + 1], used[block]
    fits = {}
    for limit, parent in candidates.items():
        if gas >= 0:
            exact = gas <= limit and next_base_fee(fee, gas, limit) == following
        else:
            exact = gas_used_between(fee, following, limit) >= 0
        if exact:
            fits[limit] = parent
        if len(fits) == MAX_TRACED_LIMITS:
            break
    return fits
