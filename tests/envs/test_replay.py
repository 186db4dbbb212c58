"""Replay of recorded pool events: every event of the real files exact, and a wrong one noticed."""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from envs.replay import main, replay
from history.pool_events import BURN, MINT, SWAP, PoolEvent, read_events, read_pool
from kernels.pools.uniswap_v3.state import PoolSnapshot
from tests.support.uniswap_v3 import reference

DATA = os.environ.get("MEVRL_DATA")
POOL_FILE = "swaps/v3_wbtc_weth_3000_pool_before_16944668.json.gz"
SWAP_ROW = {
    "method": "SWAP",
    "blockNo": 1,
    "amount0": 1,
    "amount1": -1,
    "sqrtPriceX96": 2**96,
    "liquidity": 1,
    "tick": 0,
}
EVENTS_FILE = "swaps/v3_wbtc_weth_3000_events_16944669_16951788.json.gz"


@pytest.mark.skipif(DATA is None, reason="MEVRL_DATA is unset: the recorded events are not here")
def test_every_recorded_event_is_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    arguments = ["--pool", f"{DATA}/{POOL_FILE}", "--events", f"{DATA}/{EVENTS_FILE}"]
    status = main([*arguments, "--json", str(report)])
    printed = capsys.readouterr().out
    assert status == 0, printed
    found = json.loads(report.read_text())
    assert found["exact"] == found["events"] >= 250
    assert min(found["by_kind"].values()) > 0
    assert found["ticks_crossed"] > 0
    assert f"{found['events']} of {found['events']} events exact" in printed


def lived_pool(seed: int, actions: int) -> tuple[PoolSnapshot, list[PoolEvent]]:
    """A pool's state and the events of a random life, computed by the integer model."""
    rng = random.Random(seed)
    model = reference.Pool.initialized(3000, 60, reference.get_sqrt_ratio_at_tick(1000) + 1)
    for width in (5, 20, 80):
        model.modify_liquidity((16 - width) * 60, (16 + width) * 60, 10**20)
    snapshot = PoolSnapshot(
        model.sqrt_price,
        model.tick,
        model.liquidity,
        3000,
        60,
        {tick: (entry.liquidity_gross, entry.liquidity_net) for tick, entry in model.ticks.items()},
    )
    events = []
    held: list[tuple[int, int, int]] = []
    for block in range(1, actions + 1):
        if rng.random() < 0.2:
            lower = 60 * rng.randint(-20, 16)
            held.append((lower, lower + 60 * rng.randint(1, 40), 10 ** rng.randint(15, 19)))
            amounts = model.modify_liquidity(*held[-1])
            events.append(_liquidity_event(MINT, block, held[-1], amounts))
        elif rng.random() < 0.2 and held:
            lower, upper, amount = held.pop(rng.randrange(len(held)))
            amounts = model.modify_liquidity(lower, upper, -amount)
            events.append(_liquidity_event(BURN, block, (lower, upper, amount), amounts))
        else:
            events.append(_swap_event(rng, block, model))
    return snapshot, events


def _liquidity_event(
    kind: str, block: int, position: tuple[int, int, int], amounts: tuple[int, int]
) -> PoolEvent:
    lower, upper, amount = position
    return PoolEvent(kind, block, *amounts, tick_lower=lower, tick_upper=upper, amount=amount)


def _swap_event(rng: random.Random, block: int, model: reference.Pool) -> PoolEvent:
    zero_for_one = rng.random() < 0.5
    limit = reference.MIN_SQRT_RATIO + 1 if zero_for_one else reference.MAX_SQRT_RATIO - 1
    amount = int(10 ** rng.uniform(12, 19))
    kind = rng.random()
    if kind < 0.3:
        amount = -amount
    elif kind < 0.5:
        # bounded by its price limit, as an arbitrage to a reference price is
        step = rng.randint(1, 300)
        limit = reference.get_sqrt_ratio_at_tick(model.tick + (-step if zero_for_one else step))
        limit += -1 if zero_for_one else 1
        amount = 10**30
    done = model.swap(zero_for_one, amount, limit)
    return PoolEvent(
        SWAP, block, done.amount0, done.amount1, model.sqrt_price, model.liquidity, model.tick
    )


def test_all_three_ways_of_swapping_are_recognised() -> None:
    snapshot, events = lived_pool(seed=1, actions=150)
    report = replay(snapshot, events)
    assert not report.mismatches
    assert report.exact == report.events == 150
    assert min(report.swaps_by_input, report.swaps_by_output, report.swaps_by_limit) > 5
    assert report.ticks_crossed > 5


@pytest.mark.parametrize("field", ["amount0", "amount1", "sqrt_price_x96", "liquidity"])
def test_one_unit_off_is_noticed_and_counted_once(field: str) -> None:
    snapshot, events = lived_pool(seed=2, actions=60)
    swaps = [number for number, event in enumerate(events) if event.kind == SWAP]
    wrong = swaps[len(swaps) // 2]
    right = getattr(events[wrong], field)
    # Less of the price would be a possible price limit: it moves no amount by a unit.
    off = replace(
        events[wrong], **{field: right + (right >> 40 if field.startswith("sqrt") else 1)}
    )
    if field in ("amount0", "amount1"):
        # Amounts leave no trace in the state, so everything after it is exact again.
        report = replay(snapshot, [*events[:wrong], off, *events[wrong + 1 :]])
        assert [mismatch.event for mismatch in report.mismatches] == [wrong]
    else:
        report = replay(snapshot, [*events[:wrong], off])
        assert [mismatch.event for mismatch in report.mismatches] == [wrong]
        assert report.mismatches[0].computed[field] == right


def test_wrong_mint_is_noticed() -> None:
    snapshot, events = lived_pool(seed=3, actions=60)
    mint = next(number for number, event in enumerate(events) if event.kind == MINT)
    off = replace(events[mint], amount1=events[mint].amount1 + 1)
    report = replay(snapshot, [*events[:mint], off, *events[mint + 1 :]])
    assert [mismatch.event for mismatch in report.mismatches] == [mint]


def write_files(folder: Path, packed: bool, seed: int = 4, actions: int = 12) -> tuple[Path, Path]:
    """Files in the layout of the recorded ones, from a short random life."""
    snapshot, events = lived_pool(seed, actions)
    ticks = {
        str(tick): {"liquidityGross": str(gross), "liquidityNet": net}
        for tick, (gross, net) in snapshot.ticks.items()
    }
    # Sources list empty ticks too; the outermost ones bound what is known.
    ticks["-887220"] = ticks["887220"] = {"liquidityGross": 0, "liquidityNet": 0}
    pool = {
        "poolAddress": "0xABCD",
        "block": 0,
        "data": {
            "fee": 3000,
            "tickSpacing": 60,
            "liquidity": str(snapshot.liquidity),
            "slot0": {"sqrtPriceX96": str(snapshot.sqrt_price_x96), "tick": snapshot.tick},
            "ticks": ticks,
        },
    }
    rows = []
    for event in events:
        row = {
            "method": event.kind,
            "blockNo": event.block,
            "amount0": str(event.amount0 if event.kind == SWAP else abs(event.amount0 or 0)),
            "amount1": str(event.amount1 if event.kind == SWAP else abs(event.amount1)),
        }
        names = {
            "sqrt_price_x96": "sqrtPriceX96",
            "liquidity": "liquidity",
            "tick": "tick",
            "tick_lower": "tickLower",
            "tick_upper": "tickUpper",
            "amount": "amount",
        }
        fields = asdict(event)
        row |= {json_name: fields[name] for name, json_name in names.items() if fields[name]}
        row.setdefault("tick", 0)
        row.setdefault("tickLower", 0)
        row.setdefault("tickUpper", 0)
        rows.append(row)
    paths = folder / "pool.json", folder / "events.json"
    for path, content in zip(paths, (pool, {"poolAddress": "0xabcd", "data": rows}), strict=True):
        text = json.dumps(content).encode()
        path.write_bytes(gzip.compress(text) if packed else text)
    return paths


def test_burns_that_repeat_their_liquidity_are_compared_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One source writes the liquidity where amount0 belongs, in all burns; a file where one burn
    differs is taken at its word."""
    pool, path = write_files(tmp_path, packed=False, seed=7, actions=40)
    content = json.loads(path.read_text())
    burns = [row for row in content["data"] if row["method"] == "BURN"]
    assert len(burns) > 2
    for row in burns:
        row["amount0"] = row["amount"]
    path.write_text(json.dumps(content))
    assert main(["--pool", str(pool), "--events", str(path)]) == 0
    printed = capsys.readouterr().out
    assert f"40 of 40 events exact ({40 - printed_others(content)} of" in printed
    assert f"amount0 of {len(burns)} burns is not in the file" in printed
    assert {e.amount0 for e in read_events(path)[1] if e.kind == BURN} == {None}
    burns[0]["amount0"] = "0"
    path.write_text(json.dumps(content))
    assert main(["--pool", str(pool), "--events", str(path)]) == 1


def printed_others(content: dict) -> int:
    """Events of the file that are not swaps."""
    return sum(row["method"] != "SWAP" for row in content["data"])


@pytest.mark.parametrize("packed", [True, False])
def test_files_are_read_as_they_were_written(tmp_path: Path, packed: bool) -> None:
    pool, events = write_files(tmp_path, packed)
    snapshot, lived = lived_pool(seed=4, actions=12)
    recorded = read_pool(pool)
    assert recorded.address == "0xabcd"
    assert recorded.snapshot == replace(snapshot, known_ticks=(-887220, 887220))
    assert read_events(events) == ("0xabcd", lived)
    assert main(["--pool", str(pool), "--events", str(events)]) == 0


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("pool", {"poolAddress": "0x12"}, "give files of the same pool"),
        ("pool", {"block": 1}, "the state is after block 1"),
        ("pool", {"data": {}}, "slot0 is missing"),
        ("pool", {"data": 5}, "data is int: expected dict"),
        ("events", {"data": [{"method": "SWAP", "blockNo": 1.5}]}, "event 0.blockNo = '1.5'"),
        ("events", {"data": [{"method": "FLASH", "blockNo": 1}]}, "method 'FLASH'"),
        ("events", {"data": [7]}, "event 0 is int"),
        (
            "events",
            {"data": [SWAP_ROW | {"tick": 2**23}]},
            "event 0.tick = 8388608: expected -8388",
        ),
        ("events", {"data": [SWAP_ROW | {"sqrtPriceX96": -1}]}, "event 0.sqrtPriceX96 = -1"),
        ("events", {"data": [SWAP_ROW | {"liquidity": 2**128}]}, "event 0.liquidity = 34028"),
        ("events", {"data": [SWAP_ROW | {"amount1": str(2**255)}]}, "event 0.amount1 = 57896"),
    ],
)
def test_bad_files_are_refused_by_name(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    change: dict,
    message: str,
) -> None:
    pool, events = write_files(tmp_path, packed=False)
    path = pool if name == "pool" else events
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert main(["--pool", str(pool), "--events", str(events)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"[1]", b"{" * 10_000, b"\xff\xfe"])
def test_broken_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    pool, events = write_files(tmp_path, packed=False)
    events.write_bytes(content)
    assert main(["--pool", str(pool), "--events", str(events)]) == 2
    assert str(events) in capsys.readouterr().err
