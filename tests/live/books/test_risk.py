"""Each limit refuses what is outside it and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from live.books.plan import Plan, PlanHop
from live.books.risk import LossWindow, refusal
from live.settings.config import RiskLimits

GWEI, ETHER = 10**9, 10**18
PLAN = Plan(
    block_number=5,
    amount_in_wei=ETHER,
    hops=(PlanHop(bytes(20), ETHER, True),),
    gross_wei=ETHER // 10,
    net_wei=ETHER // 11,
    bid_wei=ETHER // 20,
    gas=200_000,
    gas_limit=260_000,
    max_fee_wei=10 * GWEI,
    max_priority_fee_wei=GWEI,
)


@pytest.fixture
def limits(tmp_path: Path) -> RiskLimits:
    return RiskLimits(
        max_input_wei=ETHER,
        max_bid_wei=ETHER // 20,
        max_gas_cost_wei=260_000 * 10 * GWEI,
        min_net_wei=ETHER // 11,
        max_open=2,
        max_loss_per_hour_wei=1000,
        kill_switch=tmp_path / "STOP",
    )


def test_a_plan_exactly_at_every_limit_passes(limits: RiskLimits) -> None:
    losses = LossWindow()
    losses.add(1000)
    assert refusal(PLAN, limits, 1, losses) == ""


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"amount_in_wei": ETHER + 1}, "max_input_wei"),
        ({"bid_wei": ETHER // 20 + 1}, "max_bid_wei"),
        ({"max_fee_wei": 10 * GWEI + 1}, "max_gas_cost_wei"),
        ({"net_wei": ETHER // 11 - 1}, "min_net_wei"),
        ({"bid_wei": -1}, "bid_within_net"),
    ],
)
def test_one_wei_outside_is_refused(limits: RiskLimits, change: dict[str, int], limit: str) -> None:
    assert refusal(PLAN._replace(**change), limits, 0, LossWindow()) == limit


def test_a_bid_above_the_net_is_refused(limits: RiskLimits) -> None:
    plan = PLAN._replace(bid_wei=PLAN.net_wei + 1)
    assert refusal(plan, replace(limits, max_bid_wei=ETHER), 0, LossWindow()) == "bid_within_net"


def test_open_plans_losses_and_the_kill_switch(limits: RiskLimits) -> None:
    losses = LossWindow()
    assert refusal(PLAN, limits, 2, losses) == "max_open"
    losses.add(1001)
    assert refusal(PLAN, limits, 0, losses) == "max_loss_per_hour_wei"
    limits.kill_switch.touch()
    assert refusal(PLAN, limits, 0, LossWindow()) == "kill_switch"


def test_losses_fade_after_an_hour_and_gains_do_not_count() -> None:
    losses = LossWindow()
    losses.add(70, age_s=3601.0)
    losses.add(20, age_s=3599.0)
    losses.add(-500)
    assert losses.total_wei() == 20
