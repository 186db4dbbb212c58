"""Limits on what may be signed. Pure checks on exact integers; the first one that fails is named
in the journal, and nothing else can override it.
"""

from __future__ import annotations

import os
import time
from collections import deque

from live.books.plan import Plan
from live.settings.config import RiskLimits

HOUR_S = 3600.0


class LossWindow:
    """Losses of the last hour, in wei: gas of failures and profits that did not cover their gas."""

    def __init__(self) -> None:
        self._losses: deque[tuple[float, int]] = deque()
        self._total_wei = 0

    def add(self, loss_wei: int, age_s: float = 0.0) -> None:
        """Note a loss that happened `age_s` seconds ago (oldest first); gains are not set off."""
        if loss_wei > 0:
            self._losses.append((time.monotonic() - age_s, loss_wei))
            self._total_wei += loss_wei

    def total_wei(self) -> int:
        """Sum over the last hour."""
        oldest = time.monotonic() - HOUR_S
        while self._losses and self._losses[0][0] < oldest:
            self._total_wei -= self._losses.popleft()[1]
        return self._total_wei


def refusal(plan: Plan, limits: RiskLimits, open_plans: int, losses: LossWindow) -> str:
    """Name of the limit that forbids `plan`, empty when none does.

    `open_plans` counts the plans that wait for inclusion, without the one that this replaces.
    """
    gas_cost_wei = plan.gas_limit * plan.max_fee_wei
    if plan.amount_in_wei > limits.max_input_wei:
        return "max_input_wei"
    if plan.bid_wei > limits.max_bid_wei:
        return "max_bid_wei"
    if gas_cost_wei > limits.max_gas_cost_wei:
        return "max_gas_cost_wei"
    if plan.net_wei < limits.min_net_wei:
        return "min_net_wei"
    if not 0 <= plan.bid_wei <= plan.net_wei:
        return "bid_within_net"
    if open_plans >= limits.max_open:
        return "max_open"
    if losses.total_wei() > limits.max_loss_per_hour_wei:
        return "max_loss_per_hour_wei"
    if os.path.exists(limits.kill_switch):
        return "kill_switch"
    return ""
