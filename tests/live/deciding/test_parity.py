"""No skew between training and serving: a market mirrored into the server gives the policy the same
bytes as the same market in a tile of the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.chain.fees import next_base_fee
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE, observe, record_auction
from kernels.market.tile import (
    BASE_FEE,
    FORECAST,
    GAS_USED_RATIO,
    LANES,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    SLOT,
    TICK,
    new_tile,
)
from live.deciding.planner import LAST_DECISION, Planner
from live.market.chain import Chain
from live.market.decode import Decoded, RouterSwap
from live.market.mempool import Mempool
from live.node.events import Head
from live.settings.config import GWEI, EngineConfig
from models.frozen import FrozenPolicy, load
from tests.support.frozen_policy import write_fixed_fraction_policy
from tests.support.small_market import RESERVES as START
from tests.support.small_market import ROUTERS, deployment, pending

DEPLOYMENT = deployment()
POOLS = DEPLOYMENT.pools
FOREVER = 1 << 62

swap = st.tuples(
    st.integers(0, POOLS - 1),
    st.booleans(),
    st.integers(1, 60_000),  # ppm of the reserve sold into
    st.integers(2, 4).map(lambda tip: tip * GWEI),  # few values: ties are common
)
auction = st.tuples(st.floats(1e-4, 10.0), st.floats(0.0, 0.99), st.booleans())
slot = st.tuples(
    st.lists(st.integers(-30_000, 30_000), min_size=POOLS, max_size=POOLS),
    st.lists(swap, max_size=PENDING),
    st.lists(auction, max_size=2),
    st.integers(1, 10**11),
    st.integers(0, 30_000_000),
    st.lists(st.floats(-20.0, -5.0), min_size=3, max_size=3),
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> FrozenPolicy:
    return load(write_fixed_fraction_policy(tmp_path_factory.mktemp("run") / "policy"))


class Simulated:
    """One lane of a tile as the simulator keeps it: swaps in order of arrival."""

    def __init__(self, lane: int) -> None:
        self.lane = lane
        self.tile = new_tile(DEPLOYMENT.graph, LANES)
        self.observation = np.zeros((LANES, SIZE), np.float32)
        self.actions = np.zeros((LANES, ACTIONS), np.bool_)

    def observe(
        self, chain: Chain, head: Head, swaps: list[tuple[int, bool, int, int]]
    ) -> tuple[bytes, bytes]:
        tile, lane = self.tile, self.lane
        tile[RESERVES : RESERVES + 2 * POOLS, lane] = chain.mirror
        tile[BASE_FEE, lane] = (
            next_base_fee(head.base_fee_wei, head.gas_used, head.gas_limit) / GWEI
        )
        tile[GAS_USED_RATIO, lane] = head.gas_used / (head.gas_limit / 2)
        tile[OWN_TIP, lane] = EngineConfig().own_tip_wei / GWEI
        tile[SLOT, lane] = head.number + 1
        tile[TICK, lane] = LAST_DECISION
        tile[PENDING_POOL : PENDING_VISIBLE + PENDING, lane] = 0.0
        for at, (pool, forward, amount, tip) in enumerate(swaps):
            token = DEPLOYMENT.pool_tokens[pool][0 if forward else 1]
            tile[PENDING_POOL + at, lane] = pool
            tile[PENDING_ZERO_FOR_ONE + at, lane] = float(forward)
            tile[PENDING_AMOUNT_IN + at, lane] = amount / 10.0 ** int(
                DEPLOYMENT.graph.decimals[token]
            )
            tile[PENDING_TIP + at, lane] = tip / GWEI
            tile[PENDING_VISIBLE + at, lane] = 1.0
        graph = DEPLOYMENT.graph
        observe(graph.cycles, graph.weights, tile, self.observation, self.actions)
        return self.observation[lane].tobytes(), self.actions[lane].tobytes()


class Served:
    """The server's planner on the same market: integers, transactions, exact overlay."""

    def __init__(self, policy: FrozenPolicy) -> None:
        self.chain, self.mempool = Chain(DEPLOYMENT), Mempool()
        config = EngineConfig()
        self.planner = Planner(DEPLOYMENT, self.chain, self.mempool, policy, config)
        self.sent = 0

    def observe(self, head: Head, swaps: list[tuple[int, bool, int, int]]) -> tuple[bytes, bytes]:
        self.mempool.clear()
        for pool, forward, amount, tip in swaps:
            self.sent += 1
            sender = self.sent.to_bytes(20, "big")
            transaction = pending(self.sent, ROUTERS[0], b"", tip=tip, sender=sender)
            route = RouterSwap(False, amount, 0, FOREVER, ((pool, forward),))
            self.mempool.add(transaction, Decoded(route, (), False), head.number + 1)
            # the server looks after each arrival, the simulator once per slot
            self.planner.overlay(np.zeros(POOLS, np.bool_))
            self.planner.look(np.zeros(POOLS, np.bool_))
        self.planner.overlay(np.zeros(POOLS, np.bool_))
        self.planner.look(np.zeros(POOLS, np.bool_))
        return self.planner.observation[0].tobytes(), self.planner.actions[0].tobytes()


@settings(max_examples=60)
@given(st.lists(slot, min_size=1, max_size=4), st.integers(0, LANES - 1))
def test_the_server_shows_the_policy_the_simulators_bytes(
    policy: FrozenPolicy,
    slots: list[tuple[list[int], list[tuple[int, bool, int, int]], list, int, int, list[float]]],
    lane: int,
) -> None:
    simulated, served = Simulated(lane), Served(policy)
    for number, (moves, drawn, auctions, base_fee, gas_used, forecast) in enumerate(slots):
        reserves = [
            (r0 + r0 * move // 10**6, r1 - r1 * move // 10**6)
            for (r0, r1), move in zip(START, moves, strict=True)
        ]
        head = Head(number, f"0x{number:064x}", "0x", 12, base_fee, gas_used, 30_000_000, 0)
        for auction_ in auctions:  # results of the slot before, noted before the next one starts
            net, fraction, won = auction_
            served.planner.record(net, fraction, won)
            record_auction(simulated.tile, lane, net, fraction, fraction, won)
        served.chain.reset(head, reserves)
        served.planner.start_slot(head)
        served.planner.set_forecast(np.array(forecast))
        simulated.tile[FORECAST : FORECAST + 3, lane] = forecast
        swaps = [
            (pool, forward, reserves[pool][0 if forward else 1] * ppm // 10**6, tip)
            for pool, forward, ppm, tip in drawn
        ]
        seen, allowed = served.observe(head, swaps)
        assert seen == simulated.observe(served.chain, head, swaps)[0]
        assert allowed == simulated.actions[lane].tobytes()
    assert served.planner.observation.dtype == np.float32


def test_the_mirrored_markets_hold_opportunities(policy: FrozenPolicy) -> None:
    """The property above would say nothing if there were never anything to bid on."""
    served = Served(policy)
    head = Head(1, f"0x{1:064x}", "0x", 12, GWEI, 0, 30_000_000, 0)
    served.chain.reset(head, START)
    served.planner.start_slot(head)
    _, allowed = served.observe(head, [(0, True, 20 * 10**18, 2 * GWEI)])
    assert sum(allowed) > 1
