"""Reward modes agree on the profit under them; bids are lost for the reason that is told."""

import numpy as np
import pytest

from envs.market.block import GAS, OUTBID, OUTCOMES, REVERTED, STALE_STATE, WON
from kernels.market.action import BIDS, FIRST_PUBLIC
from kernels.market.opportunities import candidate_gas
from kernels.market.tile import (
    BASE_FEE,
    BUNDLES_TAKEN,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_NET,
    LANES,
    OWN_TIP,
)
from live.books.outcomes import REASONS
from tests.support.worlds import BARE, markets, some_actions

MODES = ("marked", "settled", "fraction", "sqrt")


def test_modes_pay_for_the_same_profit() -> None:
    envs = {mode: markets(48, seed=30, reward=mode, reward_scale_eth=0.02) for mode in MODES}
    slot, seen = np.zeros(48), {mode: set[bool]() for mode in MODES}
    for step in range(240):
        at_stake = envs["fraction"]._tiles[:, FOUND_NET].reshape(-1)[:48].copy()
        actions = some_actions(envs["marked"], step)
        reward, profit, info = {}, {}, {}
        for mode, env in envs.items():
            _, reward[mode], _, _, info[mode] = env.step(actions)
            profit[mode] = info[mode]["profit"]
            np.testing.assert_array_equal(profit[mode], profit["marked"])
            seen[mode] |= set((reward[mode] < 0.0).tolist())
        slot += reward["marked"]
        np.testing.assert_array_equal(reward["settled"], profit["settled"])
        root = np.sign(profit["sqrt"]) * np.sqrt(np.abs(profit["sqrt"]) / 0.02)
        np.testing.assert_allclose(reward["sqrt"], root, rtol=1e-12)
        if not info["marked"]["settled"].all():
            assert all(not reward[mode].any() for mode in MODES[1:])
            continue
        np.testing.assert_allclose(slot, profit["marked"], rtol=1e-9, atol=1e-12)
        slot[:] = 0.0
        at_stake = np.maximum(at_stake, info["fraction"]["net"])
        share = np.divide(profit["fraction"], at_stake, np.zeros(48), where=at_stake > 0.0)
        np.testing.assert_allclose(reward["fraction"], np.clip(share, -1.0, 1.0), rtol=1e-12)
        assert np.all(reward["fraction"][info["fraction"]["outcome"] == WON] > 0.0)
    assert all(both == {True, False} for both in seen.values())


def test_a_won_fraction_is_what_the_bid_left() -> None:
    """Nothing unseen: a won bundle on the best opportunity earns 1 - bid of its net profit."""
    env = markets(64, seed=31, reward="fraction", **BARE)
    won = 0
    for _ in range(60):
        _, reward, _, _, infos = env.step(np.where(env.action_masks()[:, BIDS], BIDS, 0))
        wins = infos["won"] & (infos["opportunity"] == 0)
        np.testing.assert_allclose(reward[wins], 1.0 - infos["own_fraction"][wins], rtol=1e-6)
        assert np.all(reward[~infos["won"]] == 0.0)
        won += np.count_nonzero(wins)
    assert won > 100


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("reason", [GAS, STALE_STATE])
def test_below_gas_is_told_from_below_the_bid(reason: int, public: bool) -> None:
    """A dearer block than the bid was made for, as moved pools would make of a plan's profit."""
    env = markets(64, seed=32, **BARE)
    weights, graph = env._physics.weights, env.config.graph
    pools, cycles = graph.token0.size, graph.cycle_hops.size
    action, seen = FIRST_PUBLIC + 4 if public else BIDS // 2, 0
    for _ in range(40):
        rows = np.moveaxis(env._tiles, 0, 1).reshape(env._tiles.shape[1], -1)
        bids = env.action_masks()[:, action] & (rows[BUNDLES_TAKEN] > 0.0)
        probe = markets(64, seed=0, **BARE)
        probe.set_state(env.state())
        _, _, _, _, infos = probe.step(np.where(bids, action, 0))
        payment = infos["own_fraction"] * infos["net"]
        for lane in np.flatnonzero(bids):
            gas = candidate_gas(weights, pools, cycles, int(rows[FOUND_CYCLE, lane]))
            gross = rows[FOUND_GROSS, lane]
            cost = 1.01 * gross if reason == GAS else gross - 0.5 * payment[lane]
            fee = 1e9 * cost / gas - rows[OWN_TIP, lane]
            env._tiles[lane // LANES, BASE_FEE, lane % LANES] = fee
        _, _, _, _, infos = env.step(np.where(bids, action, 0))
        told = infos["cause" if public else "outcome"][bids]
        assert set(told.tolist()) <= {reason, OUTBID}
        assert not public or np.all(infos["outcome"][bids] == REVERTED)
        seen += np.count_nonzero(told == reason)
    assert seen > 30


def test_reasons_are_called_as_the_server_calls_them() -> None:
    assert set(REASONS) <= set(OUTCOMES)
    assert set(OUTCOMES) - set(REASONS) == {"passed", "won", "missed"}
