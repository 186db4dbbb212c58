"""From the chain, the mempool and the policy to a plan that is exact to the wei. No input or output
happens here: the engine hands over states and signs what comes back.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.calldata.rows import MAX_HOPS
from kernels.chain.fees import next_base_fee
from kernels.graph.market_graph import HOPS, POOL, ROW_IN
from kernels.market.action import ACTION_TABLE, ACTIONS, BID, PPM, decode
from kernels.market.observation import SIZE, observe, record_auction
from kernels.market.tile import (
    BASE_FEE,
    FORECAST,
    FORECASTS,
    FOUND_CYCLE,
    FOUND_NET,
    GAS_USED_RATIO,
    OPPORTUNITIES,
    OWN_TIP,
    SLOT,
    TICK,
    layout_of,
    new_tile,
)
from kernels.pools.uniswap_v2 import OK
from live.books.plan import Plan, PlanHop
from live.market.chain import Chain
from live.market.decode import from_limbs, uint256_limbs
from live.market.mempool import Mempool, Pending, effective_tip_wei
from live.market.overlay import (
    MAX_CYCLE_HOPS,
    Followed,
    State,
    apply_swaps,
    fill_tile,
    pool_table,
    size_exactly,
)
from live.node.events import Head
from live.settings.config import ETHER, GWEI, EngineConfig
from live.settings.deployment import Deployment
from models.frozen import FrozenPolicy

ELASTICITY = 2  # gas target = limit / 2
# Opportunity of every action, -1 where it bids on none.
_BIDS_ON = np.array([action.opportunity for action in ACTION_TABLE])
# When a policy decides for good: what it saw at the last decision of a simulated slot.
LAST_DECISION = 0.95


class Fees(NamedTuple):
    """Price of a transaction in the next block, wei per gas."""

    max_fee_wei: int
    max_priority_fee_wei: int


class Choice(NamedTuple):
    """What the policy chose, before it is priced."""

    k: int
    cycle: int
    bid_ppm: int
    size_ppm: int
    """Share of the best input."""
    action: int


class Quote(NamedTuple):
    """A cycle with exact amounts on the overlaid state."""

    cycle: int
    amounts: tuple[int, ...]
    """Input of the first hop, then what each hop pays."""
    pools: tuple[int, ...]
    zero_for_one: tuple[bool, ...]

    @property
    def gross_wei(self) -> int:
        """Output minus input."""
        return self.amounts[-1] - self.amounts[0]


class Planner:
    """Holds the tile of one lane and the buffers around it."""

    def __init__(
        self,
        deployment: Deployment,
        chain: Chain,
        mempool: Mempool,
        policy: FrozenPolicy,
        config: EngineConfig,
    ) -> None:
        self._deployment = deployment
        self._chain = chain
        self._mempool = mempool
        self._policy = policy
        self._config = config
        self._pool_table = pool_table(deployment.graph)
        self._cycles = deployment.graph.cycles
        self._weights = deployment.graph.weights
        self.tile = new_tile(deployment.graph, 1)
        self.observation = np.zeros((1, SIZE), np.float32)
        self.actions = np.zeros((1, ACTIONS), np.bool_)
        first = layout_of(deployment.graph).since
        self._since = self.tile[first : first + len(self._cycles), 0]
        self._since_at_start = self._since.copy()
        self._reserves = chain.reserves.copy()
        self._base = chain.reserves.copy()
        self._amounts = np.zeros((0, MAX_HOPS + 1, 2), np.uint64)
        self._status = np.zeros(0, np.int64)
        self._rows = np.zeros(0, np.int64)
        self._tips = np.zeros(0)
        self._applied = 0
        self._cycle_amounts = np.zeros((MAX_CYCLE_HOPS + 1, 2), np.uint64)
        self.order: list[Pending] = []
        self._followed: list[Pending] = []
        self.base_fee_wei = 0
        self.block = 0
        self._block_time_s = 0

    @property
    def pools(self) -> int:
        """P, the pools tracked."""
        return self._deployment.pools

    def start_slot(self, head: Head) -> None:
        """The block after `head` is being built from now on."""
        base_fee_wei = next_base_fee(head.base_fee_wei, head.gas_used, head.gas_limit)
        if base_fee_wei < 0:
            raise ValueError(f"block {head.number}: base fee or gas out of range")
        if self.block:
            self._policy.end_slot(self.observation[0])
        self.base_fee_wei = base_fee_wei
        self.block = head.number + 1
        self._block_time_s = head.timestamp_s + round(self._deployment.slot_s)
        self._since_at_start[:] = self._since
        self.tile[BASE_FEE, 0] = base_fee_wei / GWEI
        self.tile[GAS_USED_RATIO, 0] = head.gas_used * ELASTICITY / head.gas_limit
        self.tile[OWN_TIP, 0] = self._config.own_tip_wei / GWEI
        self.tile[SLOT, 0] = self.block
        self.tile[TICK, 0] = LAST_DECISION

    def set_forecast(self, log_variance: np.ndarray) -> None:
        """ln of the variance of the next 5, 15 and 60 minutes, float[3]."""
        self.tile[FORECAST : FORECAST + FORECASTS, 0] = log_variance

    def record(self, net_eth: float, fraction: float, won: bool) -> None:
        """Put an auction of ours into the history that the policy sees.

        Who won against us and at what price is not public; then our own bid stands for theirs.
        """
        record_auction(self.tile, 0, net_eth, fraction, fraction, won)

    def own_fees(self) -> Fees:
        """Fees of a plan whose nonce is fresh."""
        tip = self._config.own_tip_wei
        return Fees(self.base_fee_wei + tip, tip)

    def overlay(self, blocked: np.ndarray) -> None:
        """Apply what will land before us to exact reserves; marks unclear pools in `blocked`."""
        self.order = self._mempool.inclusion_order(
            self.base_fee_wei, self._config.own_tip_wei, self._block_time_s
        )
        followed = [pending for pending in self.order if pending.row >= 0]
        for pending in self.order:
            if pending.row < 0:
                blocked[list(pending.decoded.unclear)] = True
        self._followed = followed
        count = len(followed)
        self._rows = np.array([pending.row for pending in followed], np.int64)
        tips = [
            effective_tip_wei(pending.transaction, self.base_fee_wei) / GWEI for pending in followed
        ]
        # a later nonce may tip more than the one it has to wait for: the tile sorts by tips
        self._tips = np.minimum.accumulate(np.array(tips, np.float64))
        self._amounts = np.zeros((count, MAX_HOPS + 1, 2), np.uint64)
        self._status = np.zeros(count, np.int64)
        np.copyto(self._reserves, self._chain.reserves)
        self._applied = apply_swaps(
            self._pool_table,
            self._mempool.table,
            self._rows,
            self._reserves,
            self._amounts,
            self._status,
        )

    def look(self, blocked: np.ndarray) -> bool:
        """Fill the tile and observe it; whether there is anything to bid on."""
        np.copyto(self._base, self._chain.reserves)
        # ages count slots: every look at a slot starts from how the last slot ended
        self._since[:] = self._since_at_start
        followed = Followed(
            self._mempool.table,
            self._rows,
            self._amounts,
            self._status,
            self._applied,
            self._tips,
        )
        state = State(self._chain.mirror, self._base, blocked)
        fill_tile(self._pool_table, followed, state, self.tile)
        observe(self._cycles, self._weights, self.tile, self.observation, self.actions)
        return bool(self.tile[FOUND_CYCLE, 0] >= 0.0)

    def found(self) -> list[int]:
        """Cycles of the opportunities found, best first."""
        return [
            int(self.tile[FOUND_CYCLE + k, 0])
            for k in range(OPPORTUNITIES)
            if self.tile[FOUND_CYCLE + k, 0] >= 0.0
        ]

    def decide(self) -> Choice | None:
        """Ask the policy; None when it passes."""
        action = int(self._policy.decide(self.observation[0], self.actions[0]))
        kind, k, bid_ppm, _, size_ppm = (int(x) for x in decode(action))
        # Nothing stands in the tile, so there is nothing to cancel: what waits is the engine's.
        if kind != BID:
            return None
        return Choice(k, int(self.tile[FOUND_CYCLE + k, 0]), bid_ppm, size_ppm, action)

    def net_eth(self, k: int) -> float:
        """Net of an opportunity as the policy saw it."""
        return float(self.tile[FOUND_NET + k, 0])

    def forbid(self, k: int) -> None:
        """Take an opportunity out of the next decision on the same observation."""
        self.actions[0, k == _BIDS_ON] = False

    def quote(self, cycle: int, most_wei: int, size_ppm: int = PPM) -> Quote | None:
        """Exact amounts of a cycle with at most `most_wei` in; None when it does not pay.

        With `size_ppm` below a million, that share of the best input, rounded down.
        """
        best = self._exact(cycle, most_wei)
        if best is None or size_ppm == PPM:
            return best
        return self._exact(cycle, best.amounts[0] * size_ppm // PPM)

    def _exact(self, cycle: int, most_wei: int) -> Quote | None:
        most = np.array([uint256_limbs(most_wei)[:2]], np.uint64)
        amounts = self._cycle_amounts
        status = size_exactly(self._pool_table, self._cycles, cycle, self._reserves, most, amounts)
        if status != OK:
            return None
        row = self._cycles[cycle].tolist()
        hops = row[HOPS]
        values = tuple(low | high << 64 for low, high in amounts[: hops + 1].tolist())
        pools = tuple(row[POOL : POOL + hops])
        sides = tuple(row_in < self._deployment.pools for row_in in row[ROW_IN : ROW_IN + hops])
        return Quote(cycle, values, pools, sides)

    def price(self, quote: Quote, bid_ppm: int, fees: Fees) -> Plan:
        """The plan with its bid: floor(net * ppm / 10^6), in our favour; 0 without a net."""
        gas = int(self._weights[self._deployment.pools + quote.cycle])
        price_wei = min(fees.max_fee_wei, self.base_fee_wei + fees.max_priority_fee_wei)
        net_wei = quote.gross_wei - gas * price_wei
        addresses = self._deployment.pool_address
        return Plan(
            block_number=self.block,
            amount_in_wei=quote.amounts[0],
            hops=tuple(
                PlanHop(addresses[pool], amount, side)
                for pool, amount, side in zip(
                    quote.pools, quote.amounts[1:], quote.zero_for_one, strict=True
                )
            ),
            gross_wei=quote.gross_wei,
            net_wei=net_wei,
            bid_wei=max(net_wei, 0) * bid_ppm // PPM,
            gas=gas,
            gas_limit=round(gas * self._config.gas_limit_margin),
            max_fee_wei=fees.max_fee_wei,
            max_priority_fee_wei=fees.max_priority_fee_wei,
        )

    def state_of(self, pools: frozenset[int]) -> bytes:
        """Overlaid reserves of `pools`, comparable from one overlay to the next."""
        rows = sorted(pools)
        return self._reserves[rows + [row + self._deployment.pools for row in rows]].tobytes()

    def targets(self, pools: frozenset[int]) -> tuple[str, ...]:
        """Transactions that the overlaid state assumes on `pools`, in order."""
        return tuple(
            pending.transaction.hash
            for pending, status in zip(self._followed, self._status, strict=True)
            if status == OK and not pools.isdisjoint(pending.pools)
        )

    def still_runs(self, plan: Plan) -> bool:
        """Whether the pairs would pay every amount of a signed plan on the overlaid state."""
        amount_in = plan.amount_in_wei
        for hop in plan.hops:
            pool = self._deployment.pool_of[hop.pool]
            rows = (pool, pool + self._deployment.pools)
            row_in, row_out = rows if hop.zero_for_one else rows[::-1]
            reserve_in = from_limbs(self._reserves[row_in].tolist())
            reserve_out = from_limbs(self._reserves[row_out].tolist())
            with_fee = amount_in * int(self._pool_table.fee_numerator[pool])
            scaled = reserve_in * int(self._pool_table.fee_denominator[pool])
            # getAmountOut, rounded down: the pair's K check allows this much and not one more
            if hop.amount_out > with_fee * reserve_out // (scaled + with_fee):
                return False
            amount_in = hop.amount_out
        return True

    def lands_after_targets(self, pools: frozenset[int], fees: Fees) -> bool:
        """Whether these fees keep us behind every assumed swap on `pools`.

        By tip as builders order, and by fee cap as the local chain's node does.
        """
        return all(
            effective_tip_wei(pending.transaction, self.base_fee_wei) > fees.max_priority_fee_wei
            and pending.transaction.max_fee_wei > fees.max_fee_wei
            for pending in self.order
            if not pools.isdisjoint(pending.pools)
        )


def warm_up_planner(planner: Planner) -> None:
    """Run every kernel of the hot path once, on whatever the planner holds."""
    blocked = np.zeros(planner.pools, np.bool_)
    planner.overlay(blocked)
    planner.look(blocked)
    planner.decide()
    planner.quote(0, ETHER)
    planner.record(1.0, 0.5, False)
