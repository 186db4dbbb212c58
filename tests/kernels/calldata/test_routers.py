"""Router calldata: what a call was built from, what eth_abi reads, what real wallets send."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.calldata import forms as calldata_forms
from kernels.calldata import routers as calldata
from kernels.calldata import rows
from tests.support.hostile_calldata import (
    as_swap,
    check,
    decode,
    empty_swaps,
    hostile_calls,
    run,
)
from tests.support.router_calls import (
    ADDRESSES,
    NEUTRAL,
    ROUTERS,
    V2_CALLS,
    WETH,
    Call,
    random_call,
    selector,
    text,
)
from tests.support.strict_reading import read

ROOT = Path(__file__).resolve().parents[3]
# Numba compiles on the first example, which no deadline survives.
property_test = settings(deadline=None)

MULTICALL = selector("multicall(bytes[])")
V3_WORDS = {"": "uint256,uint256,uint256", "_02": "uint256,uint256"}
SIGNATURES = {
    "MULTICALL": "multicall(bytes[])",
    "MULTICALL_DEADLINE": "multicall(uint256,bytes[])",
    "MULTICALL_BLOCKHASH": "multicall(bytes32,bytes[])",
    "EXECUTE": "execute(bytes,bytes[])",
    "EXECUTE_DEADLINE": "execute(bytes,bytes[],uint256)",
    "SWAP_EXACT_TOKENS_FOR_TOKENS_02": (
        "swapExactTokensForTokens(uint256,uint256,address[],address)"
    ),
    "SWAP_TOKENS_FOR_EXACT_TOKENS_02": (
        "swapTokensForExactTokens(uint256,uint256,address[],address)"
    ),
}
for suffix, words in V3_WORDS.items():
    for side in ("Input", "Output"):
        name = f"EXACT_{side.upper()}"
        single = f"exact{side}Single((address,address,uint24,address,{words},uint160))"
        SIGNATURES[f"{name}_SINGLE{suffix}"] = single
        SIGNATURES[name + suffix] = f"exact{side}((bytes,address,{words}))"


def test_selectors_are_the_keccak_of_their_signatures() -> None:
    v2_names = [
        name
        for name in dir(calldata_forms)
        if name.startswith(("SWAP_EXACT_", "SWAP_TOKENS_FOR_", "SWAP_ETH_FOR_"))
    ]
    v2 = {}
    for name, (_, ether_in, _, _) in V2_CALLS.items():
        arguments = "uint256," if ether_in else "uint256,uint256,"
        v2[int.from_bytes(selector(f"{name}({arguments}address[],address,uint256)"), "big")] = name
    found = {getattr(calldata_forms, name) for name in v2_names if not name.endswith("_02")}
    assert found == set(v2)
    for name, signature in SIGNATURES.items():
        module = calldata_forms if hasattr(calldata_forms, name) else calldata
        assert getattr(module, name).to_bytes(4, "big") == selector(signature), signature


@property_test
@given(st.randoms(use_true_random=False))
def test_decodes_what_was_encoded(rng: Random) -> None:
    call, expected = random_call(rng)
    swaps = empty_swaps()
    count = decode(call, swaps)
    assert count == len(expected)
    assert [as_swap(row) for row in swaps[:count]] == expected
    assert read(call) == expected
    assert swaps[:count, rows.CALL_INDEX].tolist() == [0] * count
    assert swaps[:count, rows.ROUTER_INDEX].tolist() == [call.family - 1] * count


def test_every_neutral_call_is_passed_over() -> None:
    inner = [selector(signature) + bytes(160) for signature in NEUTRAL]
    data = selector("multicall(bytes[])") + encode(["bytes[]"], [inner])
    assert decode(Call(rows.SWAP_ROUTER_02, 0, data), empty_swaps()) == 0
    # SwapRouter has no forms that pay the sender.
    assert decode(Call(rows.SWAP_ROUTER, 0, data), empty_swaps()) == rows.UNSUPPORTED


@pytest.mark.parametrize("family", rows.FAMILIES)
def test_selectors_of_another_family_are_unknown(family: int) -> None:
    rng = Random(1)
    for _ in range(100):
        call, _ = random_call(rng)
        both_universal = min(family, call.family) >= rows.UNIVERSAL_ROUTER
        if family == call.family or both_universal or call.data[:4] == MULTICALL:
            continue
        assert decode(Call(family, 0, call.data), empty_swaps()) == rows.UNKNOWN_SELECTOR


def two_hops(path: list[int], value: int = 0, padding: bytes = b"") -> Call:
    """swapExactTokensForTokens along `path`."""
    types = ["uint256", "uint256", "address[]", "address", "uint256"]
    arguments = [10**18, 1, [text(token) for token in path], text(7), 99]
    data = selector(f"swapExactTokensForTokens({','.join(types)})") + encode(types, arguments)
    return Call(rows.V2_ROUTER, value, data + padding)


def with_word(call: Call, word: int, value: int) -> Call:
    """The call with one 32-byte word of its arguments replaced."""
    data = bytearray(call.data)
    data[4 + 32 * word : 36 + 32 * word] = value.to_bytes(32, "big")
    return Call(call.family, call.value, bytes(data))


def test_odd_input_is_never_a_swap() -> None:
    good = two_hops([1, 2, 3])
    swaps = empty_swaps()
    assert decode(good, swaps) == 1
    odd = {
        "dirty token": with_word(good, 6, 1 << 160 | 1),
        "dirty recipient": with_word(good, 3, 1 << 255),
        "offset into the head": with_word(good, 2, 0x80),
        "offset past the end": with_word(good, 2, 0x1000),
        "offset that wraps": with_word(good, 2, (1 << 256) - 32),
        "length past the end": with_word(good, 5, 4),
        "length that wraps": with_word(good, 5, 1 << 251),
        "one token": two_hops([1]),
        "same token twice": two_hops([1, 1]),
        "zero token": two_hops([1, 0]),
        "value to a function that takes none": two_hops([1, 2], value=1),
        "cut": Call(good.family, 0, good.data[:-1]),
    }
    for reason, call in odd.items():
        assert decode(call, swaps) == rows.MALFORMED, reason
    assert decode(two_hops([1, 2, 3, 4, 5, 6]), swaps) == rows.UNSUPPORTED
    assert decode(two_hops([1, 2], padding=b"referral"), swaps) == 1
    for short in (b"", b"\x38", good.data[:3]):
        assert decode(Call(rows.V2_ROUTER, 0, short), swaps) == rows.UNKNOWN_SELECTOR
    for head in (good.data[:4], good.data[:40]):
        assert decode(Call(rows.V2_ROUTER, 0, head), swaps) == rows.MALFORMED


def test_ether_forms_need_the_wrapped_token() -> None:
    types = ["uint256", "address[]", "address", "uint256"]
    name = selector(f"swapExactETHForTokens({','.join(types)})")
    for path, outcome in (([WETH, 5], 1), ([5, WETH], rows.MALFORMED)):
        data = name + encode(types, [3, [text(token) for token in path], text(7), 99])
        swaps = empty_swaps()
        assert decode(Call(rows.V2_ROUTER, 10**20, data), swaps) == outcome
        if outcome == 1:
            assert as_swap(swaps[0])[:5] == (rows.UNISWAP_V2, False, 10**20, 3, (WETH, 5))


@pytest.mark.parametrize("command", [0x10, 0x12, 0x13, 0x14, 0x21, 0x07, 0x0F, 0x40, 0x48])
def test_commands_beyond_v2_and_v3_make_the_call_unsupported(command: int) -> None:
    swap = encode(
        ["address", "uint256", "uint256", "address[]", "bool"],
        [text(1), 5, 6, [text(8), text(9)], True],
    )
    data = selector("execute(bytes,bytes[])")
    data += encode(["bytes", "bytes[]"], [bytes([8, command]), [swap, b"x" * 96]])
    assert decode(Call(rows.UNIVERSAL_ROUTER, 0, data), empty_swaps()) == rows.UNSUPPORTED


def test_nested_and_foreign_inner_calls_are_unsupported() -> None:
    empty = selector("multicall(bytes[])") + encode(["bytes[]"], [[]])
    for inner in (empty, selector("mint(uint256)") + bytes(32), b"\x01"):
        data = selector("multicall(bytes[])") + encode(["bytes[]"], [[inner]])
        assert decode(Call(rows.SWAP_ROUTER, 0, data), empty_swaps()) == rows.UNSUPPORTED
    many = selector("multicall(bytes[])") + encode(["bytes[]"], [[selector("refundETH()")] * 33])
    assert decode(Call(rows.SWAP_ROUTER, 0, many), empty_swaps()) == rows.UNSUPPORTED


def test_overlapping_tails_are_malformed() -> None:
    inner = [selector("refundETH()"), selector("refundETH()")]
    good = Call(rows.SWAP_ROUTER, 0, selector("multicall(bytes[])") + encode(["bytes[]"], [inner]))
    assert decode(good, empty_swaps()) == 0
    # The second offset points at the first call.
    assert decode(with_word(good, 3, 0x40), empty_swaps()) == rows.MALFORMED


def test_full_table_is_reported_and_not_overrun() -> None:
    rng = Random(3)
    while True:
        call, expected = random_call(rng)
        if len(expected) >= 3:
            break
    swaps = empty_swaps(5)
    assert decode(call, swaps[:2]) == rows.FULL
    assert np.all(swaps[2:] == 0xFFFFFFFFFFFFFFFF)
    assert decode(call, swaps[:0]) == rows.FULL


def batch(calls: list[Call]) -> tuple[np.ndarray, np.ndarray]:
    """One buffer for all calls, and their rows."""
    table, start = [], 0
    for call in calls:
        table.append(rows.call_row(ADDRESSES[call.family], call.value, start, len(call.data)))
        start += len(call.data)
    return np.frombuffer(b"".join(call.data for call in calls), np.uint8), np.array(table)


def test_batch_equals_single_calls() -> None:
    """No call is read past its end either: in a batch the bytes of its neighbour stand there."""
    calls = list(hostile_calls(5, 2_000)) + [random_call(Random(i))[0] for i in range(200)]
    data, table = batch(calls)
    swaps, counts = empty_swaps(4_000), np.zeros(len(calls), np.int64)
    total = calldata.decode_batch(data, table, ROUTERS, swaps, counts)
    assert total == counts[counts > 0].sum() > 200
    row = 0
    for index, call in enumerate(calls):
        alone = empty_swaps()
        count = decode(call, alone)
        assert count == counts[index]
        if count > 0:
            alone[:count, rows.CALL_INDEX] = index
            assert np.array_equal(swaps[row : row + count], alone[:count])
            row += count


def test_batch_refuses_what_it_does_not_know() -> None:
    call = two_hops([1, 2])
    data = np.frombuffer(call.data, np.uint8)
    size = len(call.data)
    table = np.array(
        [
            rows.call_row(12345, 0, 0, size),
            rows.call_row(ADDRESSES[1], 0, 0, size + 1),
            rows.call_row(ADDRESSES[1], 0, size + 1, 0),
            rows.call_row(ADDRESSES[1], 0, (1 << 64) - 1, size),
            rows.call_row(ADDRESSES[1], 0, 0, (1 << 64) - 1),
            rows.call_row(ADDRESSES[1], 0, 0, size),
        ]
    )
    swaps, counts = empty_swaps(), np.zeros(len(table), np.int64)
    assert calldata.decode_batch(data, table, ROUTERS, swaps, counts) == 1
    assert counts.tolist() == [rows.UNKNOWN_ROUTER, *[rows.MALFORMED] * 4, 1]
    assert calldata.decode_batch(data, table, ROUTERS[:0], swaps, counts) == 0


def test_tables_refuse_bad_values() -> None:
    with pytest.raises(ValueError, match="family"):
        rows.router_table([(1, 2, 9)])
    with pytest.raises(ValueError, match="address"):
        rows.router_table([(1 << 160, 2, 1)])
    with pytest.raises(ValueError, match="address"):
        rows.call_row(-1, 0, 0, 0)


def checked_run(seed: int, count: int) -> dict[str, Any]:
    """`hostile_calldata.run` in a process whose kernels check every index."""
    finished = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "support" / "hostile_calldata.py"),
            str(seed),
            str(count),
        ],
        env=os.environ | {"MEVRL_BOUNDSCHECK": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def fuzz(seed: int, count: int) -> None:
    """Hostile calls: accepted ones hold against eth_abi, and index checks change nothing."""
    result = run(seed, count, referee=True)
    assert sum(result["outcomes"].values()) == count
    assert result["outcomes"][1] > count // 20
    checked = checked_run(seed, count)
    assert checked["digest"] == result["digest"]


def test_hostile_calldata() -> None:
    fuzz(seed=1, count=4_000)


@pytest.mark.exhaustive
def test_a_million_hostile_calls() -> None:
    fuzz(seed=2, count=1_000_000)


MAINNET = {
    0x7A250D5630B4CF539739DF2C5DACB4C659F2488D: rows.V2_ROUTER,
    0xD9E1CE17F2641F24AE83637AB66A2CCA9C378B9F: rows.V2_ROUTER,
    0xE592427A0AECE92DE3EDEE1F18E0157C05861564: rows.SWAP_ROUTER,
    0x68B3465833FB72A70ECDF485E0E4C7BD8665FC45: rows.SWAP_ROUTER_02,
    0xEF1C6E67703C7BD7107EED8303FBE6EC2554BF6B: rows.UNIVERSAL_ROUTER,
    0x3FC91A3AFD70395CD496C647D5A6CC9D4B2B7FAD: rows.UNIVERSAL_ROUTER,
    0x66A9893CC07D91D95644AEDD05D03F95E1DBA8AF: rows.UNIVERSAL_ROUTER_2_0,
}
LIQUIDITY = {
    selector(signature)
    for signature in (
        "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)",
        "addLiquidityETH(address,uint256,uint256,uint256,address,uint256)",
        "removeLiquidityWithPermit(address,address,uint256,uint256,uint256,address,uint256,bool,uint8,bytes32,bytes32)",
        "removeLiquidityETHWithPermit(address,uint256,uint256,uint256,address,uint256,bool,uint8,bytes32,bytes32)",
        "removeLiquidityETHWithPermitSupportingFeeOnTransferTokens(address,uint256,uint256,uint256,address,uint256,bool,uint8,bytes32,bytes32)",
    )
}


def test_real_transactions() -> None:
    """Every router call of the recorded mainnet blocks, wallets' encoders included, is decoded."""
    import polars as pl

    folder = os.environ.get("MEVRL_DATA")
    path = Path(folder or "") / "mempool" / "mainnet_block_txs_pevm.parquet"
    if not folder or not path.exists():
        pytest.skip("MEVRL_DATA does not point to the recorded transactions")
    frame = pl.read_parquet(path, columns=["to_addr", "value_eth", "input"]).drop_nulls()
    routers = rows.router_table([(address, WETH, family) for address, family in MAINNET.items()])
    pieces, size, table, sent = [], 0, [], []
    for to, value_eth, data in frame.iter_rows():
        raw = bytes.fromhex(data[2:])
        value = round(value_eth * 1e18)
        table.append(rows.call_row(int(to, 16), value, size, len(raw)))
        sent.append(Call(MAINNET.get(int(to, 16), 0), value, raw))
        pieces.append(raw)
        size += len(raw)
    swaps, counts = empty_swaps(2_000), np.zeros(len(table), np.int64)
    data = np.frombuffer(b"".join(pieces), np.uint8)
    assert calldata.decode_batch(data, np.array(table), routers, swaps, counts) > 600
    row = 0
    for call, count in zip(sent, counts.tolist(), strict=True):
        if call.family == 0:
            assert count == rows.UNKNOWN_ROUTER
        elif call.data[:4] in LIQUIDITY:
            assert count == rows.UNKNOWN_SELECTOR
        else:
            assert count > 0
            check(call, count, swaps[row : row + count])
            row += count
