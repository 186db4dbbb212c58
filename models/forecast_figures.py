"""Figures of the forecast: calibration, and regimes over the price's variance."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from history.files import write_atomically

DPI = 110
MINUTES_PER_YEAR = 365 * 1440


def calibration_figure(report: dict[str, Any], path: Path) -> None:
    """Realised over forecast variance in tenths of the forecast, per symbol and horizon.

    `report` of `models.volatility.train.evaluate`; the bars are two standard errors. Written under
    a temporary name, then renamed.
    """
    rows = [r for r in report["rows"] if "calibration" in r]
    horizons = sorted({r["horizon_minutes"] for r in rows})
    figure = Figure(figsize=(3.6 * len(horizons), 3.4), layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(horizons), sharey=True)))
    for axis, horizon in zip(axes, horizons, strict=True):
        for row in rows:
            if row["horizon_minutes"] == horizon:
                bins = row["calibration"]
                forecast = np.array([b["forecast"] for b in bins])
                realised = np.array([b["realised"] for b in bins])
                error = 2.0 * np.array([b["standard_error"] for b in bins])
                axis.errorbar(
                    100.0 * np.sqrt(forecast * MINUTES_PER_YEAR),
                    realised / forecast,
                    error / forecast,
                    fmt="o-",
                    ms=3,
                    lw=1,
                    label=row["symbol"],
                )
        axis.axhline(1.0, color="0.5", lw=0.8)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("forecast volatility (% a year)")
        axis.set_title(f"next {horizon} minutes")
    axes[0].set_ylim(bottom=0.0)
    axes[0].set_ylabel("realised / forecast variance\n(above 1: the forecast was too low)")
    axes[0].legend(frameon=False, loc="lower left")
    figure.suptitle(
        f"{report['ours']}: calibration by tenths of its forecast (two standard errors)"
    )
    write_figure(figure, path)


def regime_figure(
    minute: np.ndarray, log_variance: np.ndarray, probabilities: np.ndarray, path: Path
) -> None:
    """Log variance per minute (float64[n]) over the filtered regime probabilities float64[n, K].

    `minute` int64[n] since the epoch; regimes in rising order of variance.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    time = minute.astype("datetime64[m]")
    upper.plot(time, 100.0 * np.sqrt(np.exp(log_variance) * MINUTES_PER_YEAR), lw=0.6)
    upper.set_yscale("log")
    upper.yaxis.set_major_formatter(ScalarFormatter())
    upper.yaxis.set_minor_formatter(NullFormatter())
    upper.set_ylabel("volatility, % a year")
    names = [f"regime {k + 1}" for k in range(probabilities.shape[1])]
    shades = colormaps["viridis"](np.linspace(0.15, 0.95, len(names)))
    lower.stackplot(time, probabilities.T, labels=names, colors=shades, linewidth=0)
    lower.set_ylim(0.0, 1.0)
    lower.set_ylabel("probability")
    lower.legend(loc="upper left", ncols=len(names), fontsize=7)
    write_figure(figure, path)


def write_figure(figure: Figure, path: Path) -> None:
    """Save as .png or .svg under a temporary name, then rename."""
    FigureCanvasAgg(figure)
    form = path.suffix[1:] or "png"
    write_atomically(path, lambda file: figure.savefig(file, dpi=DPI, format=form))
