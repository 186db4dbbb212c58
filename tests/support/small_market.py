"""A market of four tokens and six V2 pools on two exchanges, for the tests of this folder, with a
Python-integer model of what routers and pairs compute (Uniswap's own formulas, written again)."""

from __future__ import annotations

from eth_abi.abi import encode

from live.node.events import PendingTransaction
from live.node.wire import keccak256
from live.settings.deployment import (
    Deployment,
    DeploymentFile,
    ExchangeEntry,
    ExecutorEntry,
    PoolEntry,
    TokenEntry,
    _deployment,
)

WETH, DAI, USDC, WBTC = (f"0x{0x10 + i:040x}" for i in range(4))
TOKENS = (
    TokenEntry(DAI, "DAI", 18),
    TokenEntry(WETH, "WETH", 18),
    TokenEntry(USDC, "USDC", 6),
    TokenEntry(WBTC, "WBTC", 8),
)
FACTORIES = (f"0x{0x20:040x}", f"0x{0x21:040x}")
ROUTERS = (f"0x{0x30:040x}", f"0x{0x31:040x}")
PAIRS = ((WETH, DAI), (WETH, USDC), (DAI, USDC))
EXECUTOR, OWNER = f"0x{0x40:040x}", f"0x{0x41:040x}"
USER = b"\x77" * 20
# 600 and 250 WETH deep at 3000 dollars, the second exchange 2 % apart
RESERVES = [
    (600 * 10**18, 1_800_000 * 10**18),
    (600 * 10**18, 1_800_000 * 10**6),
    (1_800_000 * 10**18, 1_800_000 * 10**6),
    (250 * 10**18, 765_000 * 10**18),
    (250 * 10**18, 750_000 * 10**6),
    (750_000 * 10**18, 750_000 * 10**6),
]
SELECTORS = {
    name: keccak256(f"{name}({types})".encode())[:4]
    for name, types in (
        ("swapExactTokensForTokens", "uint256,uint256,address[],address,uint256"),
        ("swapTokensForExactTokens", "uint256,uint256,address[],address,uint256"),
        ("swapExactETHForTokens", "uint256,address[],address,uint256"),
        ("swapETHForExactTokens", "uint256,address[],address,uint256"),
        ("swapTokensForExactETH", "uint256,uint256,address[],address,uint256"),
        ("swapExactTokensForETH", "uint256,uint256,address[],address,uint256"),
    )
}


def deployment() -> Deployment:
    """Pools 0-2 on the first exchange, 3-5 on the second."""
    return _deployment(
        DeploymentFile(
            chain_id=31337,
            slot_s=2.0,
            weth=WETH,
            tokens=list(TOKENS),
            exchanges=[ExchangeEntry(f, r) for f, r in zip(FACTORIES, ROUTERS, strict=True)],
            pools=[
                PoolEntry(f"0x{0x50 + 3 * i + j:040x}", factory, *pair, 997, 1000)
                for i, factory in enumerate(FACTORIES)
                for j, pair in enumerate(PAIRS)
            ],
            executor=ExecutorEntry(EXECUTOR, OWNER, 40_000, 65_000, 15_000),
        )
    )


def raw(address: str) -> bytes:
    """20 bytes of an address."""
    return bytes.fromhex(address[2:])


def router_call(
    name: str, amount: int, limit: int, path: list[str], deadline: int
) -> tuple[bytes, int]:
    """(calldata, value in wei) of a Router02 swap: amount is its exact side."""
    if name.startswith("swapExactETH"):
        types, values, value = ["uint256"], [limit], amount
    elif name.startswith("swapETH"):
        types, values, value = ["uint256"], [amount], limit
    else:
        types, values, value = ["uint256", "uint256"], [amount, limit], 0
    types = [*types, "address[]", "address", "uint256"]
    return SELECTORS[name] + encode(types, [*values, path, "0x" + "66" * 20, deadline]), value


def pending(
    number: int,
    router: str,
    calldata: bytes,
    value: int = 0,
    tip: int = 10**9,
    sender: bytes = USER,
    nonce: int = 0,
    max_fee: int = 200 * 10**9,
) -> PendingTransaction:
    """A pending transaction whose hash is made of `number`."""
    return PendingTransaction(
        hash=f"0x{number:064x}",
        sender=sender,
        to=raw(router),
        nonce=nonce,
        value_wei=value,
        gas=200_000,
        max_fee_wei=max_fee,
        max_priority_fee_wei=tip,
        calldata=calldata,
        received_ns=0,
    )


def model_swap(
    reserves: list[tuple[int, int]],
    hops: list[tuple[int, bool]],
    exact_out: bool,
    amount: int,
    limit: int,
) -> tuple[list[tuple[int, int]], list[int] | None]:
    """Reserves after one router swap and its amounts, or the same reserves and None: it reverts."""
    amounts = [amount]
    if exact_out:
        for pool, forward in reversed(hops):
            r_in, r_out = reserves[pool] if forward else reserves[pool][::-1]
            if amounts[0] == 0 or amounts[0] >= r_out:
                return reserves, None
            amounts.insert(0, r_in * amounts[0] * 1000 // ((r_out - amounts[0]) * 997) + 1)
        if amounts[0] > limit:
            return reserves, None
    else:
        for pool, forward in hops:
            r_in, r_out = reserves[pool] if forward else reserves[pool][::-1]
            with_fee = amounts[-1] * 997
            amounts.append(with_fee * r_out // (r_in * 1000 + with_fee))
            if amounts[-1] == 0:
                return reserves, None
        if amounts[-1] < limit:
            return reserves, None
    after = list(reserves)
    for (pool, forward), x, y in zip(hops, amounts, amounts[1:], strict=False):
        r0, r1 = after[pool]
        after[pool] = (r0 + x, r1 - y) if forward else (r0 - y, r1 + x)
        if max(after[pool]) >= 1 << 112:
            return reserves, None
    return after, amounts
