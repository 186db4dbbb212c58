"""Price paths: splits apart in time, no window across a gap, forecasts where they belong."""

import numpy as np
import pytest

from envs.market.paths import paths_of_bars, price_paths
from history.prices import Bars, SymbolBars
from tests.support.worlds import paths


def _closes(minutes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    eth, btc = rng.normal(0.0, 1e-3, (2, minutes)).cumsum(axis=1)
    return 2000.0 * np.exp(eth), 60_000.0 * np.exp(btc)


def test_splits_do_not_share_a_minute() -> None:
    used: set[int] = set()
    for split in ("train", "validation", "test"):
        starts = paths().starts(split, 52)
        minutes = {int(m) for start in starts for m in (start, start + 52)}
        minutes |= set(range(int(starts.min()), int(starts.max()) + 53))
        assert not used & minutes
        used |= minutes


def test_no_episode_crosses_a_gap() -> None:
    eth, btc = _closes(400)
    segment = np.repeat([0, 1, 2, 3], 100)
    gapped = price_paths(eth, btc, segment)
    for split in ("train", "validation"):
        starts = gapped.starts(split, 30)
        assert np.all(gapped.segment[starts] == gapped.segment[starts + 30])
        assert starts.size
    with pytest.raises(ValueError, match="contiguous run of 121 minutes"):
        gapped.starts("test", 120)


def test_ewma_tracks_the_variance_and_restarts_after_a_gap() -> None:
    rng = np.random.default_rng(2)
    calm, wild = rng.normal(0.0, 5e-4, 3000), rng.normal(0.0, 2e-3, 3000)
    eth = 2000.0 * np.exp(np.concatenate([calm, wild]).cumsum())
    made = price_paths(eth, eth, np.repeat([0, 1], 3000))
    level = np.exp(made.forecast[:, 0]) / 5.0
    assert np.mean(level[500:3000]) == pytest.approx(5e-4**2, rel=0.1)
    assert np.mean(level[3100:]) == pytest.approx(2e-3**2, rel=0.1)
    np.testing.assert_allclose(made.forecast[:, 2] - made.forecast[:, 0], np.log(12.0))
    np.testing.assert_allclose(made.slot_sigma[:, 0] ** 2 * 5.0, level)


def test_a_given_forecast_is_used_where_it_is_finite() -> None:
    eth, btc = _closes(200)
    given = np.full((200, 3), -9.0)
    given[:50] = np.nan
    made = price_paths(eth, btc, forecast=given)
    plain = price_paths(eth, btc)
    np.testing.assert_array_equal(made.forecast[:50], plain.forecast[:50])
    assert np.all(made.forecast[50:] == -9.0)


def test_bars_are_joined_on_common_minutes() -> None:
    eth, btc = _closes(100)

    def bars(symbol: str, minute: np.ndarray, close: np.ndarray) -> SymbolBars:
        return SymbolBars(symbol, minute, np.repeat(close[:, None], 5, axis=1))

    minute = np.arange(1000, 1100)
    kept = np.delete(np.arange(100), [40, 41])
    both = Bars(
        (bars("BTCUSDT", minute[kept], btc[kept]), bars("ETHUSDT", minute, eth)), 1, "made up"
    )
    forecast = np.repeat(np.arange(100.0)[:, None], 3, axis=1)
    made = paths_of_bars(both, forecast)
    np.testing.assert_allclose(np.exp(made.log_price), np.stack([eth, btc], 1)[kept])
    np.testing.assert_array_equal(made.forecast[:, 0], kept)
    assert np.flatnonzero(np.diff(made.segment)).tolist() == [39]
    assert made.source == "made up"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"eth_close": np.array([1.0, np.nan, 1.0])}, "eth_close"),
        ({"btc_close": np.array([1.0, 0.0, 1.0])}, "btc_close"),
        ({"segment": np.zeros(2)}, "segment"),
        ({"forecast": np.zeros((3, 2))}, "forecast"),
    ],
)
def test_bad_paths_are_refused_by_name(change: dict[str, np.ndarray], named: str) -> None:
    good = {"eth_close": np.ones(3), "btc_close": np.ones(3), "segment": None, "forecast": None}
    given = good | change
    with pytest.raises(ValueError, match=named):
        price_paths(
            given["eth_close"],  # pyright: ignore[reportArgumentType]
            given["btc_close"],  # pyright: ignore[reportArgumentType]
            given["segment"],
            given["forecast"],
        )
