"""An EVM in process (pyrevm) with the deployed Uniswap V2 bytecode and our executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyrevm import EVM, BlockEnv

from devnet.abi import call_data, creation_code, decode_result

OWNER, STRANGER, DEPLOYER, COINBASE = (f"0x{byte * 20}" for byte in ("a1", "b2", "c3", "d4"))
ETHER = 10**18
BLOCK = 100
Hop = tuple[str, int, bool]


class RevertError(Exception):
    """The call reverted; the argument is the decoded reason, or the raw text of the EVM."""


class Chain:
    """Calls with the ABI around one EVM; senders are addresses without keys."""

    def __init__(self) -> None:
        self.evm = EVM(gas_limit=60_000_000)
        for address in (OWNER, STRANGER, DEPLOYER):
            self.evm.set_balance(address, 10**6 * ETHER)
        self.block(BLOCK, COINBASE)

    def block(self, number: int, coinbase: str) -> None:
        """Set the block that the next calls run in."""
        self.evm.set_block_env(BlockEnv(number=number, coinbase=coinbase, timestamp=10 * number))

    def create(self, contract: str, *arguments: Any) -> str:
        """Deploy `contract`; returns its address."""
        return self.evm.deploy(DEPLOYER, creation_code(contract, *arguments))

    def create_raw(self, code: bytes) -> str:
        """Deploy creation code."""
        return self.evm.deploy(DEPLOYER, code)

    def send(
        self, sender: str, to: str, contract: str, function: str, *arguments: Any, value: int = 0
    ) -> tuple[Any, ...]:
        """Call and keep the state; RevertError when it fails, with nothing changed."""
        data = call_data(contract, function, *arguments)
        try:
            output = bytes(self.evm.message_call(sender, to, data, value=value))
        except RuntimeError as error:
            raise RevertError(_reason(str(error))) from None
        return decode_result(contract, function, output) if output else ()

    def balance(self, token: str, holder: str) -> int:
        """ERC-20 balance."""
        return self.send(DEPLOYER, token, "Token", "balanceOf", holder)[0]


def _reason(text: str) -> str:
    """The string of Error(string), selector 0x08c379a0, inside the message of the EVM."""
    _, found, output = text.partition("output: 0x08c379a0")
    if not found:
        return text
    data = bytes.fromhex(output.split(" ")[0])
    length = int.from_bytes(data[32:64], "big")
    return data[64 : 64 + length].decode()


@dataclass
class Market:
    """Two pools of WETH/DAI at different prices, DAI/USDC and USDC/WETH: cycles of 2 and 3."""

    chain: Chain
    weth: str
    dai: str
    usdc: str
    pools: dict[str, str]
    executor: str

    def add_pool(self, factory: str, amounts: dict[str, int]) -> str:
        """Create a pair and give it liquidity: token address -> units."""
        chain, (token_a, token_b) = self.chain, amounts
        [pair] = chain.send(DEPLOYER, factory, "UniswapV2Factory", "createPair", token_a, token_b)
        for token, amount in amounts.items():
            chain.send(DEPLOYER, token, "Token", "transfer", pair, amount)
        chain.send(DEPLOYER, pair, "UniswapV2Pair", "mint", DEPLOYER)
        return pair

    def plan(self, names: list[str], amount_in: int) -> tuple[list[Hop], int]:
        """Exact hops of a cycle from WETH through the named pools, and what comes back."""
        hops: list[Hop] = []
        token, amount = self.weth, amount_in
        for name in names:
            pair = self.pools[name]
            reserve0, reserve1, _ = self.chain.send(OWNER, pair, "UniswapV2Pair", "getReserves")
            [token0] = self.chain.send(OWNER, pair, "UniswapV2Pair", "token0")
            [token1] = self.chain.send(OWNER, pair, "UniswapV2Pair", "token1")
            zero_for_one = token.lower() == token0.lower()
            bought, sold = (reserve1, reserve0) if zero_for_one else (reserve0, reserve1)
            # UniswapV2Library.getAmountOut
            amount = amount * 997 * bought // (sold * 1000 + amount * 997)
            hops.append((pair, amount, zero_for_one))
            token = token1 if zero_for_one else token0
        assert token.lower() == self.weth.lower()
        return hops, amount

    def execute(
        self,
        hops: list[Hop],
        amount_in: int,
        min_profit: int = 0,
        bid_wei: int = 0,
        deadline: int = BLOCK,
        sender: str = OWNER,
    ) -> None:
        """Executor.execute."""
        arguments = (deadline, amount_in, hops, min_profit, bid_wei)
        self.chain.send(sender, self.executor, "Executor", "execute", *arguments)

    def state(self) -> tuple[Any, ...]:
        """Everything a plan can move: all balances, all reserves, the coinbase's ETH."""
        chain = self.chain
        holders = [*self.pools.values(), self.executor, OWNER]
        return (
            [chain.balance(t, h) for t in (self.weth, self.dai, self.usdc) for h in holders],
            [chain.send(OWNER, p, "UniswapV2Pair", "getReserves") for p in self.pools.values()],
            [chain.evm.get_balance(a) for a in (COINBASE, self.executor, self.weth)],
        )


def build_market() -> Market:
    """A fresh market, its executor funded with 50 WETH."""
    chain = Chain()
    weth = chain.create("WETH9")
    dai = chain.create("Token", "Dai Stablecoin", "DAI", 18, 10**30)
    usdc = chain.create("Token", "USD Coin", "USDC", 6, 10**20)
    chain.send(DEPLOYER, weth, "WETH9", "deposit", value=10_000 * ETHER)
    first, second = (chain.create("UniswapV2Factory", DEPLOYER) for _ in range(2))
    market = Market(chain, weth, dai, usdc, {}, chain.create("Executor", weth, OWNER))
    market.pools["cheap"] = market.add_pool(first, {weth: 100 * ETHER, dai: 300_000 * ETHER})
    market.pools["dear"] = market.add_pool(second, {weth: 100 * ETHER, dai: 330_000 * ETHER})
    market.pools["stable"] = market.add_pool(first, {dai: 10**6 * ETHER, usdc: 10**12})
    market.pools["usdc"] = market.add_pool(first, {usdc: 300_000 * 10**6, weth: 100 * ETHER})
    chain.send(DEPLOYER, weth, "Token", "transfer", market.executor, 50 * ETHER)
    return market
