"""One figure per quantity: distribution functions, or curves, of both markets."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from envs.calibration.quantities import CURVE, SHARE, Quantity
from history.files import write_atomically

matplotlib.use("agg")

FITTED, HELD_OUT, SIMULATED = "#0072b2", "#009e73", "#c1272d"
POINTS = 1000  # of a distribution function: more cannot be seen


def draw(quantity: Quantity, sides: dict[str, np.ndarray | None], path: Path) -> None:
    """Draw what there is of a quantity's sides (fitted, held_out, simulated) into a PNG file."""
    colours = {"fitted": FITTED, "held_out": HELD_OUT, "simulated": SIMULATED}
    words = {"fitted": "recorded, fitted on", "held_out": "recorded, held out"}
    lines = [(words.get(side, side), sides.get(side), colours[side]) for side in colours]
    figure = Figure(figsize=(5.6, 3.0), dpi=110, layout="constrained")
    axes = figure.subplots()
    for label, values, colour in lines:
        if values is None or not values.size:
            continue
        if quantity.kind == CURVE:
            axes.plot(quantity.places, values, marker="o", ms=3, color=colour, label=label)
        elif quantity.kind == SHARE:
            axes.barh([label], [values.mean()], color=colour, height=0.5)
        else:
            _distribution(axes, quantity, values, label, colour)
    axes.set_title(f"{quantity.title} ({quantity.split.era})", loc="left", fontsize=9)
    axes.set_xlabel(quantity.unit if quantity.kind != CURVE else "")
    axes.set_ylabel({CURVE: quantity.unit, SHARE: ""}.get(quantity.kind, "share of all below"))
    if quantity.kind == SHARE:
        axes.set_xlim(0.0, 1.0)
    else:
        axes.legend(frameon=False)
    axes.grid(alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    # Without the version of matplotlib in it, equal figures are equal files.
    bare = {"Software": None}
    write_atomically(path, lambda file: figure.savefig(file, format="png", metadata=bare))


def _distribution(
    axes: Any, quantity: Quantity, values: np.ndarray, label: str, colour: str
) -> None:
    """The distribution function up to the 99.5 % quantile; zeros lie at the left edge."""
    shares = np.linspace(0.0, 0.995, POINTS)
    quantiles = np.quantile(values, shares)
    if quantity.log:
        low = quantity.floor or float(np.quantile(values[values > 0.0], 0.005))
        quantiles = np.maximum(quantiles, low)
        axes.set_xscale("log")
    axes.step(quantiles, shares, where="post", color=colour, label=label)
