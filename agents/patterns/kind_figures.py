"""Figures of patterns: regimes of competition as they are filtered, and kinds of bidders."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agents.patterns.kinds import Kinds
from models.forecast_figures import write_figure
from models.patterns.bidder_clusters import FEATURES

MARKERS = "os^D"


def competition_figure(
    gap: NDArray[np.float64],
    regime: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    path: Path,
) -> None:
    """Clearing shares 1 - e^gap of auctions, the planted regime, the filtered ones [t, K].

    Regimes of the model are in rising order of ln(1 - clearing): from the hardest competition on.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    auction = np.arange(gap.size)
    shades = colormaps["viridis"](np.linspace(0.15, 0.95, probabilities.shape[1]))
    for k, shade in enumerate(shades):
        planted = regime == len(shades) - 1 - k
        upper.plot(auction[planted], 1.0 - np.exp(gap[planted]), ".", ms=4, color=shade)
    upper.set_ylabel("clearing bid / value\n(colour: planted regime)")
    names = ["hard", *[f"middle {k}" for k in range(1, len(shades) - 1)], "soft"]
    names = [name.replace("middle 1", "middle") for name in names] if len(names) == 3 else names
    lower.stackplot(auction, probabilities.T, labels=names, colors=shades, linewidth=0)
    lower.set_ylim(0.0, 1.0)
    lower.set_ylabel("filtered")
    lower.set_xlabel("auction")
    lower.legend(loc="upper left", ncols=len(names), fontsize=7)
    write_figure(figure, path)


def kinds_figure(panels: dict[str, Kinds], path: Path) -> None:
    """One panel per set of bidders: two features, colour for the kind, marker for the truth."""
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(panels))))
    for axis, (title, kinds) in zip(axes, panels.items(), strict=True):
        x, y = (kinds.features[:, FEATURES.index(name)] for name in kinds.axes)
        truth = kinds.names or ["unknown"] * len(x)
        shades = colormaps["viridis"](np.linspace(0.0, 0.9, int(kinds.found.max()) + 1))
        for name, marker in zip(dict.fromkeys(truth), MARKERS, strict=False):
            own = (np.array(truth) == name) & (kinds.found >= 0)
            colours = shades[kinds.found[own]]
            axis.scatter(x[own], y[own], c=colours, marker=marker, s=22, label=name)
        if kinds.names:
            axis.legend(frameon=False, fontsize=7, title="rule", title_fontsize=7)
        axis.set_title(f"{title}: {len(shades)} kinds", fontsize=9)
        axis.set_xlabel(kinds.axes[0])
        axis.set_ylabel(kinds.axes[1])
    write_figure(figure, path)
