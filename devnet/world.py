"""Deploys the world that searchers act in: WETH9, ERC-20 tokens, two Uniswap V2 exchanges of the
same bytecode (the original and a fork), liquidity, funded users, and our executor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from devnet.abi import call_data, creation_code, decode_result
from devnet.accounts import DEPLOYER, INFORMED, SEARCHER, Call, account, sign
from devnet.anvil import COINBASE
from devnet.artifacts import artifact
from devnet.config import FEE_CEILING_WEI, GWEI, ROLES, AnvilConfig, WorldConfig
from devnet.rpc import Rpc
from history.files import write_atomically

EXCHANGES = ("Uniswap", "Fork", "Fork2", "Fork3")  # config.MAX_EXCHANGES of them at most
# name, symbol, decimals of the tokens beside WETH, as on mainnet
TOKENS = (("Dai Stablecoin", "DAI", 18), ("USD Coin", "USDC", 6), ("Wrapped BTC", "WBTC", 8))
# Every exchange lists these: cycles of two (same pair, two exchanges) and three pools through WETH.
PAIRS = (("WETH", "DAI"), ("WETH", "USDC"), ("WETH", "WBTC"), ("DAI", "USDC"), ("USDC", "WBTC"))
FEE_NUMERATOR, FEE_DENOMINATOR = 997, 1000  # UniswapV2Library.getAmountOut
FOREVER = 2**255
UNLIMITED = 2**256 - 1
MAX_DEPLOYMENT_BLOCKS = 10
# Gas of an executed plan, of which the node's receipts use 95 to 100 % (tests/devnet): transaction
# and calldata; each hop, 10,400 less through a pair that traded in the same block before; a bid.
EXECUTOR_GAS_BASE = 34_500
EXECUTOR_GAS_PER_HOP = 50_300
EXECUTOR_GAS_BID = 16_700


class DeploymentError(RuntimeError):
    """A deployment transaction failed or was never mined; the message names it."""


@dataclass(frozen=True)
class Token:
    """An ERC-20; `price_weth` is the value of one whole token at deployment, in WETH."""

    address: str
    symbol: str
    decimals: int
    price_weth: float

    def units(self, value_weth: float) -> int:
        """Smallest units that are worth `value_weth` at the deployment's price."""
        return round(value_weth / self.price_weth * 10**self.decimals)


@dataclass(frozen=True)
class Exchange:
    """One V2 factory and the router that trades on its pairs."""

    name: str
    factory: str
    router: str


@dataclass(frozen=True)
class Pool:
    """A V2 pair; token0 < token1 by address, as in the contract."""

    address: str
    exchange: str
    factory: str
    token0: str
    token1: str
    fee_numerator: int = FEE_NUMERATOR
    fee_denominator: int = FEE_DENOMINATOR


@dataclass(frozen=True)
class Executor:
    """Our executor. A plan uses at most gas_base + gas_per_hop * hops + gas_bid (if it bids); its
    gas limit needs a tenth more, because refunds come at the end."""

    address: str
    owner: str
    gas_base: int = EXECUTOR_GAS_BASE
    gas_per_hop: int = EXECUTOR_GAS_PER_HOP
    gas_bid: int = EXECUTOR_GAS_BID


@dataclass(frozen=True)
class World:
    """What stands on the chain: all addresses checksummed, nothing that is not public."""

    chain_id: int
    slot_s: float
    order: str
    block: int
    coinbase: str
    fee_ceiling_wei: int
    weth: str
    tokens: tuple[Token, ...]
    exchanges: tuple[Exchange, ...]
    pools: tuple[Pool, ...]
    executor: Executor
    informed: str
    users: tuple[str, ...]

    def manifest(self) -> dict[str, Any]:
        """The world as plain JSON values: the configuration of a server or any other client."""
        return json.loads(json.dumps(asdict(self)))

    def token(self, address: str) -> Token:
        """The token at `address`; KeyError when there is none."""
        return {token.address: token for token in self.tokens}[address]


def world_from_manifest(manifest: dict[str, Any]) -> World:
    """The inverse of World.manifest; keys it does not know (the node's addresses) are ignored."""
    simple = {
        name: manifest[name]
        for name in World.__dataclass_fields__
        if name not in ("tokens", "exchanges", "pools", "executor", "users")
    }
    return World(
        tokens=tuple(Token(**token) for token in manifest["tokens"]),
        exchanges=tuple(Exchange(**exchange) for exchange in manifest["exchanges"]),
        pools=tuple(Pool(**pool) for pool in manifest["pools"]),
        executor=Executor(**manifest["executor"]),
        users=tuple(manifest["users"]),
        **simple,
    )


def save(manifest: dict[str, Any], path: Path) -> None:
    """Write a manifest as JSON; readers see the old file or the new one, never a part."""
    write_atomically(path, json.dumps(manifest, indent=2) + "\n")


def created_address(sender: str, nonce: int) -> str:
    """Address of the contract that `sender` creates: keccak(rlp([sender, nonce]))[12:]."""
    if not 0 <= nonce < 2**16:
        raise ValueError(f"nonce is {nonce}: the short form is for nonces below 65536")
    text = b"" if nonce == 0 else nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    encoded = text if len(text) == 1 and text[0] < 0x80 else bytes([0x80 + len(text)]) + text
    body = b"\x94" + bytes.fromhex(sender[2:]) + encoded
    return to_checksum_address(keccak(bytes([0xC0 + len(body)]) + body)[12:])


def pair_address(factory: str, token_a: str, token_b: str) -> str:
    """Address of a V2 pair by CREATE2 (UniswapV2Library.pairFor)."""
    low, high = sorted((bytes.fromhex(token_a[2:]), bytes.fromhex(token_b[2:])))
    init_code_hash = keccak(artifact("UniswapV2Pair").bytecode)
    seed = b"\xff" + bytes.fromhex(factory[2:]) + keccak(low + high) + init_code_hash
    return to_checksum_address(keccak(seed)[12:])


class Plan:
    """Transactions of the deployment in order, with the nonces that they will have."""

    def __init__(self, chain_id: int) -> None:
        self.chain_id = chain_id
        self.labels: list[str] = []
        self.raw: list[str] = []
        self.hashes: list[str] = []
        self.sent = 0
        self._nonces: dict[int, int] = {}

    def add(self, label: str, sender: int, call: Call) -> int:
        """Append a signed transaction of account `sender`; returns its nonce."""
        nonce = self._nonces.get(sender, 0)
        self._nonces[sender] = nonce + 1
        raw, transaction_hash = sign(sender, nonce, self.chain_id, call, GWEI)
        self.labels.append(label)
        self.raw.append(raw)
        self.hashes.append(transaction_hash)
        return nonce

    def create(self, label: str, contract: str, *arguments: Any) -> str:
        """Append the creation of `contract` by the deployer; returns its address."""
        code = creation_code(contract, *arguments)
        # storing code costs 200 gas per byte, its calldata up to 16, the constructor the rest
        nonce = self.add(label, DEPLOYER, Call(None, code, gas=500_000 + 250 * len(code)))
        return created_address(account(DEPLOYER).address, nonce)


def deploy(rpc: Rpc, config: WorldConfig, node: AnvilConfig) -> World:
    """Build the world on a fresh chain; DeploymentError when anything failed."""
    plan = Plan(node.chain_id)
    tokens = _create_tokens(plan, config, node.accounts)
    weth = tokens["WETH"].address
    exchanges = [_create_exchange(plan, name, weth) for name in EXCHANGES[: len(config.depth_weth)]]
    owner = account(SEARCHER).address
    executor = plan.create("Executor", "Executor", weth, owner)
    pools = list(_add_liquidity(plan, config, tokens, exchanges))
    amount_wei = round(config.executor_weth * 10**18)
    plan.add("fund executor", DEPLOYER, _token_call(weth, "transfer", executor, amount_wei))
    traders = [INFORMED, *range(ROLES, node.accounts)]
    for trader in traders:
        _fund(plan, config, trader, tokens, exchanges)
    _mine(rpc, plan)
    _check_pools(rpc, pools)
    block = _start_price_accumulators(rpc, plan, pools)
    rpc.call("evm_setBlockGasLimit", hex(node.block_gas_limit))
    rpc.call("anvil_setNextBlockBaseFeePerGas", hex(node.base_fee_wei))
    return World(
        chain_id=node.chain_id,
        slot_s=node.slot_s,
        order=node.order,
        block=block,
        coinbase=COINBASE,
        fee_ceiling_wei=FEE_CEILING_WEI,
        weth=weth,
        tokens=tuple(tokens.values()),
        exchanges=tuple(exchanges),
        pools=tuple(pools),
        executor=Executor(executor, owner),
        informed=account(INFORMED).address,
        users=tuple(account(trader).address for trader in traders[1:]),
    )


def _create_tokens(plan: Plan, config: WorldConfig, accounts: int) -> dict[str, Token]:
    prices = {
        "DAI": 1 / config.weth_usd,
        "USDC": 1 / config.weth_usd,
        "WBTC": config.wbtc_usd / config.weth_usd,
    }
    # for everybody's purse and every pool, and as much again
    value_weth = 2 * (accounts * config.user_weth + len(PAIRS) * sum(config.depth_weth))
    tokens = {"WETH": Token(plan.create("WETH9", "WETH9"), "WETH", 18, 1.0)}
    for name, symbol, decimals in TOKENS:
        supply = Token("", symbol, decimals, prices[symbol]).units(value_weth)
        address = plan.create(symbol, "Token", name, symbol, decimals, supply)
        tokens[symbol] = Token(address, symbol, decimals, prices[symbol])
    return tokens


def _create_exchange(plan: Plan, name: str, weth: str) -> Exchange:
    # no fee switch: feeToSetter is the deployer, who never sets feeTo
    factory = plan.create(f"{name} factory", "UniswapV2Factory", account(DEPLOYER).address)
    router = plan.create(f"{name} router", "UniswapV2Router02", factory, weth)
    return Exchange(name, factory, router)


def _token_call(token: str, function: str, *arguments: Any) -> Call:
    return Call(token, call_data("Token", function, *arguments), gas=80_000)


def _deposit(weth: str, amount_wei: int) -> Call:
    return Call(weth, call_data("WETH9", "deposit"), gas=80_000, value_wei=amount_wei)


def _approve_routers(
    plan: Plan, sender: int, tokens: Iterable[Token], exchanges: list[Exchange]
) -> None:
    for token in tokens:
        for exchange in exchanges:
            call = _token_call(token.address, "approve", exchange.router, UNLIMITED)
            plan.add(f"{token.symbol} approval of account {sender}", sender, call)


def _add_liquidity(
    plan: Plan, config: WorldConfig, tokens: dict[str, Token], exchanges: list[Exchange]
) -> Iterator[Pool]:
    weth_pairs = sum("WETH" in pair for pair in PAIRS)
    needed_weth = weth_pairs * sum(config.depth_weth) + config.executor_weth
    amount_wei = math.ceil(needed_weth * 1.001 * 10**18)
    plan.add("deposit", DEPLOYER, _deposit(tokens["WETH"].address, amount_wei))
    _approve_routers(plan, DEPLOYER, tokens.values(), exchanges)
    holder = account(DEPLOYER).address
    for exchange, depth_weth in zip(exchanges, config.depth_weth, strict=True):
        for symbols in PAIRS:
            a, b = (tokens[symbol] for symbol in symbols)
            amounts = (a.units(depth_weth), b.units(depth_weth))
            data = call_data(
                "UniswapV2Router02",
                "addLiquidity",
                *(a.address, b.address, *amounts, *amounts, holder, FOREVER),
            )
            # the router creates the pair on the way
            plan.add(f"{exchange.name} {symbols}", DEPLOYER, Call(exchange.router, data, 3_500_000))
            pair = pair_address(exchange.factory, a.address, b.address)
            token0, token1 = sorted((a.address, b.address), key=str.lower)
            yield Pool(pair, exchange.name, exchange.factory, token0, token1)


def _fund(
    plan: Plan,
    config: WorldConfig,
    trader: int,
    tokens: dict[str, Token],
    exchanges: list[Exchange],
) -> None:
    """Give account `trader` every token, and its approvals to every router."""
    address = account(trader).address
    for token in tokens.values():
        amount = token.units(config.user_weth)
        if token.symbol == "WETH":
            plan.add(f"deposit of account {trader}", trader, _deposit(token.address, amount))
        else:
            call = _token_call(token.address, "transfer", address, amount)
            plan.add(f"{token.symbol} for account {trader}", DEPLOYER, call)
    _approve_routers(plan, trader, tokens.values(), exchanges)


def _mine(rpc: Rpc, plan: Plan) -> int:
    """Send what was not sent yet, mine until it is in, check it; returns the last block."""
    start = plan.sent
    plan.sent = len(plan.raw)
    rpc.batch([("eth_sendRawTransaction", (raw,)) for raw in plan.raw[start:]])
    receipts: list[Any] = []
    for _ in range(MAX_DEPLOYMENT_BLOCKS):
        rpc.call("evm_mine")
        receipts = rpc.batch([("eth_getTransactionReceipt", (h,)) for h in plan.hashes[start:]])
        if all(receipts):
            break
    for label, receipt in zip(plan.labels[start:], receipts, strict=True):
        if receipt is None:
            raise DeploymentError(f"deployment: {label} was not mined; is the chain fresh?")
        if int(receipt["status"], 16) != 1:
            raise DeploymentError(f"deployment: {label} reverted (gas {receipt['gasUsed']})")
    return max(int(receipt["blockNumber"], 16) for receipt in receipts)


def _start_price_accumulators(rpc: Rpc, plan: Plan, pools: list[Pool]) -> int:
    """Make every pair write its time-weighted prices once; returns the block.

    The first write costs 35,000 gas more than all later ones: pools that are years old do not
    charge it to whoever swaps next, so ours should not either.
    """
    for pool in pools:
        data = call_data("UniswapV2Pair", "sync")
        plan.add(f"sync of {pool.address}", DEPLOYER, Call(pool.address, data, 150_000))
    rpc.call("evm_increaseTime", 1)  # within the same second nothing is accumulated
    return _mine(rpc, plan)


def _check_pools(rpc: Rpc, pools: list[Pool]) -> None:
    for pool, (reserve0, reserve1) in zip(pools, reserves(rpc, pools), strict=True):
        if reserve0 == 0 or reserve1 == 0:
            raise DeploymentError(f"pool {pool.address} of {pool.exchange} is empty")


def reserves(rpc: Rpc, pools: Iterable[Pool], block: str = "latest") -> list[tuple[int, int]]:
    """(reserve0, reserve1) of each pool at a block, from the contracts."""
    data = "0x" + call_data("UniswapV2Pair", "getReserves").hex()
    answers = rpc.batch([("eth_call", ({"to": p.address, "data": data}, block)) for p in pools])
    decoded = (decode_result("UniswapV2Pair", "getReserves", bytes.fromhex(a[2:])) for a in answers)
    return [(int(r[0]), int(r[1])) for r in decoded]
