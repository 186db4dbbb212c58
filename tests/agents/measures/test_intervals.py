"""Aggregates and intervals against closed forms and an independent implementation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from agents.measures import intervals

FINITE = st.floats(-1e6, 1e6, allow_nan=False, width=64)


@given(arrays(np.float64, st.integers(1, 60), elements=FINITE))
def test_iqm_is_the_mean_of_the_middle_half(scores: np.ndarray) -> None:
    ordered = sorted(scores.tolist())
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut]
    assert float(intervals.iqm(scores)) == pytest.approx(math.fsum(middle) / len(middle), abs=1e-9)


def test_iqm_ignores_a_whale_that_decides_the_mean() -> None:
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1e9])
    assert float(intervals.iqm(scores)) == 4.5
    assert float(intervals.mean(scores)) > 1e8


def test_iqm_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        intervals.iqm(np.empty(0))


@given(arrays(np.float64, st.integers(1, 200), elements=FINITE), st.floats(0.01, 1.0))
def test_cvar_lies_between_the_worst_score_and_the_mean(scores: np.ndarray, level: float) -> None:
    tail = intervals.cvar(scores, level)
    assert scores.min() - 1e-6 <= tail <= scores.mean() + 1e-6


def test_cvar_of_the_integers_is_known() -> None:
    # Worst 5 % of 1..100 are 1..5.
    assert intervals.cvar(np.random.default_rng(0).permutation(np.arange(1.0, 101.0))) == 3.0
    with pytest.raises(ValueError, match="level is 0"):
        intervals.cvar(np.ones(3), 0.0)


def test_bootstrap_of_a_mean_reproduces_the_normal_interval() -> None:
    n = 2000
    scores = np.random.default_rng(1).normal(3.0, 2.0, size=(1, n))
    interval = intervals.bootstrap(scores, intervals.mean, resamples=4000, seed=2)
    half = 1.959964 * scores.std(ddof=1) / math.sqrt(n)
    assert interval.value == pytest.approx(scores.mean())
    assert interval.high - interval.value == pytest.approx(half, rel=0.08)
    assert interval.value - interval.low == pytest.approx(half, rel=0.08)


def test_paired_and_stratified_intervals_are_scipys() -> None:
    """Strata as samples of their own, one index for both arms; both ends within the drawing."""
    ours, theirs = np.random.default_rng(9).lognormal(size=(2, 2, 9))

    def gap(*drawn: np.ndarray, axis: int) -> np.ndarray:
        rows = [(ours - theirs)[k][index.astype(int)] for k, index in enumerate(drawn)]
        return intervals.mean(np.concatenate(rows, axis))

    expected = stats.bootstrap(
        (np.arange(9), np.arange(9)), gap, n_resamples=20_000, method="percentile", vectorized=True
    ).confidence_interval
    found = intervals.paired_difference(ours, theirs, intervals.mean, 20_000)
    assert found[1:] == pytest.approx(tuple(expected), abs=0.04 * (found.high - found.low))


def test_strata_are_never_mixed() -> None:
    # Two strata of constants 60 apart: with resampling inside strata the mean cannot vary.
    scores = np.repeat([[0.0], [60.0]], 30, axis=1)
    assert intervals.bootstrap(scores, intervals.mean) == intervals.Interval(30.0, 30.0, 30.0)
    pooled = intervals.bootstrap(scores.reshape(1, -1), intervals.mean)
    assert pooled.high - pooled.low > 5.0


def test_bootstrap_interval_covers_the_true_mean_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        interval = intervals.bootstrap(
            rng.exponential(1.0, size=(2, 40)), intervals.mean, resamples=400, seed=trial
        )
        covered += interval.low <= 1.0 <= interval.high
    assert 178 <= covered <= 199  # 95 % of 200 with four standard deviations of slack


def test_pairing_removes_what_both_arms_share() -> None:
    rng = np.random.default_rng(4)
    market = rng.normal(0.0, 100.0, size=(3, 50))
    gap = intervals.paired_difference(market + 1.0, market, intervals.mean)
    assert gap == pytest.approx((1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="same episodes"):
        intervals.paired_difference(market, market[:2])


def test_the_interval_over_trainings_covers_what_that_over_episodes_misses() -> None:
    """Trainings differ by a known spread; what one best pair shows says little about the arms.

    With 95 % covered, 150 intervals hold the truth 142.5 times, 2.7 the standard deviation.
    """
    rng = np.random.default_rng(5)
    for trainings in (3, 10):
        covered = {"trainings": 0, "episodes": 0}
        for trial in range(150):
            market = rng.normal(0.0, 3.0, size=(1, 2, 60))
            ours, theirs = (
                market
                + level
                + rng.normal(0.0, 0.5, size=(trainings, 1, 1))
                + rng.normal(0.0, 1.0, size=(trainings, 2, 60))
                for level in (1.0, 0.0)
            )
            found = {
                "trainings": intervals.difference_over_trainings(
                    ours, theirs, intervals.mean, 200, trial
                ),
                "episodes": intervals.paired_difference(
                    ours[0], theirs[0], intervals.mean, 200, trial
                ),
            }
            for name, interval in found.items():
                covered[name] += interval.low <= 1.0 <= interval.high
        assert covered["trainings"] >= 128, "85 %, more than four standard deviations below"
        assert covered["episodes"] <= 75, "half of what it claims"


def test_trainings_that_are_alike_leave_the_interval_over_episodes() -> None:
    rng = np.random.default_rng(6)
    one = rng.normal(0.0, 1.0, size=(2, 2, 200)) + np.array([1.0, 0.0])[:, None, None]
    episodes = intervals.paired_difference(one[0], one[1])
    alone = intervals.difference_over_trainings(one[:1], one[1:])
    assert alone == pytest.approx(episodes), "one training each: nothing else varies"
    ours, theirs = (np.repeat(arm[None], 50, 0) for arm in one)
    many = intervals.difference_over_trainings(ours, theirs)
    assert many == pytest.approx(episodes, abs=0.02)


def test_the_interval_over_trainings_is_the_normal_one_of_their_means() -> None:
    """Episodes of a training are alike here: its mean decides, Student's interval is known."""
    rng = np.random.default_rng(7)
    ours, theirs = (np.repeat(rng.normal(0.0, 1.0, size=(n, 1, 1)), 20, 2) for n in (40, 60))
    found = intervals.difference_over_trainings(ours, theirs, intervals.mean, 4000)
    half = 1.984 * math.sqrt(ours.var() / 39 + theirs.var() / 59)
    assert found.value == pytest.approx(ours.mean() - theirs.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.06)
    with pytest.raises(ValueError, match="same episodes"):
        intervals.difference_over_trainings(ours, theirs[..., :3])


def test_a_share_is_weighted_by_value_and_its_interval_covers_it() -> None:
    """Kept is exactly a third where 8 of 9 parts of the value lie: the mean of ratios is not it."""
    wholes = np.tile([1.0, 8.0], (2, 50))
    parts = np.tile([1.0, 2.0], (2, 50))
    found = intervals.share(parts, wholes)
    assert found.value == pytest.approx(1.0 / 3.0)
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.1
    assert intervals.share(0.25 * wholes, wholes) == intervals.Interval(0.25, 0.25, 0.25)
    assert intervals.share(parts, np.zeros((2, 100))) == intervals.Interval(0.0, 0.0, 0.0)


def test_probability_of_improvement_counts_ties_half() -> None:
    ours = np.array([[1.0, 2.0, 3.0, 0.0]])
    theirs = np.array([[0.0, 2.0, 4.0, -1.0]])
    assert intervals.probability_of_improvement(ours, theirs) == 0.625


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 2**31))
def test_resampled_indices_stay_in_their_stratum(strata: int, episodes: int, seed: int) -> None:
    indices = intervals.resample((strata, episodes), 5, seed)
    assert indices.shape == (5, strata * episodes)
    stratum = np.broadcast_to(np.repeat(np.arange(strata), episodes), indices.shape)
    assert np.array_equal(indices // episodes, stratum)
