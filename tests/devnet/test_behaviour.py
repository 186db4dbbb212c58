"""Users and the informed trader, without a chain: what they send is valid, seeded and bounded."""

from __future__ import annotations

import collections
import itertools
import math
from typing import Any

import numpy as np
import pytest
import rlp
from eth_abi.abi import decode
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from devnet.artifacts import artifact
from devnet.behaviour import (
    INFORMED_TIP_WEI,
    Reference,
    Reserves,
    get_amount_out,
    informed_swaps,
    oriented,
    user_swap,
)
from devnet.config import TrafficConfig
from devnet.world import Exchange, Executor, Pool, Token, World, created_address, pair_address

USER = created_address("0x" + "11" * 20, 7)
TOKENS = (("WETH", 18, 1.0), ("DAI", 18, 1 / 3000), ("USDC", 6, 1 / 3000), ("WBTC", 8, 30.0))
PAIRS = (("WETH", "DAI"), ("WETH", "USDC"), ("DAI", "USDC"), ("USDC", "WBTC"), ("WETH", "WBTC"))
FUNCTIONS: dict[bytes, Any] = {
    bytes(function_abi_to_4byte_selector(entry)): entry  # pyright: ignore[reportArgumentType]
    for entry in artifact("UniswapV2Router02").abi
    if entry["type"] == "function" and entry["name"].startswith("swap")
}


def a_world() -> tuple[World, Reserves]:
    """Two exchanges with five pools each, all at the same prices."""
    addresses = iter(created_address("0x" + "22" * 20, nonce) for nonce in range(20))
    tokens = {
        symbol: Token(next(addresses), symbol, decimals, price)
        for symbol, decimals, price in TOKENS
    }
    exchanges = tuple(Exchange(name, next(addresses), next(addresses)) for name in ("A", "B"))
    pools, reserves = [], {}
    for exchange, depth in zip(exchanges, (600.0, 250.0)):
        for symbols in PAIRS:
            pair = sorted((tokens[symbol] for symbol in symbols), key=lambda t: t.address.lower())
            address = pair_address(exchange.factory, pair[0].address, pair[1].address)
            pools.append(
                Pool(address, exchange.name, exchange.factory, pair[0].address, pair[1].address)
            )
            reserves[address] = (pair[0].units(depth), pair[1].units(depth))
    world = World(
        chain_id=31337,
        slot_s=2.0,
        order="fees",
        block=1,
        coinbase=USER,
        fee_ceiling_wei=1,
        weth=tokens["WETH"].address,
        tokens=tuple(tokens.values()),
        exchanges=exchanges,
        pools=tuple(pools),
        executor=Executor(USER, USER),
        informed=USER,
        users=(USER,),
    )
    return world, reserves


WORLD, RESERVES = a_world()


def decoded(data: bytes) -> tuple[str, dict[str, Any]]:
    """Function name and arguments of a router call."""
    entry = FUNCTIONS[data[:4]]
    values = decode([collapse_if_tuple(p) for p in entry["inputs"]], data[4:])
    return entry["name"], {p["name"]: v for p, v in zip(entry["inputs"], values)}


def test_users_send_swaps_that_the_router_accepts() -> None:
    config, rng = TrafficConfig(), np.random.default_rng(1)
    routers = {exchange.router: exchange.name for exchange in WORLD.exchanges}
    seen: collections.Counter[str] = collections.Counter()
    for _ in range(1500):
        swap = user_swap(WORLD, config, RESERVES, USER, 1000.0, rng)
        assert swap is not None
        assert swap.call.to is not None
        name, arguments = decoded(swap.call.data)
        assert name == swap.function
        seen[name] += 1
        path = arguments["path"]
        exchange = routers[swap.call.to]
        pools = [
            pool
            for sold, bought in itertools.pairwise(path)
            for pool in WORLD.pools
            if pool.exchange == exchange
            and {pool.token0.lower(), pool.token1.lower()} == {sold, bought}
        ]
        assert len(pools) == len(path) - 1, "every step of the path is a pool of this exchange"
        assert len(set(path)) == len(path)
        with_ether = name.startswith(("swapExactETH", "swapETH"))
        assert (swap.call.value_wei > 0) == with_ether
        if "ETH" in name:
            assert (path[0] if with_ether else path[-1]) == WORLD.weth.lower()
        assert arguments["deadline"] >= 1000 + 2 * WORLD.slot_s
        assert arguments["to"] == USER.lower()
        most = arguments.get("amountIn", arguments.get("amountInMax", swap.call.value_wei))
        reserve_in, _ = oriented(pools[0], _checksummed(path[0]), RESERVES)
        assert 0 < most <= 1.5 * config.size_max * reserve_in
        assert 0 < swap.tip_wei < 10**12
    assert len(seen) == 6, f"all six plain swap functions: {seen}"


def _checksummed(address: str) -> str:
    return next(token.address for token in WORLD.tokens if token.address.lower() == address)


def test_same_seed_same_swaps() -> None:
    config = TrafficConfig()

    def draw(seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [user_swap(WORLD, config, RESERVES, USER, 0.0, rng) for _ in range(50)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_reference_stays_near_its_start() -> None:
    """The discrete Ornstein-Uhlenbeck has standard deviation sigma / sqrt(1 - decay^2)."""
    config = TrafficConfig(reference_sigma=0.01, reference_half_life_slots=20.0)
    reference, rng = Reference(WORLD.tokens, WORLD.weth, config), np.random.default_rng(0)
    dai = WORLD.tokens[1]
    start = reference.price(dai.address)
    assert start == pytest.approx(1 / 3000)  # wei of WETH per wei of DAI
    logs = []
    for _ in range(20_000):
        reference.advance(rng)
        logs.append(math.log(reference.price(dai.address) / start))
    expected = 0.01 / math.sqrt(1 - 0.5 ** (2 / 20))
    assert np.std(logs) == pytest.approx(expected, rel=0.1)
    assert np.max(np.abs(logs)) < 6 * expected
    assert reference.price(WORLD.weth) == 1.0


@given(which=st.integers(0, 9), moved=st.floats(-0.3, 0.3))
def test_informed_trader_gains_and_ends_at_the_reference(which: int, moved: float) -> None:
    config = TrafficConfig()
    reference = Reference(WORLD.tokens, WORLD.weth, config)
    pool = WORLD.pools[which]
    reserve0, reserve1 = RESERVES[pool.address]
    factor = math.exp(moved / 2)
    state = {**RESERVES, pool.address: (int(reserve0 * factor), int(reserve1 / factor))}
    swaps = informed_swaps(WORLD, config, state, reference, USER, 0.0)
    # the fee (0.3 %) and the band: closer than this nobody trades
    if abs(moved) < -math.log(0.997) + math.log1p(config.informed_band) - 1e-6:
        assert swaps == []
        return
    if not swaps:
        assert abs(moved) < -math.log(0.997) + math.log1p(config.informed_band) + 1e-6
        return
    [swap] = swaps
    assert swap.tip_wei == INFORMED_TIP_WEI
    name, arguments = decoded(swap.call.data)
    assert name == "swapExactTokensForTokens"
    token_in = _checksummed(arguments["path"][0])
    token_out = _checksummed(arguments["path"][1])
    reserve_in, reserve_out = oriented(pool, token_in, state)
    amount_in = arguments["amountIn"]
    amount_out = get_amount_out(amount_in, reserve_in, reserve_out, pool)
    assert amount_out * reference.price(token_out) > amount_in * reference.price(token_in)
    assert arguments["amountOutMin"] <= amount_out
    after = (reserve_in + amount_in, reserve_out - amount_out)
    if token_in != pool.token0:
        after = (after[1], after[0])
    state[pool.address] = after
    assert informed_swaps(WORLD, config, state, reference, USER, 0.0) == []


def test_created_addresses_are_ethereums() -> None:
    """The first contracts of the best-known development account, and both forms of the nonce."""
    deployer = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert created_address(deployer, 0) == "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    assert created_address(deployer, 1) == "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
    for nonce in (0, 1, 127, 128, 255, 256, 65535):
        encoded = rlp.encode([bytes.fromhex(deployer[2:]), nonce])
        assert created_address(deployer, nonce)[2:].lower() == keccak(encoded)[12:].hex()
    with pytest.raises(ValueError, match="nonce is 65536"):
        created_address(deployer, 65536)
