"""The split in time has no overlap, and the bootstrap and the means per block are right."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.calibration.per_block import REASONS, RECORDED, agrees, interval, stretch_of
from envs.calibration.quantities import QUANTITIES
from envs.calibration.recorded import per_block
from envs.calibration.windows import SPLITS, inside


@pytest.mark.parametrize("name", sorted(SPLITS))
def test_fitted_and_held_out_windows_do_not_meet(name: str) -> None:
    split = SPLITS[name]
    spans = sorted((*split.fitted, *split.held_out))
    assert all(first < past for first, past in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert split.why


@given(st.sampled_from(sorted(SPLITS)), st.data())
def test_no_block_is_both_fitted_and_held_out(name: str, data: st.DataObject) -> None:
    split = SPLITS[name]
    for first, past in (*split.fitted, *split.held_out):
        block = np.array([data.draw(st.integers(first, past - 1))])
        assert inside(block, split.fitted)[0] != inside(block, split.held_out)[0]


def test_every_quantity_has_a_split_and_every_mean_a_source_or_a_reason() -> None:
    assert {quantity.name for quantity in QUANTITIES} == set(SPLITS)
    assert not set(RECORDED) & set(REASONS)


def test_blocks_without_an_entry_count_as_zero() -> None:
    frame = pl.DataFrame({"block_number": [10, 12, 12, 20], "paid": [1.0, 2.0, 3.0, 4.0]})
    first, second = per_block(frame, "paid", ((8, 13), (19, 30)))
    # Nothing was recorded before block 10 and after block 20.
    assert first.tolist() == [1.0, 0.0, 5.0]
    assert second.tolist() == [0.0, 4.0]
    assert per_block(frame, "paid", ((50, 60),)) == []


def test_the_interval_of_independent_blocks_is_the_usual_one() -> None:
    sample = np.random.default_rng(4).normal(3.0, 2.0, 4000)
    low, high = interval([sample])
    usual = 1.96 * sample.std() / np.sqrt(sample.size)
    assert (high - low) / 2.0 == pytest.approx(usual, rel=0.15)
    assert low < sample.mean() < high


def test_the_interval_widens_where_blocks_come_in_runs() -> None:
    runs = np.repeat(np.random.default_rng(5).normal(3.0, 2.0, 400), 10)
    low, high = interval([runs])
    assert stretch_of(runs.size) > 10
    assert high - low > 2.0 * 2.0 * 1.96 * runs.std() / np.sqrt(runs.size)
    # Two series that do not adjoin give the same as one, nearly.
    apart = interval([runs[:2000], runs[2000:]])
    assert apart == pytest.approx((low, high), abs=0.25 * (high - low))


def test_agreement_is_the_interval_or_a_factor() -> None:
    entry = {"held_out": 1.0, "low": 0.9, "high": 1.8}
    assert agrees(entry | {"simulated": 1.7})
    assert agrees(entry | {"simulated": 0.7})
    assert agrees(entry | {"simulated": 0.6}) is False
    assert agrees(entry | {"simulated": None}) is None
