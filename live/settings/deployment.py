"""What stands on the chain: tokens, pools, routers and our executor, read from a JSON file and held
as the arrays that kernels want. Token 0 is WETH, the hub of every cycle.
"""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from kernels.calldata.rows import V2_ROUTER, router_table
from kernels.graph.market_graph import Graph, build_graph
from live.settings.config import StartError

ADDRESS_LIMBS = 3


class TokenEntry(msgspec.Struct):
    address: str
    symbol: str
    decimals: int


class ExchangeEntry(msgspec.Struct):
    factory: str
    router: str


class PoolEntry(msgspec.Struct):
    address: str
    factory: str
    token0: str
    token1: str
    fee_numerator: int
    fee_denominator: int


class ExecutorEntry(msgspec.Struct):
    address: str
    owner: str
    gas_base: int
    gas_per_hop: int
    gas_bid: int


class DeploymentFile(msgspec.Struct):
    """The file's content; keys that a server does not need are ignored."""

    chain_id: int
    slot_s: float
    weth: str
    tokens: list[TokenEntry]
    exchanges: list[ExchangeEntry]
    pools: list[PoolEntry]
    executor: ExecutorEntry


class Deployment(NamedTuple):
    """Addresses as 20 raw bytes; P pools in the order of the file, WETH as token 0."""

    chain_id: int
    slot_s: float
    weth: bytes
    symbols: tuple[str, ...]
    token_address: tuple[bytes, ...]
    pool_address: tuple[bytes, ...]
    pool_tokens: tuple[tuple[int, int], ...]
    pool_of: dict[bytes, int]
    """Pool index by address."""
    pool_on: dict[tuple[bytes, bytes, bytes], int]
    """Pool index by (router, token paid in, token paid out)."""
    routers: np.ndarray
    """uint64[r, ROUTER_WORDS], for kernels.calldata.routers."""
    router_address: tuple[bytes, ...]
    executor: bytes
    owner: bytes
    gas_base: int
    gas_per_hop: int
    graph: Graph

    @property
    def pools(self) -> int:
        """P."""
        return len(self.pool_address)


def address_limbs(address: bytes) -> tuple[int, int, int]:
    """An address as three uint64 limbs, least significant first, as the decoder writes them."""
    value = int.from_bytes(address, "big")
    return value & (1 << 64) - 1, value >> 64 & (1 << 64) - 1, value >> 128


def load_deployment(path: Path) -> Deployment:
    """Read and check the file; StartError naming the field when it cannot be used."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=DeploymentFile)
    except OSError as error:
        raise StartError(
            f"deployment {path} cannot be read ({error.strerror}): name the JSON file that "
            "describes the chain's pools and our executor"
        ) from error
    except msgspec.MsgspecError as error:
        raise StartError(f"deployment {path}: {error}") from error
    try:
        return _deployment(content)
    except (ValueError, KeyError, binascii.Error) as error:
        raise StartError(f"deployment {path}: {error}") from error


def smallest_deployment() -> Deployment:
    """Two pools of one pair: enough to compile every kernel before a real deployment is known."""
    addresses = [f"0x{number:040x}" for number in range(1, 8)]
    weth, token, pool0, pool1, factory0, factory1, router = addresses
    entries = [
        PoolEntry(pool, factory, weth, token, 997, 1000)
        for pool, factory in ((pool0, factory0), (pool1, factory1))
    ]
    return _deployment(
        DeploymentFile(
            chain_id=1,
            slot_s=1.0,
            weth=weth,
            tokens=[TokenEntry(weth, "WETH", 18), TokenEntry(token, "DAI", 18)],
            exchanges=[ExchangeEntry(factory0, router), ExchangeEntry(factory1, router)],
            pools=entries,
            executor=ExecutorEntry(router, router, 1, 1, 1),
        )
    )


def _deployment(content: DeploymentFile) -> Deployment:
    weth = _address("weth", content.weth)
    tokens = sorted(content.tokens, key=lambda token: _address("token", token.address) != weth)
    token_address = tuple(_address("token", token.address) for token in tokens)
    if not token_address or token_address[0] != weth:
        raise ValueError(f"weth {content.weth} is not among the tokens")
    index = {address: i for i, address in enumerate(token_address)}
    pool_address = tuple(_address("pool", pool.address) for pool in content.pools)
    router_of = {
        _address("factory", exchange.factory): _address("router", exchange.router)
        for exchange in content.exchanges
    }
    pool_on: dict[tuple[bytes, bytes, bytes], int] = {}
    pool_tokens = []
    for i, pool in enumerate(content.pools):
        pair = (_address("token0", pool.token0), _address("token1", pool.token1))
        for token in pair:
            if token not in index:
                raise ValueError(f"pool {pool.address} trades 0x{token.hex()}: list that token")
        pool_tokens.append((index[pair[0]], index[pair[1]]))
        router = router_of.get(_address("factory", pool.factory))
        if router is None:
            raise ValueError(f"pool {pool.address} is of factory {pool.factory}: list its exchange")
        pool_on[router, pair[0], pair[1]] = pool_on[router, pair[1], pair[0]] = i
    executor = content.executor
    return Deployment(
        chain_id=content.chain_id,
        slot_s=content.slot_s,
        weth=weth,
        symbols=tuple(token.symbol for token in tokens),
        token_address=token_address,
        pool_address=pool_address,
        pool_tokens=tuple(pool_tokens),
        pool_of={address: i for i, address in enumerate(pool_address)},
        pool_on=pool_on,
        routers=router_table(
            [
                (int.from_bytes(router, "big"), int.from_bytes(weth, "big"), V2_ROUTER)
                for router in router_of.values()
            ]
        ),
        router_address=tuple(router_of.values()),
        executor=_address("executor.address", executor.address),
        owner=_address("executor.owner", executor.owner),
        # plans bid nearly always, so the payment's gas belongs to every plan
        gas_base=executor.gas_base + executor.gas_bid,
        gas_per_hop=executor.gas_per_hop,
        graph=build_graph(
            [pair[0] for pair in pool_tokens],
            [pair[1] for pair in pool_tokens],
            [pool.fee_numerator for pool in content.pools],
            [pool.fee_denominator for pool in content.pools],
            [token.decimals for token in tokens],
            base_gas=executor.gas_base + executor.gas_bid,
            gas_per_hop=executor.gas_per_hop,
        ),
    )


def _address(field: str, text: str) -> bytes:
    try:
        raw = binascii.unhexlify(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise ValueError(f"{field} is {text!r}: expected 0x and 40 hexadecimal digits")
    return raw
