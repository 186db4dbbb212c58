"""A server on a chain that takes blocks back: reserves, nonces and books follow, and the same
opportunity is earned again, once. Blocks are mined by the test, on anvil with real contracts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from devnet.abi import call_data
from devnet.accounts import Call, account, searcher_key, sign
from devnet.anvil import Node as Anvil
from devnet.anvil import anvil
from devnet.config import ROLES, AnvilConfig, WorldConfig
from devnet.rpc import Rpc
from devnet.world import World, deploy
from live.books.journal import Journal
from live.node.signer import Signer
from live.server import Policy, Server, _open_node, load_policy
from live.settings.config import NodeConfig, RiskLimits, ServeConfig
from live.settings.deployment import load_deployment
from tests.support.frozen_policy import write_fixed_fraction_policy
from tests.support.programs import PATIENCE_S

pytestmark = pytest.mark.devnet
BY_HAND = AnvilConfig(slot_s=3600.0, accounts=8)  # blocks come from evm_mine alone
ETHER, GWEI = 10**18, 10**9
FOREVER = 2**60


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Anvil, Rpc, World]]:
    with anvil(BY_HAND, lifetime_s=1800) as node:
        rpc = Rpc(node.http_url)
        try:
            world = deploy(rpc, WorldConfig(), BY_HAND)
            rpc.call("evm_mine")  # its base fee was set by the deployment, not by the rule
            yield node, rpc, world
        finally:
            rpc.close()


@pytest.fixture
def chain(built: tuple[Anvil, Rpc, World]) -> Iterator[tuple[Anvil, Rpc, World]]:
    """The world at its start, whatever the test before did."""
    _, rpc, _ = built
    snapshot = rpc.call("evm_snapshot")
    yield built
    rpc.call("anvil_dropAllTransactions")
    assert rpc.call("evm_revert", snapshot)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return load_policy(write_fixed_fraction_policy(tmp_path_factory.mktemp("run") / "policy"))


def user_swap(rpc: Rpc, world: World, user: int, weth: float) -> str:
    """Sell ether for the first dollar token on the deeper exchange; the raw transaction."""
    token = next(token for token in world.tokens if token.symbol == "DAI")
    sender = account(ROLES + user).address
    path = [world.weth, token.address]
    data = call_data("UniswapV2Router02", "swapExactETHForTokens", 0, path, sender, FOREVER)
    nonce = int(rpc.call("eth_getTransactionCount", sender, "latest"), 16)
    call = Call(world.exchanges[0].router, data, 250_000, int(weth * ETHER))
    raw, _ = sign(ROLES + user, nonce, world.chain_id, call, GWEI)
    rpc.call("eth_sendRawTransaction", raw)
    return raw


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"waited in vain for: {what}")


async def served(
    chain: tuple[Anvil, Rpc, World],
    policy: Policy,
    folder: Path,
    scenario: Callable[[Server, Rpc, World], Any],
    ipc: bool,
) -> Server:
    """Run `scenario` beside a server; the server after it has closed its books."""
    node, rpc, world = chain
    path = folder / "deployment.json"
    path.write_text(json.dumps(world.manifest()))
    config = ServeConfig(
        key="env:SEARCHER_KEY",
        node=NodeConfig(
            url=node.ws_url,
            ipc_path=node.ipc_path if ipc else "",
            connect_timeout_s=PATIENCE_S,
            request_timeout_s=PATIENCE_S,
        ),
        risk=RiskLimits(
            max_input_wei=200 * ETHER,
            max_bid_wei=5 * ETHER,
            min_net_wei=ETHER // 100,  # the opportunity that a test makes, not what it leaves over
            kill_switch=folder / "STOP",
        ),
        deployment=path,
        dry_run=False,
    )
    deployment, signer = load_deployment(path), Signer(bytes.fromhex(searcher_key()[2:]))
    connection, _ = await _open_node(config, deployment, signer)
    journal = Journal(folder / "journal.sqlite")
    server = Server(config, deployment, policy, signer, connection, journal, lambda server: None)
    task = asyncio.create_task(server.run(None))
    try:
        await until(lambda: server.metrics.heads == 1, "first state")
        await scenario(server, rpc, world)
    finally:
        task.cancel()
        await asyncio.sleep(0.5)
        task.cancel()  # a second time: do not wait for what may still be included
        await asyncio.wait([task])
        connection.close()
        await asyncio.sleep(0.05)
    journal.close()
    return server


def run(*arguments: Any) -> Server:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(served(*arguments))


async def earn(server: Server, rpc: Rpc, included: int) -> None:
    """The plan that is on its way is mined, and realises what it expected."""
    book, planner = server.engine.book, server.engine.planner
    # an attempt that a reorg reopened waits in the book too, but not for this block
    await until(lambda: bool(book.plans_for(planner.block)), "a plan")
    await until(lambda: not server.node._waiting, "the node's answer")
    await asyncio.to_thread(rpc.call, "evm_mine")
    await until(lambda: server.metrics.included == included, f"{included} included")
    assert server.metrics.unchallenged == included
    assert server.metrics.realised_profit_wei == server.metrics.expected_profit_wei > 0


@pytest.mark.parametrize("ipc", [False, True], ids=["websocket", "ipc"])
def test_a_block_that_is_taken_back(
    chain: tuple[Anvil, Rpc, World], policy: Policy, tmp_path: Path, ipc: bool
) -> None:
    async def scenario(server: Server, rpc: Rpc, world: World) -> None:
        m, nonce = server.metrics, server.engine.book.confirmed
        raw = await asyncio.to_thread(user_swap, rpc, world, int(ipc), 8.0)
        await earn(server, rpc, 1)
        assert server.engine.book.confirmed == nonce + 1
        # anvil drops both transactions and announces the block's replacement, without removed logs
        await asyncio.to_thread(rpc.call, "anvil_reorg", 1, [])
        await until(lambda: m.reorgs_handled == 1, "the reorg")
        assert (m.included, m.realised_profit_wei, m.gas_spent_wei) == (0, 0, 0)
        assert m.executor_balance_change_wei == m.balance_mismatches == 0
        assert server.engine.book.confirmed == nonce
        # the same swap again, the same nonce again
        await asyncio.to_thread(rpc.call, "eth_sendRawTransaction", raw)
        await earn(server, rpc, 1)
        assert server.engine.book.confirmed == nonce + 1
        assert m.executor_balance_change_wei == m.realised_profit_wei
        # a rollback is not announced at all: the next block tells
        await asyncio.to_thread(rpc.call, "anvil_rollback", 1)
        await asyncio.to_thread(rpc.call, "evm_mine")
        await until(lambda: m.reorgs_handled == 2, "the rollback")
        assert (m.included, m.realised_profit_wei) == (0, 0)

    server = run(chain, policy, tmp_path, scenario, ipc)
    m = server.metrics
    assert m.state_mismatches == m.unchallenged_violations == m.balance_mismatches == 0
    assert m.failed == 0


def test_removed_logs_and_unknown_events_from_the_node(
    chain: tuple[Anvil, Rpc, World], policy: Policy, tmp_path: Path
) -> None:
    """What this anvil never sends is put into the server's frames: other nodes do send it."""

    async def scenario(server: Server, rpc: Rpc, world: World) -> None:
        m, chain_state = server.metrics, server.engine.chain
        await asyncio.to_thread(user_swap, rpc, world, 2, 1.0)
        await asyncio.to_thread(rpc.call, "evm_mine")
        await until(lambda: m.heads == 2, "a block")
        reserves, block = list(chain_state.integers), chain_state.head
        [subscription] = [
            name
            for name, handler in server.node._handlers.items()
            if handler == server.feed._on_log
        ]
        log = {
            "address": world.pools[0].address,
            "topics": ["0x" + "12" * 32],
            "data": "0x",
            "blockNumber": hex(block.number),
            "blockHash": block.hash,
            "transactionHash": "0x" + "34" * 32,
            "transactionIndex": "0x0",
            "logIndex": "0x0",
            "removed": True,
        }
        params = {"subscription": subscription, "result": log}
        frame = json.dumps({"method": "eth_subscription", "params": params}).encode()
        server.node._on_frame(frame, 0)
        server.node._on_frame(frame, 0)  # one for every log of the block
        assert m.reorgs_handled == 1
        assert chain_state.integers != reserves
        assert chain_state.head.number == block.number - 1
        # the node keeps the block after all: the next one does not follow ours, all is read again
        await asyncio.to_thread(rpc.call, "evm_mine")
        await until(lambda: chain_state.head.number == block.number + 1, "the next block")
        assert chain_state.integers == reserves
        assert m.state_mismatches == 0

    run(chain, policy, tmp_path, scenario, False)


def test_a_lost_connection_in_the_middle(
    chain: tuple[Anvil, Rpc, World], policy: Policy, tmp_path: Path
) -> None:
    async def scenario(server: Server, rpc: Rpc, world: World) -> None:
        server.node._on_lost()
        # announced or not: without it, the opportunity is found when the swap has been mined
        await asyncio.to_thread(user_swap, rpc, world, 3, 8.0)
        await until(lambda: server.node.reconnects == 1, "another connection")
        await until(lambda: server.engine._ready, "a state")
        for block in range(2):
            await asyncio.to_thread(rpc.call, "evm_mine")
            await until(lambda: server.metrics.heads >= 2 + block, "a block")  # noqa: B023
            await until(lambda: server.engine._ready, "its state")
        m = server.metrics
        assert (m.included, m.unchallenged, m.failed) == (1, 1, 0)
        assert m.realised_profit_wei == m.executor_balance_change_wei > 0
        assert m.state_mismatches == 0

    run(chain, policy, tmp_path, scenario, False)
