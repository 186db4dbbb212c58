"""One feature path: live equals history to the byte, and pandas confirms what it computes."""

import math
from typing import Any

import numpy as np
import pytest

from history.prices import Bars, SymbolBars
from history.stochastic_volatility import stochastic_volatility_bars
from kernels.networks.features import (
    BAD_BAR,
    BLOCK_MINUTES,
    FEATURES,
    N_FEATURES,
    ORIGIN,
    OWN_FEATURES,
    SEASON_FEATURES,
    STALE,
    VARIANCE_FLOOR,
    encode_inputs,
    new_states,
    update_bar,
)
from models.volatility.origins import build_origins

HORIZONS = (5, 15, 60)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return stochastic_volatility_bars(5, 4)


def cut(bars: Bars, kept: dict[str, np.ndarray]) -> Bars:
    series = [
        SymbolBars(s.symbol, s.minute[kept[s.symbol]], s.ohlcv[kept[s.symbol]])
        for s in bars.series
        if s.symbol in kept
    ]
    return Bars(tuple(series), bars.bar_minutes, bars.source)


def live_rows(bars: Bars) -> dict[str, list[bytes]]:
    """Bar by bar as a feed would: all bars of a minute first, then the rows of that minute."""
    states = new_states(len(bars.series) + 1)
    rows: dict[str, list[bytes]] = {s.symbol: [] for s in bars.series}
    feed = sorted((int(m), a, k) for a, s in enumerate(bars.series) for k, m in enumerate(s.minute))
    waiting: list[int] = []
    for position, (minute, a, k) in enumerate(feed):
        status = update_bar(states[a], bars.bar_minutes, minute, *bars.series[a].ohlcv[k])
        if status == ORIGIN:
            waiting.append(a)
        if position + 1 == len(feed) or feed[position + 1][0] != minute:
            for b in sorted(waiting):
                out = np.full(N_FEATURES, np.nan)
                other = states[1 - b] if len(bars.series) == 2 else states[-1]
                flag = float(bars.series[b].symbol.startswith("ETH"))
                assert encode_inputs(states[b], other, flag, out) == minute + bars.bar_minutes
                rows[bars.series[b].symbol].append(out.tobytes())
            waiting.clear()
    return rows


def test_history_equals_live_to_the_byte(bars: Bars) -> None:
    keep = np.ones(4 * 1440, bool)
    keep[1900:1903] = False  # a gap in one asset: new warm-up, and the other misses its partner
    everything = np.ones(4 * 1440, bool)
    gapped = cut(bars, {"BTCUSDT": keep, "ETHUSDT": everything})
    for feed in (bars, gapped, cut(bars, {"ETHUSDT": everything})):
        rows = live_rows(feed)
        for origins in build_origins(feed, HORIZONS):
            assert rows[origins.symbol] == [row.tobytes() for row in origins.inputs]
    eth = next(o for o in build_origins(gapped, HORIZONS) if o.symbol == "ETHUSDT")
    known = eth.inputs[:, FEATURES.index("other_known")]
    assert 0.0 < known.mean() < 1.0
    assert np.all(eth.inputs[known == 0.0][:, FEATURES.index("other_rv5")] == 0.0)


def test_a_gap_starts_a_new_warm_up(bars: Bars) -> None:
    keep = np.ones(4 * 1440, bool)
    keep[2000] = False
    (eth,) = build_origins(cut(bars, {"ETHUSDT": keep}), HORIZONS)
    first = int(bars.of("ETHUSDT").minute[0])
    assert eth.starts().size == 2
    assert eth.minute[0] == first + 1440
    # The gap ends at minute 2001; the first whole block starts at 2005.
    assert eth.minute[eth.starts()[1]] == first + 2005 + 1440
    before = eth.minute <= first + 2000
    assert np.isnan(eth.targets[before][-1]).all()


def test_the_future_changes_no_feature(bars: Bars) -> None:
    at = 2 * 1440 + 37
    past = {s: np.arange(4 * 1440) < at for s in bars.symbols}
    shaken = []
    for s in bars.series:
        ohlcv = s.ohlcv.copy()
        ohlcv[at:, :4] *= 1.7
        ohlcv[at:, 4] *= 9.0
        shaken.append(SymbolBars(s.symbol, s.minute, ohlcv))
    moment = int(bars.series[0].minute[at])
    whole = build_origins(Bars(tuple(shaken), 1, "shaken"), HORIZONS)
    for full, part in zip(whole, build_origins(cut(bars, past), HORIZONS), strict=True):
        same = full.minute <= moment
        assert full.inputs[same].tobytes() == part.inputs.tobytes()
        # Targets that were complete are kept, the others were not known yet.
        known = np.isfinite(part.targets)
        assert np.array_equal(full.targets[same][known], part.targets[known])
        for j, horizon in enumerate(HORIZONS):
            assert np.array_equal(known[:, j], part.minute + horizon <= part.minute[-1])


def referee(bars: SymbolBars, b: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Own features by pandas on the whole series, at every block end after one day."""
    pd = pytest.importorskip("pandas")
    o, h, low, c, v = bars.ohlcv.T
    r = pd.Series(np.diff(np.log(c), prepend=np.log(o[0])))
    r2 = r**2
    floor = VARIANCE_FLOOR

    def mean(x: Any, minutes: int) -> Any:
        return pd.Series(x).rolling(minutes // b).sum() / minutes

    def log(x: Any) -> Any:
        return np.log(np.maximum(x, floor))

    pk = np.log(h / low) ** 2 / (4.0 * math.log(2.0))
    a = r.abs()
    bipower = np.pi / 2.0 * a * a.shift(1)
    bipower[:1] = 0.0
    medrv = np.pi / (6.0 - 4.0 * np.sqrt(3.0) + np.pi) * a.rolling(3).median() ** 2
    medrv[:2] = 0.0
    rv = {m: log(mean(r2, m)) for m in (5, 15, 60, 240, 1440)}
    level = rv[1440]
    f: dict[str, Any] = {f"rv{m}": rv[m] - level for m in (5, 15, 60, 240)}
    for m in (2, 10, 60, 360, 4320):
        f[f"ew{m}"] = log((r2 / b).ewm(halflife=m / b).mean()) - level
    f["pk1"] = log(pk / b) - level
    f |= {f"pk{m}": log(mean(pk, m)) - level for m in (5, 15, 60, 1440)}
    volume = {m: np.log(mean(v, m) + 1e-9) for m in (5, 60, 1440)}
    f |= {f"vo{m}": volume[m] - volume[1440] for m in (5, 60)}
    f["bipower60"] = log(mean(bipower, 60)) - rv[60]
    f["medrv60"] = log(mean(medrv, 60)) - rv[60]
    f["medrv1440"] = log(mean(medrv, 1440)) - level
    sd = np.exp(0.5 * level)
    standard = {m: r.rolling(m // b).sum() / (sd * np.sqrt(m)) for m in (5, 60, 1440)}
    f |= {f"return{m}": np.tanh(standard[m] / 3.0) for m in (5, 60, 1440)}
    f["abs_return5"] = np.log(standard[5].abs() + 0.1)
    down = r2.where(r < 0, 0.0).rolling(60 // b).sum()
    f["downside60"] = down / np.maximum(r2.rolling(60 // b).sum(), 1e-12) - 0.5
    f["still60"] = (r == 0).rolling(60 // b).sum() / (60 // b)
    end = bars.minute + b
    blocks = np.flatnonzero(end % BLOCK_MINUTES == 0)
    hour = pd.Series(rv[5].to_numpy()[blocks])
    deviation = (hour.rolling(13).mean() - hour.rolling(288, min_periods=13).mean()).to_numpy()
    lags = [k * 288 - 7 for k in range(1, 8)]
    days = [np.concatenate([np.full(lag, np.nan), deviation])[: len(deviation)] for lag in lags]
    table = np.ma.masked_invalid(np.array(days))
    profile = np.ma.filled(table.mean(axis=0), 0.0)
    warm = blocks[287:]
    out = {name: np.asarray(x, float)[warm] for name, x in f.items()}
    return end[warm], out | {"profile7": profile[287:], "level": np.asarray(level, float)[warm]}


@pytest.mark.parametrize("bar_minutes", [1, 5])
def test_pandas_confirms_every_own_feature(bar_minutes: int) -> None:
    bars = stochastic_volatility_bars(9, 9)
    eth = bars.of("ETHUSDT")
    # Still minutes, as BTC prints them, and a jump.
    ohlcv = eth.ohlcv.copy()
    ohlcv[3000:3040, :4] = ohlcv[3000, 3]
    if bar_minutes == 5:
        five = ohlcv.reshape(-1, 5, 5)
        ohlcv = np.column_stack(
            [
                *(five[:, 0, 0], five[:, :, 1].max(1), five[:, :, 2].min(1)),
                *(five[:, -1, 3], five[:, :, 4].sum(1)),
            ]
        )
    series = SymbolBars("ETHUSDT", eth.minute[::bar_minutes], ohlcv)
    minute, expected = referee(series, bar_minutes)
    (origins,) = build_origins(Bars((series,), bar_minutes, "referee"), (15, 60))
    assert np.array_equal(origins.minute, minute)
    assert set(expected) == {*OWN_FEATURES, "level"}
    for name, values in expected.items():
        got = origins.inputs[:, FEATURES.index(name)]
        np.testing.assert_allclose(got, values, rtol=1e-6, atol=1e-7, err_msg=name)
    r2 = np.diff(np.log(ohlcv[:, 3]), prepend=np.log(ohlcv[0, 0])) ** 2
    last = np.searchsorted(series.minute, origins.minute - bar_minutes)
    target = [r2[k + 1 : k + 1 + 60 // bar_minutes].sum() for k in last[:-12]]
    np.testing.assert_allclose(origins.targets[:-12, 1], target, rtol=1e-9)


def test_season_is_the_utc_clock() -> None:
    bars = stochastic_volatility_bars(0, 9, first_day="2025-03-03")  # a Monday
    origins = build_origins(bars, HORIZONS)[0]
    at = len(OWN_FEATURES)
    season = origins.inputs[:, at : at + len(SEASON_FEATURES)]
    names = dict(zip(SEASON_FEATURES, season.T, strict=True))
    day = origins.minute.astype("datetime64[m]").astype("datetime64[D]")
    weekday = (day.astype(np.int64) + 3) % 7
    time = origins.minute % 1440
    assert np.array_equal(names["weekend"], (weekday >= 5) * 1.0)
    assert np.array_equal(names["monday"], (weekday == 0) * 1.0)
    assert np.array_equal(names["slot3"], (time % 60 == 15) * 1.0)
    assert np.array_equal(names["event1330"], (time == 13 * 60 + 30) * 1.0)
    np.testing.assert_allclose(names["day_sin2"], np.sin(4 * np.pi * time / 1440), atol=1e-12)
    weekend_cos3 = (weekday >= 5) * np.cos(6 * np.pi * time / 1440)
    np.testing.assert_allclose(names["weekend_cos3"], weekend_cos3, atol=1e-12)


@pytest.mark.parametrize(
    ("bar", "status"),
    [
        ((100.0, 101.0, 99.0, float("nan"), 1.0), BAD_BAR),
        ((100.0, float("inf"), 99.0, 100.0, 1.0), BAD_BAR),
        ((100.0, 101.0, 0.0, 100.0, 1.0), BAD_BAR),
        ((100.0, 99.5, 99.0, 100.0, 1.0), BAD_BAR),
        ((100.0, 101.0, 100.5, 100.0, 1.0), BAD_BAR),
        ((100.0, 101.0, 99.0, 100.0, -1.0), BAD_BAR),
        ((100.0, 101.0, 99.0, 100.0, float("nan")), BAD_BAR),
        ((100.0, 101.0, 99.0, 100.0, 1.0), STALE),
    ],
)
def test_refused_bars_leave_the_state_alone(bar: tuple[float, ...], status: int) -> None:
    (state,) = new_states(1)
    for minute in range(1000, 1010):
        update_bar(state, 1, minute, 100.0, 101.0, 99.0, 100.0, 1.0)
    before = state.tobytes()
    assert update_bar(state, 1, 1009 if status == STALE else 1010, *bar) == status
    assert state.tobytes() == before
    assert encode_inputs(state, state, 1.0, np.empty(N_FEATURES)) == -1
