"""Recorded slots: every array belongs to its block, and the swaps lead from state to state."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from envs.recorded.blocks import (
    PoolKey,
    bridged_prices,
    slot_prices,
    slots_of_blocks,
    slots_of_cryo,
    slots_of_reserves,
)
from history.blocks import Blocks, load_blocks
from history.prices import Bars, SymbolBars, load_bars, minute_of
from history.swaps import V2_SWAP_TOPIC, V3_SWAP_TOPIC, load_v2_reserves
from kernels.chain.fees import next_base_fee
from tests.support.recorded import data_file

START = minute_of("2024-01-01")
FIRST_OF_2024 = START * 60 + 11  # block 18,908,895
USDC_WETH = PoolKey("0xb4e16d0168e52d35cacd2c6185b44281ec28c9dc", "USDC", "WETH", 6, 18)
GAMMA = 0.997


def bars_of(close: np.ndarray, symbol: str = "ETHUSDT", bar_minutes: int = 5) -> SymbolBars:
    minute = START + bar_minutes * np.arange(close.size)
    return SymbolBars(symbol, minute, np.repeat(close[:, None], 5, axis=1))


def walk(n: int, seed: int = 0, deviation: float = 2e-3) -> np.ndarray:
    return 2000.0 * np.exp(np.random.default_rng(seed).normal(0.0, deviation, n).cumsum())


def test_prices_meet_the_closes_and_wander_between_them() -> None:
    close = walk(2000)
    bars = bars_of(close)
    times = np.arange((START + 5) * 60, (START + 5 * 2000) * 60 + 1, 12)
    path = bridged_prices(bars, 5, times)
    np.testing.assert_allclose(path[::25], np.log(close), rtol=0, atol=1e-12)
    # 25 steps of 12 s share the variance of a bar.
    assert np.std(np.diff(path)) == pytest.approx(2e-3 / 5.0, rel=0.05)
    straight = np.interp(times, times[::25], np.log(close))
    middle = (path - straight)[12::25]
    assert np.std(middle) == pytest.approx(2e-3 * np.sqrt(12 * 13 / 625), rel=0.1)
    np.testing.assert_array_equal(path, bridged_prices(bars, 5, times))
    assert np.any(path != bridged_prices(bars, 5, times, seed=1))


def test_prices_that_are_not_covered_are_refused() -> None:
    bars = bars_of(walk(20))
    with pytest.raises(ValueError, match="no bar covers 2024-01-01T00:04:59Z"):
        bridged_prices(bars, 5, np.array([(START + 5) * 60 - 1]))
    gap = SymbolBars("ETHUSDT", np.delete(bars.minute, 9), np.delete(bars.ohlcv, 9, axis=0))
    inside, edge = np.array([(START + 48) * 60]), np.array([(START + 45) * 60])
    with pytest.raises(ValueError, match="no bar covers 2024-01-01T00:48"):
        bridged_prices(gap, 5, inside)
    assert bridged_prices(gap, 5, edge)[0] == np.log(bars.ohlcv[8, 3])
    with pytest.raises(ValueError, match="no bar covers"):
        bridged_prices(bars, 5, np.array([(START + 101) * 60]))


def chain(n: int, gap: int | None = None) -> Blocks:
    """Blocks every 12 s whose fees follow the rule, with a new segment after `gap`."""
    rng = np.random.default_rng(5)
    used = rng.integers(0, 30_000_001, n)
    fees = [20 * 10**9]
    for gas in used[:-1]:
        fees.append(next_base_fee(fees[-1], gas, 30_000_000))
    segment = np.zeros(n, np.int64)
    number = np.arange(n) + 100
    if gap is not None:
        segment[gap:], number[gap:] = 1, number[gap:] + 7
    time = (START + 5) * 60 + 12 * np.arange(n)
    limit = np.full(n, 30_000_000)
    return Blocks(number, time, np.array(fees), used, limit, segment, "blocks made here")


def test_missed_slots_stand_between_blocks() -> None:
    bars = Bars((bars_of(walk(400, 1), "BTCUSDT"), bars_of(walk(400))), 5, "bars made here")
    blocks = chain(30, gap=20)
    time = blocks.timestamp
    time[7:] += 24  # two slots without a block before block 107
    time[20:] += 600
    slots = slots_of_blocks(blocks, bars)
    assert len(slots) == 32
    assert np.flatnonzero(slots.missed).tolist() == [7, 8]
    assert slots.block[6:10].tolist() == [106, -1, -1, 107]
    assert slots.gas_used[7] == slots.gas_used[8] == -1
    assert np.all(slots.base_fee_wei[7:10] == blocks.base_fee_wei[7])
    assert np.all(np.diff(slots.timestamp)[slots.segment[1:] == slots.segment[:-1]] == 12)
    assert slots.segment.tolist() == [0] * 22 + [1] * 10
    assert slots.block[22] == blocks.number[20]
    assert slots.swaps.start.tolist() == [0] * 33
    assert "blocks made here" in slots.source
    assert "bars made here" in slots.source


def test_before_the_merge_every_block_is_a_slot() -> None:
    bars = Bars((bars_of(walk(400)),), 5, "bars made here")
    blocks = chain(30)
    blocks.timestamp[:] = blocks.timestamp[0] + np.cumsum(13 + np.arange(30) % 5)
    slots = slots_of_blocks(blocks, bars)
    assert not slots.missed.any()
    np.testing.assert_array_equal(slots.timestamp, blocks.timestamp)
    np.testing.assert_array_equal(slots.gas_used, blocks.gas_used)


def test_without_bitcoin_bars_its_price_is_constant() -> None:
    bars = Bars((bars_of(walk(40)),), 5, "x")
    assert np.all(slot_prices(bars, np.array([(START + 7) * 60]))[:, 1] == 0.0)


def cryo_files(folder: Path) -> dict[str, Path]:
    """Blocks, logs, transactions and the mempool of four blocks in the public layouts."""
    blocks = chain(5)
    table = pl.DataFrame(
        {
            "block_number": pl.Series(blocks.number, dtype=pl.UInt32),
            "gas_used": pl.Series(blocks.gas_used, dtype=pl.UInt64),
            "timestamp": pl.Series(blocks.timestamp, dtype=pl.UInt32),
            "base_fee_per_gas": pl.Series(blocks.base_fee_wei, dtype=pl.UInt64),
        }
    )
    pool, other = bytes.fromhex(USDC_WETH.address[2:]), bytes(20)
    v2, v3 = bytes.fromhex(V2_SWAP_TOPIC[2:]), bytes.fromhex(V3_SWAP_TOPIC[2:])

    def words(*values: int) -> bytes:
        return b"".join((value % (1 << 256)).to_bytes(32, "big") for value in values)

    swaps = [  # block, transaction, log, address, topic, data
        (103, 0, 4, pool, v3, words(-(5 * 10**6), 2 * 10**15, 2**96, 10**18, 0)),
        (101, 1, 2, pool, v2, words(0, 3 * 10**18, 6000 * 10**6, 0)),
        (101, 0, 1, pool, v2, words(2000 * 10**6, 0, 0, 10**18)),
        (101, 2, 9, other, v2, words(1, 0, 0, 1)),
        (104, 0, 1, pool, v2, words(1, 0, 0, 1)),  # block 104 is cut off: nothing follows it
        (99, 0, 1, pool, v2, words(1, 0, 0, 1)),
    ]
    logs = pl.DataFrame(
        {
            "block_number": [row[0] for row in swaps],
            "transaction_index": [row[1] for row in swaps],
            "log_index": [row[2] for row in swaps],
            "address": [row[3] for row in swaps],
            "topic0": [row[4] for row in swaps],
            "data": [row[5] for row in swaps],
        }
    )
    sent = [(101, 0), (101, 1), (101, 2), (103, 0), (104, 0)]
    fee = dict(zip(blocks.number.tolist(), blocks.base_fee_wei.tolist()))
    transactions = pl.DataFrame(
        {
            "block_number": [block for block, _ in sent],
            "transaction_index": [index for _, index in sent],
            "transaction_hash": [bytes([block, index]) * 16 for block, index in sent],
            "transaction_type": [2] * 5,
            "from_address": [bytes(20)] * 5,
            "to_address": [bytes(20)] * 5,
            "nonce": [0] * 5,
            "gas_limit": [200_000] * 5,
            "gas_price": [fee[block] + 10**9 * (1 + index) for block, index in sent],
        }
    )
    seen = pl.DataFrame(
        {
            "timestamp_ms": [1_000 * int(blocks.timestamp[1]) - 4_500],
            "hash": ["0x" + (bytes([101, 1]) * 16).hex()],
            "from": ["0x00"],
            "to": ["0x00"],
            "value": ["0"],
            "nonce": ["0"],
            "gas": ["200000"],
            "gas_tip_cap": ["1"],
            "gas_fee_cap": ["1"],
            "data_4bytes": ["0x38ed1739"],
        }
    )
    files = {"blocks": table, "logs": logs, "transactions": transactions}
    paths = {}
    for name, frame in files.items():
        paths[name] = folder / f"ethereum__{name}__00000100_to_00000104.parquet"
        frame.write_parquet(paths[name])
    paths["mempool"] = folder / "2024-01-01.csv"
    seen.write_csv(paths["mempool"])
    return paths


def test_cryo_and_mempool_dumpster_files_become_slots(tmp_path: Path) -> None:
    files = cryo_files(tmp_path)
    bars = Bars((bars_of(walk(40)),), 5, "bars made here")
    slots = slots_of_cryo(
        files["blocks"],
        files["logs"],
        files["transactions"],
        [USDC_WETH],
        bars,
        files["mempool"],
    )
    assert slots.block.tolist() == [100, 101, 102, 103]
    swaps = slots.swaps
    assert swaps.start.tolist() == [0, 0, 2, 2, 3]
    assert swaps.zero_for_one.tolist() == [True, False, False]
    np.testing.assert_allclose(swaps.amount_in, [2000.0, 3.0, 0.002])
    np.testing.assert_allclose(swaps.tip_gwei, [1.0, 2.0, 1.0])
    assert swaps.private.tolist() == [True, False, True]
    np.testing.assert_allclose(swaps.seen_s, [0.0, 7.5, 0.0])
    assert np.isnan(slots.reserves).all()
    assert slots.pools == (USDC_WETH,)
    everything = slots_of_cryo(
        files["blocks"], files["logs"], files["transactions"], [USDC_WETH], bars
    )
    assert not everything.swaps.private.any()


def test_recorded_swaps_lead_from_state_to_state() -> None:
    """V2 USDC/WETH of January 2024: every slot's swaps turn its reserves into the next slot's."""
    reserves = load_v2_reserves(
        data_file("swaps/v2_usdc_weth_reserves_per_block_18908895_18947060.parquet")
    )
    bars = load_bars(data_file("price/binance_5m_2024_2025_eth_btc.parquet"))
    eth = Bars((bars.of("ETHUSDT"),), 5, bars.source)
    blocks = load_blocks(data_file("blocks/basefee_windows.parquet"))
    # The first 40 blocks of 2024 came before the first bar closed.
    later = reserves.after(40)
    first = FIRST_OF_2024 + round(40 * 12.13)
    slots = slots_of_reserves(later, USDC_WETH, eth, first, blocks)
    assert len(slots) == len(blocks) - 1
    swaps, joined = slots.swaps, 0
    for slot in range(len(slots) - 1):
        if slots.segment[slot] != slots.segment[slot + 1]:
            continue
        joined += 1
        state = slots.reserves[slot, 0].copy()
        for k in range(swaps.start[slot], swaps.start[slot + 1]):
            side = 0 if swaps.zero_for_one[k] else 1
            paid = GAMMA * swaps.amount_in[k]
            out = paid * state[1 - side] / (state[side] + paid)
            state[side] += swaps.amount_in[k]
            state[1 - side] -= out
        np.testing.assert_allclose(state, slots.reserves[slot + 1, 0], rtol=2e-9)
    assert joined > 28_000
    # The pool's price stays near the exchange's: it is the right week, and the right direction.
    gap = np.log(slots.reserves[:, 0, 0] / slots.reserves[:, 0, 1]) - slots.log_price[:, 0]
    assert np.mean(np.abs(gap)) < 0.0025
    assert np.mean(np.abs(gap) < 0.004) > 0.9
