"""Bodies from the network: what is right is read exactly, and what is wrong is refused."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.node import wire
from live.node.rpc import Node
from live.settings.config import NodeConfig

HASH = "0x" + "ab" * 32
ADDRESS = "0x" + "Cd" * 20
TRANSACTION = {
    "hash": HASH,
    "from": ADDRESS,
    "to": ADDRESS,
    "nonce": "0x7",
    "gas": "0x5208",
    "input": "0x01ff",
    "value": "0xde0b6b3a7640000",
    "gasPrice": "0x77359400",
    "maxFeePerGas": "0x77359400",
    "maxPriorityFeePerGas": "0x3b9aca00",
    "blockHash": None,
    "accessList": [],
}
HEAD = {
    "number": "0x10",
    "hash": HASH,
    "parentHash": "0x" + "01" * 32,
    "timestamp": "0x65000000",
    "gasUsed": "0x5208",
    "gasLimit": "0x1c9c380",
    "baseFeePerGas": "0x3b9aca00",
    "miner": ADDRESS,
}
LOG = {
    "address": ADDRESS,
    "topics": ["0x" + "02" * 32],
    "data": "0x" + "00" * 64,
    "blockNumber": "0x10",
    "blockHash": HASH,
    "transactionHash": HASH,
    "transactionIndex": "0x0",
    "logIndex": "0x1",
}


def raw(body: object) -> bytes:
    return json.dumps(body).encode()


def test_transaction_is_read_exactly() -> None:
    event = wire.read_transaction(raw(TRANSACTION), 5)
    assert event.sender == event.to == bytes.fromhex("cd" * 20)
    assert (event.nonce, event.gas, event.value_wei) == (7, 21_000, 10**18)
    assert (event.max_fee_wei, event.max_priority_fee_wei) == (2 * 10**9, 10**9)
    assert event.calldata == b"\x01\xff"
    assert event.received_ns == 5


def test_legacy_gas_price_stands_for_both_caps() -> None:
    body = {k: v for k, v in TRANSACTION.items() if not k.startswith("max")}
    event = wire.read_transaction(raw(body), 0)
    assert event.max_fee_wei == event.max_priority_fee_wei == 2 * 10**9


def test_contract_creation_has_no_recipient() -> None:
    assert wire.read_transaction(raw(TRANSACTION | {"to": None}), 0).to is None


def test_head_and_log_are_read_exactly() -> None:
    head = wire.read_head(raw(HEAD), 9)
    assert (head.number, head.gas_limit, head.base_fee_wei) == (16, 30_000_000, 10**9)
    log = wire.read_log(raw(LOG | {"removed": True}), 9)
    assert log.removed
    assert (log.block_number, log.log_index, len(log.data)) == (16, 1, 64)


def test_missing_receipt_is_none() -> None:
    assert wire.read_receipt(b"null", 0) is None


@pytest.mark.parametrize(
    "text", ["", "0x", "12", "0x_1", "0x1_0", " 0x1", "0x1 ", "-0x1", "0xg", "0x1\u0661", "1x0"]
)
def test_odd_quantities_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (what matters is that nothing else is raised)
        wire.quantity(text)


@given(st.integers(0, 2**80))
def test_quantity_keeps_its_width(value: int) -> None:
    if value < 2**64:
        assert wire.quantity(hex(value)) == value
    else:
        with pytest.raises(ValueError, match="wider"):
            wire.quantity(hex(value))


def test_endless_quantity_is_refused_without_being_parsed() -> None:
    with pytest.raises(ValueError, match="wider"):
        wire.quantity("0x" + "f" * 1_000_000, 256)


@pytest.mark.parametrize("text", ["ff", "0xf", "0x f", "0xzz", "0x0_0"])
def test_odd_data_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        wire.data(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    base=st.sampled_from([TRANSACTION, HEAD, LOG]),
    key=st.sampled_from(sorted({*TRANSACTION, *HEAD, *LOG})),
    value=json_values,
)
def test_a_wrong_member_is_a_value_error_or_harmless(
    base: dict[str, object], key: str, value: object
) -> None:
    body = raw(base | {key: value})
    for read in (wire.read_transaction, wire.read_head, wire.read_log):
        try:
            read(body, 0)
        except wire.Malformed:
            continue


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | json_values.map(raw))
def test_no_frame_can_raise(payload: bytes) -> None:
    node = Node(NodeConfig(url="ws://127.0.0.1:1"))
    node._on_frame(payload, 0)
    assert node.frames == 1


def test_deep_nesting_is_refused() -> None:
    node = Node(NodeConfig(url="ws://127.0.0.1:1"))
    node._on_frame(b'{"id":1,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0)
    node._on_frame(b'{"x":' * 100_000 + b"1" + b"}" * 100_000, 0)
    assert node.malformed == 2


def test_pool_snapshot_gives_the_executable_part() -> None:
    content = {"pending": {ADDRESS: {"7": TRANSACTION}}, "queued": {ADDRESS: {"9": TRANSACTION}}}
    assert len(wire.read_pool_snapshot(raw(content), 0)) == 1


def test_block_lists_its_transactions() -> None:
    _, hashes = wire.read_block(raw(HEAD | {"transactions": [HASH]}), 0)
    assert hashes == (HASH,)
    with pytest.raises(msgspec.ValidationError):
        wire.read_block(raw(HEAD | {"transactions": [TRANSACTION]}), 0)
