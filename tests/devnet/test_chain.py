"""The local chain as others rely on it: what is deployed, how blocks are ordered, what the executor
earns and burns there, and that a node never outlives the program that started it."""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import devnet
from devnet.abi import call_data, decode_result
from devnet.accounts import ROLES, SEARCHER, Call, account, sign
from devnet.anvil import NodeStartError, anvil
from devnet.artifacts import artifact
from devnet.behaviour import Reference, get_amount_out, informed_swaps, quote
from devnet.config import GWEI, AnvilConfig, DevnetConfig, TrafficConfig, WorldConfig
from devnet.rpc import Rpc, RpcError
from devnet.world import World, deploy, reserves, world_from_manifest
from tests.support.programs import PATIENCE_S, until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # web3 loads websockets.legacy
    from web3 import Web3

pytestmark = pytest.mark.devnet
ETHER = 10**18
LIFETIME_S = 15.0  # long enough for a node to start on a busy machine
BY_HAND = AnvilConfig(slot_s=3600.0, accounts=12)  # blocks come from evm_mine alone


@dataclass
class Chain:
    """A world whose blocks are mined by the test."""

    rpc: Rpc
    world: World

    def send(self, sender: int, call: Call, tip_wei: int) -> str:
        """Put a transaction into the pool; returns its hash."""
        address = account(sender).address
        nonce = int(self.rpc.call("eth_getTransactionCount", address, "pending"), 16)
        raw, transaction_hash = sign(sender, nonce, self.world.chain_id, call, tip_wei)
        self.rpc.call("eth_sendRawTransaction", raw)
        return transaction_hash

    def mine(self) -> Any:
        """Mine a block and return it."""
        self.rpc.call("evm_mine")
        return self.rpc.call("eth_getBlockByNumber", "latest", False)

    def receipt(self, transaction_hash: str) -> Any:
        return self.rpc.call("eth_getTransactionReceipt", transaction_hash)

    def balance(self, token: str, holder: str) -> int:
        data = "0x" + call_data("Token", "balanceOf", holder).hex()
        answer = self.rpc.call("eth_call", {"to": token, "data": data}, "latest")
        return int(answer, 16)


@pytest.fixture(scope="module")
def built() -> Iterator[Chain]:
    with anvil(BY_HAND, lifetime_s=1800) as node:
        rpc = Rpc(node.http_url)
        try:
            yield Chain(rpc, deploy(rpc, WorldConfig(), BY_HAND))
        finally:
            rpc.close()


@pytest.fixture
def chain(built: Chain) -> Iterator[Chain]:
    """The world at its start, whatever the test before did."""
    snapshot = built.rpc.call("evm_snapshot")
    yield built
    assert built.rpc.call("evm_revert", snapshot)


def test_world_is_what_its_manifest_says(chain: Chain) -> None:
    world, rpc = chain.world, chain.rpc
    assert world_from_manifest(json.loads(json.dumps(world.manifest()))) == world
    assert int(rpc.call("eth_chainId"), 16) == world.chain_id
    contracts = [t.address for t in world.tokens] + [p.address for p in world.pools]
    contracts += [a for e in world.exchanges for a in (e.factory, e.router)]
    for address in [*contracts, world.executor.address]:
        assert len(rpc.call("eth_getCode", address, "latest")) > 100, address
    for pool in world.pools:
        data = call_data("UniswapV2Factory", "getPair", pool.token1, pool.token0)
        answer = rpc.call("eth_call", {"to": pool.factory, "data": "0x" + data.hex()}, "latest")
        [pair] = decode_result("UniswapV2Factory", "getPair", bytes.fromhex(answer[2:]))
        assert pair == pool.address.lower()
        assert int(pool.token0, 16) < int(pool.token1, 16)
    for token in world.tokens:
        data = "0x" + call_data("Token", "decimals").hex()
        assert int(rpc.call("eth_call", {"to": token.address, "data": data}, "latest"), 16) == (
            token.decimals
        )
    assert len(world.pools) >= 8
    owner = account(SEARCHER).address
    assert world.executor.owner == owner
    assert chain.balance(world.weth, world.executor.address) == 200 * ETHER


def test_pools_agree_on_prices_at_the_start(chain: Chain) -> None:
    world = chain.world
    for pool, (reserve0, reserve1) in zip(
        world.pools, reserves(chain.rpc, world.pools), strict=True
    ):
        token0, token1 = world.token(pool.token0), world.token(pool.token1)
        value0 = reserve0 / 10**token0.decimals * token0.price_weth
        value1 = reserve1 / 10**token1.decimals * token1.price_weth
        assert math.isclose(value0, value1, rel_tol=1e-6)


def test_an_independent_client_reads_the_same(chain: Chain) -> None:
    """web3 shares no code with our calls: same reserves, same balance, same checksums."""
    world = chain.world
    client = Web3(Web3.HTTPProvider(chain.rpc.url))
    for pool, expected in zip(world.pools, reserves(chain.rpc, world.pools), strict=True):
        pair = client.eth.contract(
            address=Web3.to_checksum_address(pool.address), abi=artifact("UniswapV2Pair").abi
        )
        assert tuple(pair.functions.getReserves().call()[:2]) == expected
        assert pair.functions.token0().call() == pool.token0
        assert pair.functions.token1().call() == pool.token1
    executor = client.eth.contract(
        address=Web3.to_checksum_address(world.executor.address), abi=artifact("Executor").abi
    )
    assert executor.functions.OWNER().call() == world.executor.owner
    assert executor.functions.WETH().call() == world.weth


def _transfer(chain: Chain) -> Call:
    return Call(chain.world.coinbase, b"", 30_000, value_wei=1)


def test_order_is_by_max_fee_and_equal_ones_keep_their_arrival(chain: Chain) -> None:
    """What a back-run relies on: signed with its target's fees it lands right behind it."""
    user, searcher, rival = ROLES, SEARCHER, ROLES + 1
    low = chain.send(ROLES + 2, _transfer(chain), GWEI - 1)
    target = chain.send(user, _transfer(chain), GWEI)
    backrun = chain.send(searcher, _transfer(chain), GWEI)
    late = chain.send(rival, _transfer(chain), GWEI)
    high = chain.send(ROLES + 3, _transfer(chain), GWEI + 1)
    assert chain.mine()["transactions"] == [high, target, backrun, late, low]


def test_order_follows_max_fee_and_not_the_tip(chain: Chain) -> None:
    """Why everybody signs the same ceiling plus the tip: a tip alone buys no place."""
    hashes = []
    for sender, max_fee, tip in ((ROLES, 50 * GWEI, GWEI), (ROLES + 1, 20 * GWEI, 10 * GWEI)):
        address = account(sender).address
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": chain.world.chain_id,
            "nonce": int(chain.rpc.call("eth_getTransactionCount", address, "latest"), 16),
            "gas": 30_000,
            "maxFeePerGas": max_fee,
            "maxPriorityFeePerGas": tip,
            "to": chain.world.coinbase,
            "value": 1,
            "data": b"",
        }
        signed = account(sender).sign_transaction(fields)
        raw = "0x" + bytes(signed.raw_transaction).hex()
        hashes.append(chain.rpc.call("eth_sendRawTransaction", raw))
    assert chain.mine()["transactions"] == hashes


def _disturb(chain: Chain) -> None:
    """A user moves the deep WETH/DAI pool by about 6 %, and the block is mined."""
    world, user = chain.world, ROLES
    dai = next(token.address for token in world.tokens if token.symbol == "DAI")
    path = [world.weth, dai]
    data = call_data(
        "UniswapV2Router02",
        "swapExactTokensForTokens",
        *(18 * ETHER, 0, path, account(user).address, 2**63),
    )
    sent = chain.send(user, Call(world.exchanges[0].router, data, 250_000), GWEI)
    chain.mine()
    assert int(chain.receipt(sent)["status"], 16) == 1


def _cycle(chain: Chain, symbols: list[str], exchanges: list[str], amount_in: int) -> Any:
    """Exact hops through WETH -> symbols -> WETH on the named exchanges, and the output."""
    world = chain.world
    addresses = {token.symbol: token.address for token in world.tokens}
    state = {p.address: r for p, r in zip(world.pools, reserves(chain.rpc, world.pools))}
    hops, amount = [], amount_in
    for sold, bought, exchange in zip(["WETH", *symbols], [*symbols, "WETH"], exchanges):
        pair = {addresses[sold], addresses[bought]}
        [pool] = [p for p in world.pools if p.exchange == exchange and {p.token0, p.token1} == pair]
        amount = quote([pool], addresses[sold], amount, state)
        hops.append((pool.address, amount, addresses[sold] == pool.token0))
    return hops, amount


@pytest.mark.parametrize(
    ("symbols", "exchanges"),
    [
        (["DAI"], ["Fork", "Uniswap"]),
        (["USDC", "DAI"], ["Uniswap", "Fork", "Uniswap"]),
        (["WBTC", "USDC", "DAI"], ["Fork", "Fork", "Fork", "Uniswap"]),
    ],
)
@pytest.mark.parametrize("bid_wei", [0, 10**15])
def test_executor_earns_what_was_planned_within_its_gas_bound(
    chain: Chain, symbols: list[str], exchanges: list[str], bid_wei: int
) -> None:
    world, executor = chain.world, chain.world.executor
    _disturb(chain)
    chain.rpc.call("evm_increaseTime", 12)  # all pairs write their price accumulators: dearest
    amount_in = ETHER
    hops, amount_out = _cycle(chain, symbols, exchanges, amount_in)
    gain = amount_out - amount_in
    assert gain > bid_wei
    bound = executor.gas_base + executor.gas_per_hop * len(hops) + bool(bid_wei) * executor.gas_bid
    deadline = int(chain.rpc.call("eth_blockNumber"), 16) + 1
    arguments = (deadline, amount_in, hops, gain - bid_wei, bid_wei)
    limit = bound + bound // 10  # refunds come only at the end
    call = Call(executor.address, call_data("Executor", "execute", *arguments), limit)
    held = chain.balance(world.weth, executor.address)
    earned = int(chain.rpc.call("eth_getBalance", world.coinbase, "latest"), 16)
    sent = chain.send(SEARCHER, call, GWEI)
    block = chain.mine()
    receipt = chain.receipt(sent)
    assert int(receipt["status"], 16) == 1
    assert chain.balance(world.weth, executor.address) - held == gain - bid_wei
    tips = int(receipt["gasUsed"], 16) * GWEI
    coinbase = int(chain.rpc.call("eth_getBalance", world.coinbase, "latest"), 16)
    assert coinbase - earned == bid_wei + tips
    used = int(receipt["gasUsed"], 16)
    # the bound is honest: never exceeded, and not so wide that it would distort a decision
    assert 0.95 * bound < used <= bound, f"{len(hops)} hops, bid {bid_wei}: {used} of {bound}"
    assert int(block["gasUsed"], 16) == used


def test_a_stale_plan_reverts_cheaply(chain: Chain) -> None:
    executor = chain.world.executor
    _disturb(chain)
    hops, _ = _cycle(chain, ["DAI"], ["Fork", "Uniswap"], ETHER)
    number = int(chain.rpc.call("eth_blockNumber"), 16)
    data = call_data("Executor", "execute", number, ETHER, hops, 0, 0)
    sent = chain.send(SEARCHER, Call(executor.address, data, 300_000), GWEI)
    chain.mine()
    receipt = chain.receipt(sent)
    assert int(receipt["status"], 16) == 0
    assert int(receipt["gasUsed"], 16) < 30_000


def test_informed_trader_brings_a_pool_back_to_the_reference(chain: Chain) -> None:
    world, config = chain.world, TrafficConfig(informed_swaps=1)
    _disturb(chain)
    reference = Reference(world.tokens, world.weth, config)
    state = {p.address: r for p, r in zip(world.pools, reserves(chain.rpc, world.pools))}
    trader = account(2).address
    now_s = int(chain.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    [swap] = informed_swaps(world, config, state, reference, trader, now_s)
    sent = chain.send(2, swap.call, swap.tip_wei)
    chain.mine()
    assert int(chain.receipt(sent)["status"], 16) == 1
    state = {p.address: r for p, r in zip(world.pools, reserves(chain.rpc, world.pools))}
    assert informed_swaps(world, config, state, reference, trader, now_s) == []


def test_quotes_agree_with_the_router(chain: Chain) -> None:
    world, rpc = chain.world, chain.rpc
    router, pool = world.exchanges[0].router, world.pools[0]
    for amount, sold, bought in (
        (1, 10**6, 10**18),
        (10**18, 7 * 10**20, 3),
        (10**24, 10**9, 10**30),
    ):
        data = call_data("UniswapV2Router02", "getAmountOut", amount, sold, bought)
        answer = rpc.call("eth_call", {"to": router, "data": "0x" + data.hex()}, "latest")
        assert int(answer, 16) == get_amount_out(amount, sold, bought, pool)


def test_refusals_are_named(chain: Chain) -> None:
    with pytest.raises(RpcError, match=r"eth_sendRawTransaction: .*"):
        chain.rpc.call("eth_sendRawTransaction", "0x00")
    with pytest.raises(RpcError, match=r"no answer from http://127\.0\.0\.1:9"):
        Rpc("http://127.0.0.1:9", timeout_s=1).call("eth_chainId")
    with pytest.raises(ValueError, match="url is 'ws://x'"):
        Rpc("ws://x")


def test_a_taken_port_is_refused_by_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(NodeStartError, match=f"port {port}.*choose another anvil.port"),
            anvil(AnvilConfig(port=port), lifetime_s=30),
        ):
            pass


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_node_dies_with_its_program_and_at_the_end_of_its_lifetime() -> None:
    code = (
        "import time\n"
        "from devnet.anvil import anvil\n"
        "from devnet.config import AnvilConfig\n"
        "with anvil(AnvilConfig(), lifetime_s={}) as node:\n"
        "    print(node.http_url.rpartition(':')[2], node.ipc_path, flush=True)\n"
        "    time.sleep(600)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", code.format(600)], stdout=subprocess.PIPE)
    expiring = subprocess.Popen(
        [sys.executable, "-c", code.format(LIFETIME_S)], stdout=subprocess.PIPE
    )
    try:
        ports, folders = [], []
        for process in (killed, expiring):
            assert process.stdout is not None
            port, ipc_path = process.stdout.readline().decode().split()
            ports.append(int(port))
            folders.append(Path(ipc_path).parent)
        assert _answers(ports[0])
        killed.send_signal(signal.SIGKILL)
        until(lambda: not any(map(_answers, ports)), "the end of both nodes")
        assert expiring.poll() is None, "it was the lifetime that ended the node"
        until(lambda: not any(folder.exists() for folder in folders), "the end of their folders")
    finally:
        for process in (killed, expiring):
            process.kill()
            process.communicate()


def test_traffic_swaps_and_keeps_prices(tmp_path: Path) -> None:
    config = DevnetConfig(
        anvil=AnvilConfig(slot_s=0.5),
        lifetime=600,
        manifest=tmp_path / "devnet.json",
    )
    with devnet.running(config) as world:
        manifest = json.loads(config.manifest.read_text())
        assert manifest == world.manifest
        assert manifest["ws_url"] == world.ws_url
        rpc = Rpc(world.http_url)
        try:
            deployed = world_from_manifest(manifest)
            done = _router_transactions(rpc, deployed, wanted=40, within_s=PATIENCE_S)
            final = reserves(rpc, deployed.pools)
        finally:
            rpc.close()
    assert not _answers(int(world.http_url.rpartition(":")[2]))
    assert sum(done) > 0.75 * len(done) >= 30  # some miss their slippage limit, as in life
    for pool, (reserve0, reserve1) in zip(deployed.pools, final, strict=True):
        token0, token1 = deployed.token(pool.token0), deployed.token(pool.token1)
        value0 = reserve0 / 10**token0.decimals * token0.price_weth
        value1 = reserve1 / 10**token1.decimals * token1.price_weth
        assert abs(math.log(value0 / value1)) < 0.15


def _router_transactions(rpc: Rpc, world: World, wanted: int, within_s: float) -> list[bool]:
    """Success of at least `wanted` router transactions after the deployment."""
    routers = {exchange.router.lower() for exchange in world.exchanges}
    found: list[bool] = []
    number, deadline = world.block + 1, time.monotonic() + within_s
    while len(found) < wanted and time.monotonic() < deadline:
        block = rpc.call("eth_getBlockByNumber", hex(number), True)
        if block is None:
            time.sleep(0.1)
            continue
        number += 1
        hashes = [t["hash"] for t in block["transactions"] if t["to"] in routers]
        receipts = rpc.batch([("eth_getTransactionReceipt", (h,)) for h in hashes])
        found += [int(receipt["status"], 16) == 1 for receipt in receipts]
    return found
