"""The fork table against the contracts themselves: event topics, fee tiers, storage slots."""

from __future__ import annotations

import pytest
from eth_utils.crypto import keccak

from devnet.artifacts import artifact
from kernels.pools.uniswap_v3.forks import (
    BURN_TOPIC,
    FORKS,
    INITIALIZE_TOPIC,
    MINT_TOPIC,
    Fork,
    check_fee_tier,
    fork_named,
)
from tests.support.uniswap_v3 import reference
from tests.support.uniswap_v3.referee import DeployedPool, Evm, npm_json

PANCAKE = "@pancakeswap/v3-core/artifacts/contracts"
ABI_FILES = {
    "uniswap_v3": None,
    "pancake_v3": f"{PANCAKE}/PancakeV3Pool.sol/PancakeV3Pool.json",
}
forks = pytest.mark.parametrize("fork", FORKS.values(), ids=list(FORKS))


def pool_abi(fork: Fork) -> list[dict]:
    path = ABI_FILES[fork.name]
    return artifact("UniswapV3Pool").abi if path is None else npm_json(path)["abi"]


def signature(abi: list[dict], name: str) -> str:
    (event,) = (entry for entry in abi if entry["type"] == "event" and entry["name"] == name)
    return f"{name}({','.join(argument['type'] for argument in event['inputs'])})"


@forks
def test_events_are_those_of_the_contract(fork: Fork) -> None:
    abi = pool_abi(fork)
    assert signature(abi, "Swap") == fork.swap_event
    for name, topic in (
        ("Swap", fork.swap_topic),
        ("Mint", MINT_TOPIC),
        ("Burn", BURN_TOPIC),
        ("Initialize", INITIALIZE_TOPIC),
    ):
        assert "0x" + keccak(text=signature(abi, name)).hex() == topic


def factory(fork: Fork) -> tuple[Evm, str]:
    evm = Evm()
    if fork.name == "uniswap_v3":
        return evm, evm.deploy(artifact("UniswapV3Factory").bytecode)
    code = npm_json(f"{PANCAKE}/PancakeV3Factory.sol/PancakeV3Factory.json")["bytecode"]
    deployer = "0x" + "22" * 20
    return evm, evm.deploy(bytes.fromhex(code[2:]), ["address"], [deployer])


@forks
def test_fee_tiers_are_those_of_the_factory(fork: Fork) -> None:
    evm, address = factory(fork)
    for fee_pips, spacing in fork.fee_tiers.items():
        if (fork.name, fee_pips) == ("uniswap_v3", 100):
            # Not set by the constructor: governance enabled it in November 2021.
            evm.invoke(address, "enableFeeAmount(uint24,int24)", [], fee_pips, spacing)
        found = evm.invoke(address, "feeAmountTickSpacing(uint24)", ["int24"], fee_pips)
        assert found == (spacing,)


@forks
def test_storage_slots_are_those_of_the_contract(fork: Fork) -> None:
    price = reference.get_sqrt_ratio_at_tick(5) + 7
    pool = DeployedPool.create(500, 10, price, fork.name)
    pool.mint(-2560, 30, 10**18)
    slot0 = pool.storage(fork.slot0_slot)
    assert slot0 % 2**160 == price
    assert slot0 >> 160 & 0xFFFFFF == 5
    assert pool.storage(fork.liquidity_slot) == 10**18
    entry = pool.storage(_mapping_slot(30, fork.ticks_slot))
    assert entry % 2**128 == 10**18
    assert (entry >> 128) - 2**128 == -(10**18)
    assert pool.storage(_mapping_slot(0, fork.bitmap_slot)) == 1 << 3
    assert pool.storage(_mapping_slot(-1, fork.bitmap_slot)) == 1 << 0


def _mapping_slot(key: int, slot: int) -> int:
    word = (key % 2**256).to_bytes(32, "big") + slot.to_bytes(32, "big")
    return int.from_bytes(keccak(word), "big")


def test_unknown_forks_and_tiers_are_named() -> None:
    with pytest.raises(ValueError, match="fork 'sushi' is unknown"):
        fork_named("sushi")
    check_fee_tier(fork_named("pancake_v3"), 2500, 50)
    with pytest.raises(
        ValueError, match="fee_pips 2500 with tick_spacing 50 is no tier of uniswap"
    ):
        check_fee_tier(fork_named("uniswap_v3"), 2500, 50)
