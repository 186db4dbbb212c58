"""The executor against the deployed Uniswap V2 bytecode: exact to the wei, or nothing happened."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vyper.compiler import compile_code

from devnet.abi import call_data
from tests.support.executor_market import (
    BLOCK,
    COINBASE,
    DEPLOYER,
    ETHER,
    OWNER,
    STRANGER,
    Chain,
    Market,
    RevertError,
)

TWO, THREE = ["dear", "cheap"], ["dear", "stable", "usdc"]
BID = 10**15 + 7


@pytest.mark.parametrize("names", [TWO, THREE])
@pytest.mark.parametrize("bid_wei", [0, 1, BID])
def test_profit_and_bid_are_exact(market: Market, names: list[str], bid_wei: int) -> None:
    chain = market.chain
    hops, amount_out = market.plan(names, ETHER)
    gain = amount_out - ETHER
    assert gain > BID
    before = chain.balance(market.weth, market.executor)
    coinbase_before = chain.evm.get_balance(COINBASE)
    market.execute(hops, ETHER, gain - bid_wei, bid_wei)
    assert chain.balance(market.weth, market.executor) - before == gain - bid_wei
    assert chain.evm.get_balance(COINBASE) - coinbase_before == bid_wei
    assert chain.evm.get_balance(market.executor) == 0
    for token in (market.dai, market.usdc):
        assert chain.balance(token, market.executor) == 0


@given(
    amount_in=st.integers(1, 50 * ETHER),
    bid_share=st.fractions(0, 1),
    names=st.sampled_from([TWO, THREE]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_plan_gains_what_it_said_or_reverts(
    market: Market, amount_in: int, bid_share: Any, names: list[str]
) -> None:
    snapshot = market.chain.evm.snapshot()
    hops, amount_out = market.plan(names, amount_in)
    gain = amount_out - amount_in
    before = market.chain.balance(market.weth, market.executor)
    if gain < 0 or any(amount == 0 for _, amount, _ in hops):  # pairs refuse an output of 0
        with pytest.raises(RevertError):
            market.execute(hops, amount_in)
    else:
        bid_wei = int(gain * bid_share)
        market.execute(hops, amount_in, gain - bid_wei, bid_wei)
        after = market.chain.balance(market.weth, market.executor)
        assert after - before == gain - bid_wei
    market.chain.evm.revert(snapshot)


@pytest.mark.parametrize("names", [TWO, THREE])
def test_one_wei_above_the_gain_reverts_and_changes_nothing(
    market: Market, names: list[str]
) -> None:
    hops, amount_out = market.plan(names, ETHER)
    state = market.state()
    with pytest.raises(RevertError, match=r"^profit$"):
        market.execute(hops, ETHER, amount_out - ETHER - BID + 1, BID)
    assert market.state() == state


def test_a_losing_cycle_reverts(market: Market) -> None:
    hops, amount_out = market.plan(["cheap", "dear"], ETHER)
    assert amount_out < ETHER
    state = market.state()
    with pytest.raises(RevertError, match=r"^profit$"):
        market.execute(hops, ETHER)
    assert market.state() == state


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_unit_too_much_is_refused_by_the_pair(market: Market, position: int) -> None:
    hops, _ = market.plan(THREE, ETHER)
    pair, amount_out, zero_for_one = hops[position]
    hops[position] = (pair, amount_out + 1, zero_for_one)
    state = market.state()
    with pytest.raises(RevertError, match="UniswapV2: K"):
        market.execute(hops, ETHER)
    assert market.state() == state


def test_only_the_owner_executes_and_withdraws(market: Market) -> None:
    hops, _ = market.plan(TWO, ETHER)
    state = market.state()
    for sender in (STRANGER, DEPLOYER):
        with pytest.raises(RevertError, match=r"^owner$"):
            market.execute(hops, ETHER, sender=sender)
        with pytest.raises(RevertError, match=r"^owner$"):
            market.chain.send(
                sender, market.executor, "Executor", "withdraw", market.weth, 1, sender
            )
    assert market.state() == state


@pytest.mark.parametrize(("late_by", "runs"), [(-1, True), (0, True), (1, False), (1000, False)])
def test_deadline_is_the_last_block(market: Market, late_by: int, runs: bool) -> None:
    hops, _ = market.plan(TWO, ETHER)
    state = market.state()
    market.chain.block(BLOCK + late_by, COINBASE)
    if runs:
        market.execute(hops, ETHER, deadline=BLOCK)
        assert market.state() != state
    else:
        with pytest.raises(RevertError, match=r"^deadline$"):
            market.execute(hops, ETHER, deadline=BLOCK)
        assert market.state() == state


def test_senseless_plans_revert(market: Market) -> None:
    hops, _ = market.plan(TWO, ETHER)
    state = market.state()
    with pytest.raises(RevertError, match=r"^hops$"):
        market.execute([], 0)
    for amount_in, min_profit, bid_wei in (
        (51 * ETHER, 0, 0),  # more WETH than it holds
        (ETHER, 2**256 - 1, 0),  # sums that overflow
        (ETHER, 0, 2**256 - 1),
        (ETHER, 2**255, 2**255),
    ):
        with pytest.raises(RevertError):
            market.execute(hops, amount_in, min_profit, bid_wei)
    with pytest.raises(RevertError):  # five hops: more than the array takes
        market.execute([*hops, *hops, hops[0]], ETHER)
    with pytest.raises(RevertError):  # a pair that is no contract
        market.execute([hops[0], (STRANGER, ETHER, True)], ETHER)
    assert market.state() == state


def test_fee_on_transfer_token_cannot_be_a_middle_token(market: Market) -> None:
    chain = market.chain
    taxed = chain.create("DeflatingERC20", 10**30)
    for name, amount in (("taxed dear", 330_000), ("taxed cheap", 300_000)):
        factory = chain.create("UniswapV2Factory", DEPLOYER)
        amounts = {market.weth: 100 * ETHER, taxed: amount * ETHER}
        market.pools[name] = market.add_pool(factory, amounts)
    try:
        hops, amount_out = market.plan(["taxed dear", "taxed cheap"], ETHER)
        assert amount_out > ETHER, "without the tax the cycle would pay"
        state = market.state()
        with pytest.raises(RevertError, match="UniswapV2: K"):
            market.execute(hops, ETHER)
        assert market.state() == state
    finally:
        for name in ("taxed dear", "taxed cheap"):
            del market.pools[name]


def test_withdraw_sends_tokens_and_ether(market: Market) -> None:
    chain = market.chain
    chain.send(OWNER, market.executor, "Executor", "withdraw", market.weth, ETHER, STRANGER)
    assert chain.balance(market.weth, STRANGER) == ETHER
    chain.evm.message_call(STRANGER, market.executor, b"", value=5)  # anybody may send ETH
    before = chain.evm.get_balance(STRANGER)
    nothing = "0x" + "00" * 20
    chain.send(OWNER, market.executor, "Executor", "withdraw", nothing, 5, STRANGER)
    assert chain.evm.get_balance(STRANGER) - before == 5
    state = market.state()
    for token, amount, to in (
        (market.weth, 50 * ETHER, STRANGER),  # more than it holds
        (nothing, 1, STRANGER),
        (market.weth, 1, nothing),
    ):
        with pytest.raises(RevertError):
            chain.send(OWNER, market.executor, "Executor", "withdraw", token, amount, to)
    assert market.state() == state


ODD_TOKEN = """
# pragma version ~=0.4.3
moved: public(uint256)
@external
def transfer(to: address, amount: uint256){returns}:
    self.moved += amount
    {result}
"""


@pytest.mark.parametrize(
    ("returns", "result", "accepted"),
    [("", "pass", True), (" -> bool", "return True", True), (" -> bool", "return False", False)],
)
def test_withdraw_with_odd_return_values(
    market: Market, returns: str, result: str, accepted: bool
) -> None:
    """Tokens that return nothing (USDT) work; a token that says False did not move anything."""
    code = compile_code(ODD_TOKEN.format(returns=returns, result=result))["bytecode"]
    token = market.chain.create_raw(bytes.fromhex(code[2:]))
    arguments = (token, 3, STRANGER)
    if accepted:
        market.chain.send(OWNER, market.executor, "Executor", "withdraw", *arguments)
    else:
        with pytest.raises(RevertError, match=r"^transfer$"):
            market.chain.send(OWNER, market.executor, "Executor", "withdraw", *arguments)


HOSTILE = """
# pragma version ~=0.4.3
from ethereum.ercs import IERC20
weth: IERC20
loot: Bytes[1024]
entered: public(bool)
calls: public(uint256)

@deploy
def __init__(_weth: IERC20, _loot: Bytes[1024]):
    self.weth = _weth
    self.loot = _loot

@external
def swap(a: uint256, b: uint256, to: address, data: Bytes[1]):
    extcall self.weth.transfer(to, staticcall self.weth.balanceOf(self))
    self._strike()

@external
@payable
def __default__():
    self._strike()

@internal
def _strike():
    self.calls += 1
    self.entered = raw_call(msg.sender, self.loot, revert_on_failure=False)
"""


@pytest.mark.parametrize("place", ["pair", "coinbase"])
@pytest.mark.parametrize("function", ["withdraw", "execute"])
def test_called_contracts_cannot_reenter(market: Market, place: str, function: str) -> None:
    """A hostile pair that passes its input on, and a hostile coinbase, call back in vain."""
    chain = market.chain
    hops, amount_out = market.plan(TWO, ETHER)
    gain = amount_out - ETHER
    loot = {
        "withdraw": call_data("Executor", "withdraw", market.weth, ETHER, STRANGER),
        "execute": call_data("Executor", "execute", BLOCK, 0, [(STRANGER, 0, True)], 0, 0),
    }[function]
    compiled = compile_code(HOSTILE, output_formats=["bytecode"])["bytecode"]
    code = bytes.fromhex(compiled[2:]) + encode(["address", "bytes"], [market.weth, loot])
    hostile = chain.create_raw(code)
    before = chain.balance(market.weth, market.executor)
    bid_wei = 0
    if place == "coinbase":
        bid_wei = BID
        chain.block(BLOCK, hostile)
    else:
        hops = [(hostile, 0, True), *hops]
    market.execute(hops, ETHER, gain - bid_wei, bid_wei)
    assert _read(chain, hostile, "calls") == 1
    assert _read(chain, hostile, "entered") == 0
    assert chain.evm.get_balance(hostile) == bid_wei
    assert chain.balance(market.weth, market.executor) - before == gain - bid_wei
    assert chain.balance(market.weth, STRANGER) == 0


def test_a_coinbase_that_refuses_the_bid_reverts_the_plan(market: Market) -> None:
    """A bid that cannot be paid must not turn into a free inclusion at the price of the swaps."""
    chain = market.chain
    hops, _ = market.plan(TWO, ETHER)
    chain.block(BLOCK, market.pools["stable"])  # a pair has no function that takes ETH
    state = market.state()
    with pytest.raises(RevertError):
        market.execute(hops, ETHER, 0, BID)
    assert market.state() == state
    market.execute(hops, ETHER, 0, 0)  # without a bid nothing is sent there


def _read(chain: Chain, contract: str, getter: str) -> int:
    """A uint256 or bool from a contract without artifact."""
    output = chain.evm.message_call(OWNER, contract, keccak(text=f"{getter}()")[:4])
    return int.from_bytes(bytes(output), "big")


def test_constructor_refuses_nonsense() -> None:
    chain = Chain()
    weth = chain.create("WETH9")
    for arguments in ((STRANGER, OWNER), (weth, "0x" + "00" * 20)):
        with pytest.raises(RuntimeError):
            chain.create("Executor", *arguments)
    executor = chain.create("Executor", weth, OWNER)
    assert chain.send(STRANGER, executor, "Executor", "OWNER")[0].lower() == OWNER
    assert chain.send(STRANGER, executor, "Executor", "WETH")[0].lower() == weth.lower()
