"""Arrivals, fee caps, nonces, replacement, expiry, visibility; recorded swaps in their place."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.market.config import MarketConfig
from envs.market.paths import SLOTS_PER_MINUTE, RecordedFlow
from envs.market.physics import (
    MINUTE,
    MISSED,
    PRIVATE_SWAP,
    STEP,
    WAITING_AFTER,
    WAITING_CAP,
    WAITING_EXPIRY,
    WAITING_KIND,
    WAITING_SEEN,
    WAITING_TIP,
)
from envs.vector import MarketVectorEnv
from kernels.market.tile import (
    BASE_FEE,
    GAS_USED_RATIO,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    SLOT,
    TICK,
)
from tests.support.worlds import BARE, markets, paths


def _rows(env: MarketVectorEnv, first: int, world: bool = False, count: int = PENDING) -> Any:
    """Rows of all lanes: float64[count, lanes]."""
    first += env._physics.world_row if world else 0
    rows = env._tiles[:, first : first + count]
    return np.moveaxis(rows, 0, 1).reshape(count, -1)[:, : env.num_envs]


def _pass(env: MarketVectorEnv) -> None:
    env.step(np.zeros(env.num_envs, np.int64))


def test_arrivals_are_a_hawkes_process() -> None:
    """Mean rate as configured; counts of slots vary more than Poisson and are correlated."""
    calm: dict[str, Any] = BARE | {"users.rate": 1.0, "users.hawkes_decay_s": 6.0}
    counts = {}
    for branching in (0.0, 0.6):
        env = markets(512, calm | {"users.hawkes_branching": branching}, seed=41)
        seen = []
        for _ in range(150):
            _pass(env)
            seen.append((_rows(env, PENDING_AMOUNT_IN) > 0.0).sum(axis=0))
        counts[branching] = np.array(seen[20:], np.float64)
        assert counts[branching].mean() == pytest.approx(1.0, rel=0.03)
    dispersion = {b: c.var() / c.mean() for b, c in counts.items()}
    assert dispersion[0.0] == pytest.approx(1.0, abs=0.03)
    assert dispersion[0.6] > 1.8
    lagged = {b: np.corrcoef(c[:-1].ravel(), c[1:].ravel())[0, 1] for b, c in counts.items()}
    assert abs(lagged[0.0]) < 0.02
    assert lagged[0.6] > 0.1


def test_swaps_are_seen_from_the_first_decision_after_their_delay() -> None:
    env = markets(256, {"users.low_cap_share": 0.0, "users.nonce_share": 0.0}, seed=42)
    hidden = shown = 0
    for _ in range(60):
        _pass(env)
        present = _rows(env, PENDING_AMOUNT_IN) > 0.0
        now = 12.0 * _rows(env, TICK, count=1)
        private = _rows(env, WAITING_KIND, True) == PRIVATE_SWAP
        expected = present & ~private & (_rows(env, WAITING_SEEN, True) <= now)
        visible = _rows(env, PENDING_VISIBLE) > 0.0
        np.testing.assert_array_equal(visible, expected)
        hidden += int((present & ~visible).sum())
        shown += int(visible.sum())
    assert hidden > 1000
    assert shown > 5000


def test_what_a_block_cannot_take_waits_is_replaced_and_expires() -> None:
    """Low fee caps wait: their fees rise by a tenth at least or not at all; deadlines hold."""
    changes: dict[str, Any] = {"users.low_cap_share": 1.0, "gas.base_fee_sigma": 0.0}
    env = markets(256, seed=43, ticks_per_slot=1, **changes)
    world, kept, raised = env._physics.world_row, 0, 0
    for _ in range(80):
        caps, tips = _rows(env, WAITING_CAP, True), _rows(env, WAITING_TIP, True)
        fee, slot = _rows(env, BASE_FEE, count=1)[0], _rows(env, SLOT, count=1)[0]
        present = _rows(env, PENDING_AMOUNT_IN) > 0.0
        effective = _rows(env, PENDING_TIP)
        taken = (caps >= fee) & present & (_rows(env, WAITING_AFTER, True) < 0)
        np.testing.assert_array_equal(effective[taken], np.minimum(tips, caps - fee)[taken])
        assert np.all(effective[present & (caps < fee)] == -1.0)
        assert np.all((_rows(env, WAITING_EXPIRY, True) >= slot)[present])
        waits = present & (effective < 0.0) & (_rows(env, WAITING_EXPIRY, True) > slot)
        missed = env._tiles[:, world + MISSED].reshape(-1)[: env.num_envs] > 0.0
        _pass(env)
        still = _rows(env, PENDING_AMOUNT_IN) > 0.0
        later, later_tips = _rows(env, WAITING_CAP, True), _rows(env, WAITING_TIP, True)
        for lane in np.flatnonzero(~missed):
            # In order of arrival, at the front.
            before = np.flatnonzero(waits[:, lane])
            for place, index in enumerate(before):
                assert still[place, lane]
                old, new = caps[index, lane], later[place, lane]
                kept += 1
                if new != old:
                    raised += 1
                    assert new >= old * 1.1 * (1 - 1e-12)
                    assert later_tips[place, lane] >= tips[index, lane] * 1.1 * (1 - 1e-12)
                    assert place == 0
    assert kept > 500
    assert raised > 50


def test_a_later_nonce_never_comes_before_an_earlier_one() -> None:
    env = markets(256, {"users.nonce_share": 0.7, "users.low_cap_share": 0.3}, seed=44)
    chained = stuck = 0
    for _ in range(60):
        after = _rows(env, WAITING_AFTER, True).astype(int)
        present = _rows(env, PENDING_AMOUNT_IN) > 0.0
        tips, visible = _rows(env, PENDING_TIP), _rows(env, PENDING_VISIBLE)
        for swap in range(1, PENDING):
            follows = present[swap] & (after[swap] >= 0)
            earlier = after[swap][follows]
            assert np.all(earlier < swap)
            lanes = np.flatnonzero(follows)
            assert np.all(present[earlier, lanes])
            assert np.all(tips[swap, lanes] <= tips[earlier, lanes])
            assert np.all(visible[swap, lanes] <= visible[earlier, lanes])
            chained += lanes.size
            stuck += int(np.sum(tips[swap, lanes] < 0.0))
        _pass(env)
    assert chained > 2000
    assert stuck > 50


def _recorded(**changes: Any) -> tuple[MarketVectorEnv, RecordedFlow]:
    """A market on ten days of prices whose every slot has two recorded swaps and its own gas."""
    under = paths()
    slots = SLOTS_PER_MINUTE * len(under)
    two = np.arange(2 * slots)
    flow = RecordedFlow(
        base_fee_gwei=20.0 + np.arange(slots) % 7,
        gas_used_ratio=np.where(np.arange(slots) % 5 == 0, np.nan, 1.25),
        missed=(np.arange(slots) % 10 == 9).astype(np.float64),
        swap_start=2 * np.arange(slots + 1),
        swap_pool=two % 8,
        swap_zero_for_one=(two % 3 == 0).astype(np.float64),
        swap_amount_in=0.001 + two % 13 / 1000.0,
        swap_min_out=np.zeros(two.size),
        swap_cap_gwei=np.full(two.size, 100.0),
        swap_tip_gwei=1.0 + two % 4,
        swap_seen_s=np.zeros(two.size),
        swap_kind=np.zeros(two.size),
    )._replace(**changes)
    env = MarketVectorEnv(
        32, MarketConfig(era="rich", ticks_per_slot=1), replace(under, recorded=flow)
    )
    env.reset(seed=1)
    return env, flow


def test_recorded_blocks_override_what_would_be_drawn() -> None:
    env, flow = _recorded()
    for _ in range(40):
        minute = _rows(env, MINUTE, True, 1)[0].astype(int)
        slot = SLOTS_PER_MINUTE * minute + _rows(env, STEP, True, 1)[0].astype(int)
        np.testing.assert_array_equal(_rows(env, BASE_FEE, count=1)[0], flow.base_fee_gwei[slot])
        np.testing.assert_array_equal(_rows(env, MISSED, True, 1)[0], flow.missed[slot])
        amounts, pool = _rows(env, PENDING_AMOUNT_IN), _rows(env, PENDING_POOL)
        for lane in range(32):
            # Behind what a missed slot left, the slot's own two.
            last = int((amounts[:, lane] > 0.0).sum())
            assert last >= 2
            at = flow.swap_start[slot[lane]]
            np.testing.assert_array_equal(
                amounts[last - 2 : last, lane], flow.swap_amount_in[at : at + 2]
            )
            np.testing.assert_array_equal(pool[last - 2 : last, lane], flow.swap_pool[at : at + 2])
        _pass(env)
        built = flow.missed[slot] == 0.0
        wanted = flow.gas_used_ratio[slot]
        known = built & np.isfinite(wanted)
        ratio = _rows(env, GAS_USED_RATIO, count=1)[0]
        np.testing.assert_array_equal(ratio[known], wanted[known])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"base_fee_gwei": np.zeros(7)}, "base_fee_gwei has 7"),
        ({"swap_start": np.zeros(3, np.int64)}, "swap_start"),
        ({"swap_tip_gwei": np.zeros(3)}, "swap_tip_gwei"),
        ({"swap_amount_in": np.full(2 * 5 * 14400, -1.0)}, "swap_amount_in"),
    ],
)
def test_bad_recordings_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        _recorded(**change)
