"""Simulated blocks executed again on integers: by the exact kernels, and by the real contracts."""

from typing import Any

import numpy as np
import pytest

from envs.auctions import WON
from envs.vector import MarketVectorEnv
from kernels.action import BID_PPM, FIRST_HALF, PPM
from kernels.graph import HOPS, POOL, ROW_IN, ROW_OUT
from kernels.market import (
    BASE_FEE,
    FOUND_AMOUNT_IN,
    FOUND_CYCLE,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_ORDER,
    PENDING_POOL,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
)
from kernels.sizing import cycle_amounts
from kernels.uniswap_v2 import OK
from tests.envs.worlds import BARE, markets
from tests.referee import RevertError, UniswapV2

FEE = (np.array([997] * 3), np.array([1000] * 3))
GWEI = 10**9


def _limbs(values: list[int]) -> np.ndarray:
    return np.array([[v & (2**64 - 1), v >> 64] for v in values], np.uint64)


class Ledger:
    """Reserves of one lane in smallest units, moved by the exact kernels."""

    def __init__(self, env: MarketVectorEnv, column: np.ndarray) -> None:
        graph = env.config.graph
        self.pools, self.cycles = graph.token0.size, graph.cycles
        decimals = [*graph.decimals[graph.token0], *graph.decimals[graph.token1]]
        self.unit = [10 ** int(d) for d in decimals]
        self.reserves = [
            round(float(column[RESERVES + row]) * unit) for row, unit in enumerate(self.unit)
        ]

    def sell(self, pool: int, forward: bool, amount: float) -> float:
        """One swap of `amount` tokens; what it pays out, in tokens."""
        row_in, row_out = (pool, pool + self.pools) if forward else (pool + self.pools, pool)
        amounts = self._run([row_in], [row_out], round(amount * self.unit[row_in]))
        self._move([row_in], [row_out], amounts)
        return amounts[1] / self.unit[row_out]

    def plan(self, cycle: int, amount: float) -> tuple[list[int], list[int], list[int]]:
        """Rows sold, rows bought and the exact amounts of a cycle."""
        hops = int(self.cycles[cycle, HOPS])
        rows_in = [int(r) for r in self.cycles[cycle, ROW_IN : ROW_IN + hops]]
        rows_out = [int(r) for r in self.cycles[cycle, ROW_OUT : ROW_OUT + hops]]
        amounts = self._run(rows_in, rows_out, round(amount * self.unit[rows_in[0]]))
        return rows_in, rows_out, amounts

    def _run(self, rows_in: list[int], rows_out: list[int], amount: int) -> list[int]:
        hops = len(rows_in)
        amounts = _limbs([amount] + [0] * hops)
        reserve_in = _limbs([self.reserves[row] for row in rows_in])
        reserve_out = _limbs([self.reserves[row] for row in rows_out])
        assert cycle_amounts(reserve_in, reserve_out, *FEE, hops, amounts) == OK
        return [int(low) | int(high) << 64 for low, high in amounts]

    def _move(self, rows_in: list[int], rows_out: list[int], amounts: list[int]) -> None:
        for hop, (row_in, row_out) in enumerate(zip(rows_in, rows_out)):
            self.reserves[row_in] += amounts[hop]
            self.reserves[row_out] -= amounts[hop + 1]


def _bids(env: MarketVectorEnv, step: int) -> np.ndarray:
    """Whole-size bundles on the best opportunity, high enough to win often."""
    wanted = 20 + (7 * step + 13 * np.arange(env.num_envs)) % 12
    return np.where(env.action_masks()[:, 1], 1 + wanted, 0)


def _replay(lanes: int, slots: int, seed: int, **changes: Any) -> list[tuple]:
    """Play whole episodes of `slots` slots, execute each block on integers and compare.

    Returns the plans that ran as (ledger before it, rows in, rows out, amounts).
    """
    env = markets(lanes, seed=seed, episode_slots=slots, concentrated_pools=0, **BARE, **changes)
    ran = []
    for step in range(slots):
        before, actions = env._tiles.copy(), _bids(env, step)
        _, reward, _, _, infos = env.step(actions)
        for lane in range(lanes):
            column = before[lane // 16, :, lane % 16]
            ledger = Ledger(env, column)
            for place in range(PENDING):
                swap = int(column[PENDING_ORDER + place])
                amount = column[PENDING_AMOUNT_IN + swap]
                if column[PENDING_VISIBLE + swap] <= 0.0 or amount <= 0.0:
                    continue
                forward = column[PENDING_ZERO_FOR_ONE + swap] > 0.0
                out = ledger.sell(int(column[PENDING_POOL + swap]), forward, amount)
                unit = 10 ** -min(int(d) for d in env.config.decimals)
                expected = pytest.approx(out, rel=1e-12, abs=2 * unit)
                assert column[PENDING_AMOUNT_OUT + swap] == expected
            if infos["outcome"][lane] != WON:
                continue
            cycle = int(column[FOUND_CYCLE])
            rows_in, rows_out, amounts = ledger.plan(cycle, float(column[FOUND_AMOUNT_IN]))
            ran.append((list(ledger.reserves), rows_in, rows_out, amounts))
            gross_wei = amounts[-1] - amounts[0]
            price_wei = round((column[BASE_FEE] + column[OWN_TIP]) * GWEI)
            net_wei = gross_wei - int(env.config.graph.cycle_gas[cycle]) * price_wei
            kept_wei = net_wei - net_wei * int(BID_PPM[actions[lane] - 1]) // PPM
            if all(d == 18 for d in env.config.decimals):
                assert reward[lane] * 1e18 == pytest.approx(kept_wei, rel=1e-9, abs=2e3)
            assert int(env.config.graph.cycles[cycle, POOL]) < ledger.pools
    assert actions.max() < FIRST_HALF
    return ran


EIGHTEEN = {"decimals": (18,) * 4}


def test_profits_differ_from_exact_execution_by_less_than_a_billionth() -> None:
    """64 episodes; gas prices to the wei; 2,000 wei is what floats cannot hold of 1e-3 ETH."""
    assert len(_replay(64, 12, 21, **EIGHTEEN)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_episodes_executed_again(seed: int) -> None:
    assert len(_replay(256, 64, 30 + seed, **EIGHTEEN)) > 3000


def test_plans_run_on_the_real_pairs_to_the_wei() -> None:
    """Default decimals: router quotes and pair swaps agree with every amount, one more reverts."""
    exchange = UniswapV2()
    assert exchange.is_token0(0, 1) in (True, False)
    for reserves, rows_in, rows_out, amounts in _replay(32, 6, 22)[:40]:
        for hop, (row_in, row_out) in enumerate(zip(rows_in, rows_out)):
            sold, bought = reserves[row_in], reserves[row_out]
            quoted = exchange.get_amount_out(amounts[hop], sold, bought)
            assert quoted == amounts[hop + 1]
            after = exchange.swap((sold, bought), (amounts[hop], 0), (0, quoted))
            assert after == (sold + amounts[hop], bought - quoted)
            with pytest.raises(RevertError, match="UniswapV2: K"):
                exchange.swap((sold, bought), (amounts[hop], 0), (0, quoted + 1))
