"""Replays the recorded events of a V3 pool through the kernels and counts the exact matches.

Run `python -m envs.replay --pool FILE --events FILE [--json FILE]`; file layouts are those of
`history.pool_events`. A swap event does not say whether its input or its output was specified, nor
its price limit: all three ways are tried, and an event is exact when one of them reproduces both
amounts, price, tick and liquidity. Exit status 1 when an event is not exact.

Limits of the method: a recorded price that is wrong by less than what moves an amount by one unit
is a possible price limit. An amount that the file does not hold (see `history.pool_events`) is not
compared, and counted as such.
"""

from __future__ import annotations

from terminal import begin, ended

if __name__ == "__main__":
    begin("envs.replay")  # before the heavy imports: they take seconds

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from history.files import write_atomically
from history.pool_events import (
    BURN,
    MINT,
    SWAP,
    PoolEvent,
    PoolEventsError,
    read_events,
    read_pool,
)
from kernels.numbers.u256 import from_limbs, to_limbs
from kernels.pools.uniswap_v3.liquidity import (
    LiquidityChanges,
    empty_liquidity_results,
    modify_liquidity_batch,
)
from kernels.pools.uniswap_v3.pool import TradeResults, Trades, empty_results, swap_batch
from kernels.pools.uniswap_v3.state import PoolSnapshot, V3Pools, build_pools
from kernels.pools.uniswap_v3.state import read_pool as read_state
from kernels.pools.uniswap_v3.status import OK, REASONS

UNLIMITED = 2**255 - 1
SHOWN_MISMATCHES = 20


@dataclass(frozen=True)
class Mismatch:
    """An event that the kernels did not reproduce, with the closest attempt."""

    event: int  # place in the file
    kind: str
    block: int
    recorded: dict[str, int]
    computed: dict[str, int]
    reason: str


@dataclass
class ReplayReport:
    """Events by kind, how many were exact, and how each exact swap was found to be specified."""

    events: int = 0
    exact: int = 0
    by_kind: dict[str, int] = field(default_factory=lambda: {SWAP: 0, MINT: 0, BURN: 0})
    exact_by_kind: dict[str, int] = field(default_factory=lambda: {SWAP: 0, MINT: 0, BURN: 0})
    swaps_by_input: int = 0
    swaps_by_output: int = 0
    swaps_by_limit: int = 0
    ticks_crossed: int = 0
    amounts_not_recorded: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)


def replay(snapshot: PoolSnapshot, events: Sequence[PoolEvent]) -> ReplayReport:
    """Apply `events` in order to the pool in `snapshot`.

    After a swap that is not exact the recorded state is taken over, so that one error is counted
    once; the computed state stays where no pool could be in the recorded one. Raises ValueError for
    a snapshot that no contract could be in.
    """
    mints = sum(event.kind == MINT for event in events)
    room = 2 * mints + 1
    pools = build_pools([snapshot], spare_ticks=room)
    report = ReplayReport()
    for number, event in enumerate(events):
        report.events += 1
        report.by_kind[event.kind] += 1
        apply = _apply_swap if event.kind == SWAP else _apply_liquidity
        mismatch = apply(pools, number, event, report)
        if mismatch is None:
            report.exact += 1
            report.exact_by_kind[event.kind] += 1
        else:
            report.mismatches.append(mismatch)
            pools = _taken_over(pools, event, room)
    return report


def _apply_swap(
    pools: V3Pools, number: int, event: PoolEvent, report: ReplayReport
) -> Mismatch | None:
    """Try the three ways a swap may have been asked for, and keep the one that fits."""
    assert event.amount0 is not None
    assert event.sqrt_price_x96 is not None
    zero_for_one = event.amount0 > 0 or (event.amount0 == 0 and event.amount1 < 0)
    paid, received = event.amount0, -event.amount1
    if not zero_for_one:
        paid, received = event.amount1, -event.amount0
    limit = event.sqrt_price_x96
    ways = (
        ("swaps_by_input", True, paid, 0),
        ("swaps_by_output", False, received, 0),
        ("swaps_by_limit", True, UNLIMITED, limit),
    )
    before = copy.deepcopy(pools)
    closest, computed = before, {}
    recorded = {
        "amount0": event.amount0,
        "amount1": event.amount1,
        "sqrt_price_x96": event.sqrt_price_x96,
        "tick": event.tick or 0,
        "liquidity": event.liquidity or 0,
    }
    reason = "no way of specifying it fits"
    for name, exact_in, amount, price_limit in ways:
        if amount <= 0:
            continue
        results = _swap_one(pools, zero_for_one, exact_in, amount, price_limit)
        if results.status[0] != OK:
            reason = REASONS[int(results.status[0])]
            continue
        outcome = _swap_outcome(pools, results, zero_for_one)
        if outcome == recorded:
            setattr(report, name, getattr(report, name) + 1)
            report.ticks_crossed += int(results.ticks_crossed[0])
            return None
        if not computed:
            closest, computed = copy.deepcopy(pools), outcome
        _restore(pools, before)
    _restore(pools, closest)
    return Mismatch(number, event.kind, event.block, recorded, computed, reason)


def _swap_one(
    pools: V3Pools, zero_for_one: bool, exact_in: bool, amount: int, price_limit: int
) -> TradeResults:
    trades = Trades(
        pool=np.zeros(1, np.int32),
        zero_for_one=np.array([zero_for_one]),
        exact_in=np.array([exact_in]),
        amount=to_limbs([amount], 4),
        limit=to_limbs([price_limit], 4),
    )
    results = empty_results(1)
    swap_batch(pools, trades, results, True)
    return results


def _swap_outcome(pools: V3Pools, results: TradeResults, zero_for_one: bool) -> dict[str, int]:
    paid = from_limbs(results.amount_in)[0]
    received = from_limbs(results.amount_out)[0]
    state = read_state(pools, 0)
    return {
        "amount0": paid if zero_for_one else -received,
        "amount1": -received if zero_for_one else paid,
        "sqrt_price_x96": state.sqrt_price_x96,
        "tick": state.tick,
        "liquidity": state.liquidity,
    }


def _restore(pools: V3Pools, before: V3Pools) -> None:
    for array, saved in zip(pools, before, strict=True):
        array[...] = saved


def _apply_liquidity(
    pools: V3Pools, number: int, event: PoolEvent, report: ReplayReport
) -> Mismatch | None:
    changes = LiquidityChanges(
        pool=np.zeros(1, np.int32),
        lower=np.array([event.tick_lower], np.int32),
        upper=np.array([event.tick_upper], np.int32),
        mint=np.array([event.kind == MINT]),
        amount=to_limbs([event.amount or 0], 2),
    )
    results = empty_liquidity_results(1)
    modify_liquidity_batch(pools, changes, results)
    sign = 1 if event.kind == MINT else -1
    computed = {
        "amount0": sign * from_limbs(results.amount0)[0],
        "amount1": sign * from_limbs(results.amount1)[0],
    }
    recorded = {"amount1": event.amount1}
    if event.amount0 is None:
        report.amounts_not_recorded += 1
        del computed["amount0"]
    else:
        recorded["amount0"] = event.amount0
    if results.status[0] == OK and computed == recorded:
        return None
    reason = REASONS[int(results.status[0])]
    return Mismatch(number, event.kind, event.block, recorded, computed, reason)


def _taken_over(pools: V3Pools, event: PoolEvent, room: int) -> V3Pools:
    """The pool with what the event says about its state after it."""
    state = read_state(pools, 0)
    if event.kind != SWAP:
        return pools
    state = replace(
        state,
        sqrt_price_x96=event.sqrt_price_x96,
        tick=event.tick,
        liquidity=event.liquidity,
    )
    try:
        return build_pools([state], spare_ticks=room)
    except ValueError:
        return pools


def summary(report: ReplayReport) -> str:
    """The counts in words, and the first mismatches."""
    kinds = ", ".join(
        f"{report.exact_by_kind[kind]} of {report.by_kind[kind]} {kind.lower()}s"
        for kind in (SWAP, MINT, BURN)
    )
    lines = [
        f"{report.exact} of {report.events} events exact ({kinds})",
        (
            f"swaps by input {report.swaps_by_input}, by output {report.swaps_by_output}, "
            f"by price limit {report.swaps_by_limit}; {report.ticks_crossed} ticks crossed"
        ),
    ]
    if report.amounts_not_recorded:
        lines.append(
            f"amount0 of {report.amounts_not_recorded} burns is not in the file, which repeats "
            "their liquidity there: compared by amount1 and by the liquidity of later swaps"
        )
    for mismatch in report.mismatches[:SHOWN_MISMATCHES]:
        lines.append(
            f"event {mismatch.event} ({mismatch.kind}, block {mismatch.block}): {mismatch.reason}; "
            f"recorded {mismatch.recorded}, computed {mismatch.computed}"
        )
    if len(report.mismatches) > SHOWN_MISMATCHES:
        lines.append(f"and {len(report.mismatches) - SHOWN_MISMATCHES} more")
    return "\n".join(lines)


def _write_json(path: Path, report: ReplayReport) -> None:
    write_atomically(path, json.dumps(asdict(report), indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m envs.replay", description=__doc__)
    parser.add_argument("--pool", type=Path, required=True, help="state of the pool before")
    parser.add_argument("--events", type=Path, required=True, help="its events after that block")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    options = parser.parse_args(arguments)
    try:
        recorded = read_pool(options.pool)
        address, events = read_events(options.events)
        if address != recorded.address:
            raise PoolEventsError(
                f"{options.events}: events of pool {address}, but {options.pool} holds "
                f"{recorded.address}: give files of the same pool"
            )
        if events and events[0].block <= recorded.block:
            raise PoolEventsError(
                f"{options.events}: event 0 is of block {events[0].block}, the state is after "
                f"block {recorded.block}: drop the events that the state already holds"
            )
        report = replay(recorded.snapshot, events)
    except ValueError as error:
        print(f"envs.replay: {error}", file=sys.stderr)
        return 2
    print(summary(report))
    if options.json:
        _write_json(options.json, report)
    return 1 if report.mismatches else 0


if __name__ == "__main__":
    ended("envs.replay", main)
