"""Out-of-sample evaluation of volatility forecasts: same origins, same refits, same information.

Every model is fitted on what ended before each refit; losses are QLIKE and squared error of logs
at non-overlapping origins; differences are tested by Diebold-Mariano with one day of lags and by
the Model Confidence Set (Patton 2011; Hansen, Lunde and Nason 2011).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from history.prices import Bars, BarsError
from models.volatility.config import VolatilityConfig
from models.volatility.ewma import fit_ewma, log_ewma_at, random_walk
from models.volatility.har import DESIGNS, fit_log_linear
from models.volatility.har_lstm import training_part
from models.volatility.losses import floored, qlike, squared_log_error
from models.volatility.origins import Origins
from models.volatility.predictor import HAR_LSTM, VarianceForecaster
from models.volatility.significance import diebold_mariano, model_confidence_set, ratio_interval

SINGLE = "HAR-LSTM network "
LINEAR = tuple(f"{design} {fit}" for design in DESIGNS for fit in ("OLS", "GLM"))
EWMA, RANDOM_WALK = "EWMA", "random walk"
POOLED = "pooled"
MIN_TEST_DAYS = 7
CALIBRATION_BINS = 10

Predictions = dict[str, list[np.ndarray]]  # model -> per symbol float64[test origins, horizons]


@dataclass(frozen=True)
class Test:
    """The test part: per symbol the origins, and every model's forecasts at them."""

    __test__ = False  # not a test case for pytest
    origins: list[Origins]
    predictions: Predictions
    refits: list[int]
    horizons_minutes: tuple[int, ...]
    ours: str = HAR_LSTM  # the model that is tested against the others


def symbols_to_test(
    origins: list[Origins], test_from: int, source: str, symbol: str | None = None
) -> list[str]:
    """Symbols with at least MIN_TEST_DAYS of hourly origins in the test part.

    Raises BarsError, saying what is there, when no symbol (or not the one asked for) has them.
    """
    hours = {o.symbol: int(((o.minute >= test_from) & (o.minute % 60 == 0)).sum()) for o in origins}
    needed = MIN_TEST_DAYS * 24
    enough = [s for s, count in hours.items() if count >= needed and symbol in (None, s)]
    if not enough:
        found = ", ".join(f"{s} {count}" for s, count in hours.items() if symbol in (None, s))
        raise BarsError(
            f"{source}: the test part from {np.datetime64(test_from, 'm')}Z is too short: hours "
            f"with a forecast: {found or 'none'}; at least {needed} ({MIN_TEST_DAYS} days) are "
            "needed, because losses are correlated over a day (the first day of a window only "
            "warms the inputs); choose an earlier date or give more bars"
        )
    return enough


def forecast_test_part(
    bars: Bars,
    origins: list[Origins],
    symbols: list[str],
    config: VolatilityConfig,
    test_from: int,
    forecaster_at: Callable[[int], VarianceForecaster],
) -> Test:
    """Fit every model at `test_from` and every `refit_days` after it, and forecast in between.

    All origins train, those of `symbols` are forecast; `forecaster_at(minute)` gives ours as
    it was trained until a refit.
    """
    horizons = config.horizons_minutes
    tested = [o for o in origins if o.symbol in symbols]
    end = max(int(o.minute[-1]) for o in tested) + 1
    step = config.refit_days * 1440 or end
    refits = list(range(test_from, end, step))
    if len(refits) > 1 and end - refits[-1] < step // 4:
        refits.pop()  # no refit for a short rest
    ours = HAR_LSTM
    stretches: list[Predictions] = []
    for refit, until in pairwise([*refits, end]):
        parts = training_part(origins, config, refit)
        stretch = [o.select((o.minute >= refit) & (o.minute < until)) for o in tested]
        forecaster = forecaster_at(refit)
        ours = forecaster.name
        predictions = _ours(forecaster, tested, refit, until)
        for design in DESIGNS:
            for fit in ("OLS", "GLM"):
                model = fit_log_linear(parts, design, horizons, gamma=fit == "GLM")
                predictions[f"{design} {fit}"] = [model.predict(o.inputs) for o in stretch]
        predictions |= _return_models(bars, parts, stretch, horizons)
        if config.garch:
            # arch imports pandas and statsmodels, two seconds that only this needs.
            from models.volatility.garch import forecast_garch

            predictions |= forecast_garch(bars, parts, stretch, horizons)
        stretches.append(predictions)
    joined = {
        name: [np.concatenate([s[name][a] for s in stretches]) for a in range(len(tested))]
        for name in stretches[0]
    }
    whole = [o.select((o.minute >= test_from) & (o.minute < end)) for o in tested]
    return Test(whole, joined, refits, horizons, ours)


def _ours(
    forecaster: VarianceForecaster, origins: list[Origins], refit: int, until: int
) -> Predictions:
    """Ensemble and single networks, the state running from the start of each window."""
    predictions: Predictions = {}
    for o in origins:
        f = forecaster.predict_origins(o)
        chosen = (f.minute >= refit) & (f.minute < until)
        predictions.setdefault(forecaster.name, []).append(
            f.log_variance[chosen].astype(np.float64)
        )
        for e in range(f.members.shape[1]):
            member = f.members[chosen, e].astype(np.float64)
            predictions.setdefault(f"{SINGLE}{e}", []).append(member)
    return predictions


def _return_models(
    bars: Bars, parts: list[Origins], stretch: list[Origins], horizons: tuple[int, ...]
) -> Predictions:
    """EWMA and random walk."""
    past = [log_ewma_at(bars.of(p.symbol), bars.bar_minutes, p.minute) for p in parts]
    ewma = fit_ewma(parts, past, horizons)
    now = [log_ewma_at(bars.of(o.symbol), bars.bar_minutes, o.minute) for o in stretch]
    return {
        EWMA: [ewma.predict(f) for f in now],
        RANDOM_WALK: [random_walk(o.inputs, horizons) for o in stretch],
    }


def losses_at(test: Test, horizon: int) -> dict[str, dict[str, dict[int, np.ndarray]]]:
    """Losses at non-overlapping origins: {"qlike" or "mse_log": {model: {symbol index: [n]}}}.

    An origin counts for a symbol when its target is known and every model has a forecast there.
    """
    j = test.horizons_minutes.index(horizon)
    losses: dict[str, dict[str, dict[int, np.ndarray]]] = {"qlike": {}, "mse_log": {}}
    for a, origins in enumerate(test.origins):
        chosen = scored_origins(test, horizon)[a]
        y = floored(origins.targets[chosen, j], horizon)
        for model, forecasts in test.predictions.items():
            f = forecasts[a][chosen, j]
            losses["qlike"].setdefault(model, {})[a] = qlike(y, f)
            losses["mse_log"].setdefault(model, {})[a] = squared_log_error(y, f)
    return losses


def scored_origins(test: Test, horizon: int) -> list[np.ndarray]:
    """Per symbol the mask of origins that count at a horizon."""
    j = test.horizons_minutes.index(horizon)
    masks = []
    for a, origins in enumerate(test.origins):
        mask = (origins.minute % horizon == 0) & np.isfinite(origins.targets[:, j])
        for forecasts in test.predictions.values():
            if np.isfinite(forecasts[a][:, j]).any():
                mask &= np.isfinite(forecasts[a][:, j])
        masks.append(mask)
    return masks


def report_rows(test: Test, config: VolatilityConfig) -> list[dict[str, Any]]:
    """One row per horizon and symbol, with a pooled row over the origins that all symbols share."""
    rows = []
    for horizon in test.horizons_minutes:
        losses = losses_at(test, horizon)
        masks = scored_origins(test, horizon)
        minutes = [o.minute[m] for o, m in zip(test.origins, masks, strict=True)]
        for a, origins in enumerate(test.origins):
            series = {
                kind: {model: by[a] for model, by in table.items()}
                for kind, table in losses.items()
            }
            row = _row(origins.symbol, horizon, minutes[a], series, test, config)
            rows.append(row | {"calibration": _calibration(test, a, masks[a], horizon)})
        if len(test.origins) > 1:
            shared = minutes[0]
            for m in minutes[1:]:
                shared = np.intersect1d(shared, m)
            at = [np.isin(m, shared) for m in minutes]
            series = {
                kind: {
                    model: np.mean([by[a][at[a]] for a in range(len(at))], axis=0)
                    for model, by in table.items()
                }
                for kind, table in losses.items()
            }
            if shared.size > 1440 // horizon:
                rows.append(_row(POOLED, horizon, shared, series, test, config))
    return rows


def _row(
    symbol: str,
    horizon: int,
    minute: np.ndarray,
    series: dict[str, dict[str, np.ndarray]],
    test: Test,
    config: VolatilityConfig,
) -> dict[str, Any]:
    """Means, tests and ratios of one symbol and horizon."""
    lags = 1440 // horizon
    usable = {
        kind: {m: v for m, v in table.items() if np.isfinite(v).all() and SINGLE not in m}
        for kind, table in series.items()
    }
    means = {k: {m: float(v.mean()) for m, v in table.items()} for k, table in usable.items()}
    mine = usable["qlike"][test.ours]
    others = [m for m in usable["qlike"] if m != test.ours]
    dm = {m: diebold_mariano(mine, usable["qlike"][m], lags) for m in others}
    strongest = min(LINEAR, key=lambda m: means["qlike"][m])
    informed = min(("HARX OLS", "HARX GLM"), key=lambda m: means["qlike"][m])
    row: dict[str, Any] = {
        "symbol": symbol,
        "horizon_minutes": horizon,
        "origins": int(minute.size),
        "qlike": means["qlike"],
        "mse_log": means["mse_log"],
        "dm_statistic": {m: dm[m][0] for m in others},
        "dm_p": {m: dm[m][1] for m in others},
        "strongest_linear": strongest,
        "ratio": list(ratio_interval(mine, usable["qlike"][strongest], lags)),
        "strongest_harx": informed,
        "ratio_harx": list(ratio_interval(mine, usable["qlike"][informed], lags)),
        "single_networks": [
            float(v.mean()) for m, v in series["qlike"].items() if m.startswith(SINGLE)
        ],
        "stretches": _stretches(test, minute, mine, usable["qlike"][strongest]),
    }
    if config.confidence_set:
        for kind, name in (("qlike", "mcs_p"), ("mse_log", "mcs_p_mse_log")):
            row[name] = model_confidence_set(usable[kind], lags)
    return row


def _stretches(
    test: Test, minute: np.ndarray, mine: np.ndarray, strongest: np.ndarray
) -> list[dict[str, Any]]:
    """Ratio to the strongest linear model between two refits."""
    rows = []
    for k, first in enumerate(test.refits):
        until = test.refits[k + 1] if k + 1 < len(test.refits) else 10**12
        chosen = (minute >= first) & (minute < until)
        if chosen.any():
            rows.append(
                {
                    "from": f"{np.datetime64(first, 'm')}Z",
                    "origins": int(chosen.sum()),
                    "ratio": float(mine[chosen].mean() / strongest[chosen].mean()),
                }
            )
    return rows


def _calibration(test: Test, a: int, mask: np.ndarray, horizon: int) -> list[dict[str, Any]]:
    """Mean forecast and mean realised variance per minute in tenths of our forecasts.

    Their ratio is one in every tenth where "the variance will be h" can be taken at its word.
    """
    j = test.horizons_minutes.index(horizon)
    forecast = np.exp(test.predictions[test.ours][a][mask, j]) / horizon
    realised = floored(test.origins[a].targets[mask, j], horizon) / horizon
    order = np.argsort(forecast, kind="stable")
    return [
        {
            "origins": int(chosen.size),
            "forecast": float(forecast[chosen].mean()),
            "realised": float(realised[chosen].mean()),
            "standard_error": float(realised[chosen].std() / np.sqrt(max(chosen.size, 1))),
        }
        for chosen in np.array_split(order, CALIBRATION_BINS)
        if chosen.size
    ]
