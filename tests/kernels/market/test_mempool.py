"""The rules of the transaction pool, to the wei."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.compile import kernel
from kernels.market.mempool import bumped, effective_tip, replaces, waiting_tip

FEES = st.integers(0, 2**55)


@kernel
def _effective(cap: float, tip: float, base_fee: float) -> float:
    return effective_tip(cap, tip, base_fee)


@kernel
def _bumped(old: float, wanted: float) -> float:
    return bumped(old, wanted)


@kernel
def _waiting(own: float, earlier: float) -> float:
    return waiting_tip(own, earlier)


@given(FEES, FEES, FEES, FEES)
def test_both_fees_must_rise_by_a_tenth(old_cap: int, old_tip: int, cap: int, tip: int) -> None:
    """geth: thresholds are old * 110 / 100 in integers, and an equal fee never replaces."""
    enough = cap >= old_cap * 110 // 100 and tip >= old_tip * 110 // 100
    assert replaces(old_cap, old_tip, cap, tip) == (enough and cap > old_cap and tip > old_tip)


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [(100, 110, True), (100, 109, False), (9, 9, False), (9, 10, True), (0, 0, False)],
)
def test_integer_division_decides_at_the_edge(old: int, new: int, allowed: bool) -> None:
    assert replaces(old, old, new, new) is allowed
    assert not replaces(old, old, new, old)
    assert not replaces(old, old, old, new)


def test_fees_of_waiting_transactions() -> None:
    assert _effective(30.0, 2.0, 15.0) == 2.0
    assert _effective(16.0, 2.0, 15.0) == 1.0
    assert _effective(14.0, 2.0, 15.0) == -1.0
    assert _waiting(5.0, 2.0) == 2.0
    assert _waiting(5.0, -1.0) == -1.0
    assert _bumped(10.0, 5.0) == pytest.approx(11.0)
    assert _bumped(10.0, 50.0) == 50.0
    assert np.isfinite(_bumped(0.0, 0.0))
