"""Recorded life of one Uniswap V3 pool: its complete state at a block and the events after it.

Both are JSON, plain or gzipped, in the layout of Uniswap-Simulator (chris-aubin): the state is
`{"poolAddress", "block", "data": {fee, tickSpacing, liquidity, slot0, ticks, ...}}`, the events are
`{"poolAddress", "data": [{"method": "SWAP" | "MINT" | "BURN", "blockNo", "amount0", ...}]}`.
Integers may be decimal strings; a float would have lost digits and is refused. That tool writes the
liquidity of a burn where its amount0 belongs: such a file is noticed, and the field left out.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kernels.pools.uniswap_v3.forks import UNISWAP_V3
from kernels.pools.uniswap_v3.state import PoolSnapshot

SWAP, MINT, BURN = "SWAP", "MINT", "BURN"
GZIP_MAGIC = b"\x1f\x8b"
# A pool file is a few MB; a gzip bomb of a few kB must not fill the memory.
MAX_FILE_BYTES = 1 << 30


class PoolEventsError(ValueError):
    """A file that cannot be used; the message names file, field, value and remedy."""


@dataclass(frozen=True)
class RecordedPool:
    """A pool's address (lower case) and its state after `block`."""

    address: str
    block: int
    snapshot: PoolSnapshot


@dataclass(frozen=True)
class PoolEvent:
    """One event. Amounts are signed as in the Swap event: positive was paid to the pool.

    Swaps carry the state after them; mints and burns their range and liquidity (None elsewhere).
    """

    kind: str  # SWAP, MINT or BURN
    block: int
    amount0: int | None  # None for a burn of a file that does not record it
    amount1: int
    sqrt_price_x96: int | None = None
    liquidity: int | None = None
    tick: int | None = None
    tick_lower: int | None = None
    tick_upper: int | None = None
    amount: int | None = None


def read_pool(path: Path) -> RecordedPool:
    """Read a pool's state. Raises PoolEventsError.

    Only the ticks that the file lists are known to be as it says: the first and the last of them
    bound `known_ticks`. Ticks without liquidity are listed by some sources and are dropped.
    """
    content = _load(path)
    data = _field(path, content, "data", dict)
    slot0 = _field(path, data, "slot0", dict)
    entries = _field(path, data, "ticks", dict)
    listed = {_integer(path, "ticks", tick): entry for tick, entry in entries.items()}
    if not listed:
        raise PoolEventsError(f"{path}: ticks is empty: give the state of a pool with liquidity")
    ticks = {}
    for tick, entry in listed.items():
        where = f"ticks[{tick}]"
        if not isinstance(entry, dict):
            raise PoolEventsError(f"{path}: {where} is {type(entry).__name__}, not an object")
        gross = _integer_field(path, entry, "liquidityGross", where)
        if gross:
            ticks[tick] = (gross, _integer_field(path, entry, "liquidityNet", where))
    snapshot = PoolSnapshot(
        sqrt_price_x96=_integer_field(path, slot0, "sqrtPriceX96", "slot0"),
        tick=_integer_field(path, slot0, "tick", "slot0"),
        liquidity=_integer_field(path, data, "liquidity", "data"),
        fee_pips=_integer_field(path, data, "fee", "data"),
        tick_spacing=_integer_field(path, data, "tickSpacing", "data"),
        ticks=ticks,
        protocol_fee=_protocol_fee(path, slot0),
        fork=UNISWAP_V3,
        known_ticks=(min(listed), max(listed)),
    )
    return RecordedPool(
        address=_field(path, content, "poolAddress", str).lower(),
        block=_integer_field(path, content, "block", "file"),
        snapshot=snapshot,
    )


def _protocol_fee(path: Path, slot0: dict[str, Any]) -> tuple[int, int]:
    """V3 packs the denominators of both directions in one byte."""
    packed = _integer_field(path, slot0, "feeProtocol", "slot0") if "feeProtocol" in slot0 else 0
    if not 0 <= packed < 256:
        raise PoolEventsError(f"{path}: slot0.feeProtocol = {packed}: expected a uint8")
    return packed % 16, packed >> 4


def read_events(path: Path) -> tuple[str, list[PoolEvent]]:
    """Read (pool address in lower case, events in file order). Raises PoolEventsError.

    The order must be the chain's: a block number that falls names the event.
    """
    content = _load(path)
    rows = _field(path, content, "data", list)
    events = [_event(path, number, row) for number, row in enumerate(rows)]
    for number in range(1, len(events)):
        if events[number].block < events[number - 1].block:
            raise PoolEventsError(
                f"{path}: event {number} of block {events[number].block} follows block "
                f"{events[number - 1].block}: sort the events by block and log index"
            )
    return _field(path, content, "poolAddress", str).lower(), _without_false_amounts(events)


def _without_false_amounts(events: list[PoolEvent]) -> list[PoolEvent]:
    """Leave amount0 of burns out where every one of them repeats the liquidity there.

    Equal by chance, in one event of a sound file, is possible; in all of them it is the file.
    """
    burns = [event for event in events if event.kind == BURN and event.amount]
    if not burns or any(event.amount0 != -(event.amount or 0) for event in burns):
        return events
    return [
        replace(event, amount0=None) if event.kind == BURN and event.amount else event
        for event in events
    ]


def _event(path: Path, number: int, row: Any) -> PoolEvent:
    where = f"event {number}"
    if not isinstance(row, dict):
        raise PoolEventsError(f"{path}: {where} is {type(row).__name__}, not an object")
    kind = _field(path, row, "method", str)

    def value(name: str, low: int, high: int) -> int:
        found = _integer_field(path, row, name, where)
        if not low <= found <= high:
            raise PoolEventsError(
                f"{path}: {where}.{name} = {found}: expected {low}..{high}, as in the contract's "
                "event"
            )
        return found

    common = {"block": value("blockNo", 0, 2**63 - 1)}
    if kind == SWAP:
        return PoolEvent(
            kind=kind,
            **common,
            amount0=value("amount0", -(2**255), 2**255 - 1),
            amount1=value("amount1", -(2**255), 2**255 - 1),
            sqrt_price_x96=value("sqrtPriceX96", 0, 2**160 - 1),
            liquidity=value("liquidity", 0, 2**128 - 1),
            tick=value("tick", -(2**23), 2**23 - 1),
        )
    if kind in (MINT, BURN):
        sign = 1 if kind == MINT else -1
        return PoolEvent(
            kind=kind,
            **common,
            amount0=sign * value("amount0", 0, 2**256 - 1),
            amount1=sign * value("amount1", 0, 2**256 - 1),
            tick_lower=value("tickLower", -(2**23), 2**23 - 1),
            tick_upper=value("tickUpper", -(2**23), 2**23 - 1),
            amount=value("amount", 0, 2**128 - 1),
        )
    raise PoolEventsError(
        f"{path}: {where} has method {kind!r}: expected SWAP, MINT or BURN; drop other events"
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            source = gzip.GzipFile(fileobj=file) if packed else file
            raw = source.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise PoolEventsError(f"{path}: cannot be read: {error}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise PoolEventsError(f"{path}: larger than {MAX_FILE_BYTES} bytes unpacked: split it")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PoolEventsError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise PoolEventsError(f"{path}: holds {type(content).__name__}, not an object")
    return content


def _field(path: Path, holder: dict[str, Any], name: str, kind: type) -> Any:
    found = holder.get(name)
    if not isinstance(found, kind):
        raise PoolEventsError(
            f"{path}: {name} is {'missing' if found is None else type(found).__name__}: "
            f"expected {kind.__name__}"
        )
    return found


def _integer_field(path: Path, holder: dict[str, Any], name: str, where: str) -> int:
    if name not in holder:
        raise PoolEventsError(f"{path}: {where} has no {name}")
    return _integer(path, f"{where}.{name}", holder[name])


def _integer(path: Path, name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= 78:
            return int(value)
    raise PoolEventsError(
        f"{path}: {name} = {str(value)[:80]!r}: expected an integer or a string of its decimal "
        "digits; a float has lost some"
    )
