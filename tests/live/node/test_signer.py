"""Our own RLP and signatures against eth-account, our calldata against eth-abi, and a key that is
never shown."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from live.books.plan import (
    EXECUTE,
    Plan,
    PlanHop,
    cancel_transaction,
    execute_calldata,
    plan_from_json,
    plan_to_json,
    plan_transaction,
    raised,
)
from live.node.signer import FeeTransaction, Signer, load_key
from live.node.wire import keccak256
from live.settings.config import StartError

KEY = bytes(range(1, 33))
uint64 = st.integers(0, 2**64 - 1)
uint128 = st.integers(0, 2**128 - 1)
address = st.binary(min_size=20, max_size=20)
plans = st.builds(
    Plan,
    block_number=st.integers(0, 2**40),
    amount_in_wei=uint128,
    hops=st.lists(st.builds(PlanHop, address, uint128, st.booleans()), min_size=1, max_size=4).map(
        tuple
    ),
    gross_wei=st.integers(2**100, 2**110),
    net_wei=uint64,
    bid_wei=st.integers(0, 2**100),
    gas=st.integers(21_000, 10**6),
    gas_limit=st.integers(21_000, 10**6),
    max_fee_wei=uint64,
    max_priority_fee_wei=uint64,
)


@given(
    secret=st.integers(1, 2**255).map(lambda n: n.to_bytes(32, "big")),
    transaction=st.builds(
        FeeTransaction,
        chain_id=st.integers(1, 2**32),
        nonce=st.integers(0, 2**64 - 2),
        max_priority_fee_wei=uint64,
        max_fee_wei=uint128,
        gas_limit=uint64,
        to=address,
        value_wei=st.integers(0, 2**256 - 1),
        calldata=st.binary(max_size=80) | st.binary(min_size=250, max_size=300),
    ),
)
def test_signed_bytes_equal_those_of_eth_account(
    secret: bytes, transaction: FeeTransaction
) -> None:
    signed = Signer(secret).sign(transaction)
    reference = Account.sign_transaction(
        {
            "type": 2,
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "maxPriorityFeePerGas": transaction.max_priority_fee_wei,
            "maxFeePerGas": transaction.max_fee_wei,
            "gas": transaction.gas_limit,
            "to": to_checksum_address(transaction.to),
            "value": transaction.value_wei,
            "data": transaction.calldata,
        },
        secret,
    )
    assert signed.raw == bytes(reference.raw_transaction)
    assert signed.hash == "0x" + bytes(reference.hash).hex()


def test_address_is_that_of_eth_account() -> None:
    assert Signer(KEY).address.hex() == Account.from_key(KEY).address[2:].lower()


@given(st.binary(max_size=300))
def test_keccak(data: bytes) -> None:
    assert keccak256(data) == keccak(data)


def test_a_signer_shows_its_address_and_nothing_else() -> None:
    signer = Signer(KEY)
    for text in (repr(signer), str(signer), f"{signer}", repr([signer])):
        assert KEY.hex() not in text
        assert signer.address.hex() in text
    with pytest.raises(TypeError, match="never copied"):
        pickle.dumps(signer)


def test_key_from_a_variable_is_taken_out_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_KEY", "0x" + KEY.hex())
    assert load_key("env:A_KEY", "").address == Signer(KEY).address
    with pytest.raises(StartError, match="A_KEY is not set"):
        load_key("env:A_KEY", "")


def test_key_from_a_keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keystore.json"
    path.write_text(json.dumps(Account.encrypt(KEY, "correct", kdf="pbkdf2", iterations=2)))
    monkeypatch.setenv("A_PASSWORD", "correct")
    assert load_key(str(path), "env:A_PASSWORD").address == Signer(KEY).address
    monkeypatch.setenv("A_PASSWORD", "wrong")
    with pytest.raises(StartError, match="cannot be opened"):
        load_key(str(path), "env:A_PASSWORD")
    with pytest.raises(StartError, match="must name a variable"):
        load_key(str(path), "correct")


@pytest.mark.parametrize("text", ["", "12", "zz" * 32, "00" * 32, "ff" * 32, "ab" * 33])
def test_a_bad_key_is_refused_without_being_shown(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("A_KEY", text)
    with caplog.at_level(logging.DEBUG), pytest.raises(StartError) as caught:
        load_key("env:A_KEY", "")
    assert "env:A_KEY" in str(caught.value)
    if text:
        assert text not in str(caught.value) + caplog.text


def test_a_key_in_the_configuration_is_not_repeated() -> None:
    # somebody wrote the key itself where its place should be named: it is no file
    with pytest.raises(StartError, match="env:NAME or the path"):
        load_key("0x" + KEY.hex(), "")


@given(plans)
def test_calldata_is_the_abi_encoding(plan: Plan) -> None:
    types = ["uint256", "uint256", "(address,uint256,bool)[]", "uint256", "uint256"]
    hops = [("0x" + hop.pool.hex(), hop.amount_out, hop.zero_for_one) for hop in plan.hops]
    body = encode(
        types, [plan.block_number, plan.amount_in_wei, hops, plan.executor_profit_wei, plan.bid_wei]
    )
    assert execute_calldata(plan) == EXECUTE + body


@given(plans)
def test_a_plan_survives_the_journal(plan: Plan) -> None:
    assert plan_from_json(plan_to_json(plan)) == plan


def test_nothing_can_stand_before_a_target() -> None:
    # one transaction to the executor is all that a plan can become: no list of them, no target
    plan = Plan(1, 1, (PlanHop(bytes(20), 1, True),), 1, 1, 0, 1, 1, 1, 1)
    transaction = plan_transaction(plan, 1, 0, b"\1" * 20)
    assert isinstance(transaction, FeeTransaction)
    assert transaction.to == b"\1" * 20
    assert transaction.value_wei == 0
    assert not {"targets", "before", "front"} & set(Plan._fields)


def test_cancelling_is_an_empty_transfer_to_ourselves() -> None:
    cancel = cancel_transaction(1, 7, b"\2" * 20, 30, 20)
    assert (cancel.to, cancel.value_wei, cancel.calldata) == (b"\2" * 20, 0, b"")
    assert (cancel.nonce, cancel.gas_limit) == (7, 21_000)


@given(st.integers(0, 2**64), st.sampled_from([10.0, 12.5, 100.0]))
def test_raised_fees_satisfy_the_strictest_node(fee: int, percent: float) -> None:
    higher = raised(fee, percent)
    assert higher > fee
    assert higher * 1000 >= fee * (1000 + int(percent * 10))
    assert (higher - 1 - fee) * 1000 < fee * int(percent * 10) + 1000
