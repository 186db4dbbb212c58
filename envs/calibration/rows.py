"""A quantity with its three sides: what the fit used, what was held out, what is simulated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.calibration.distance import PROBABILITIES, distance
from envs.calibration.quantities import CURVE, QUANTITIES, SHARE, Quantity
from envs.calibration.recorded import SAMPLES
from envs.calibration.simulated import DEFINED
from history.tables import TableError

PUBLISHED = {"informed_share": 0.25}  # known from papers alone
RECORDED_SIDES = ("fitted", "held_out")
SIDES = (*RECORDED_SIDES, "simulated")
# A held-out distance above either is called large in the table.
LARGE_KS, LARGE_LN = 0.2, 0.69


@dataclass(frozen=True)
class Row:
    """A quantity with what every side says: samples, and why one is missing."""

    quantity: Quantity
    sides: dict[str, np.ndarray | None]  # by SIDES
    note: str

    def as_json(self) -> dict[str, Any]:
        """Derived statistics only: no recorded value leaves. `agrees`: not far when held out."""
        q = self.quantity
        entry: dict[str, Any] = {"title": q.title, "unit": q.unit, "source": q.source}
        entry |= {"era": q.split.era, "split": q.split.why, "note": self.note}
        ours = self.sides["simulated"]
        for side in SIDES:
            values = self.sides[side]
            told = None if values is None else _summary(q, values)
            if told is not None and values is not None and side in RECORDED_SIDES:
                told["window"] = q.split.words(side)
                if ours is not None:
                    told |= _apart(q, values, ours)
            entry[side] = told
        held = entry["held_out"]
        entry["agrees"] = None if held is None or ours is None else not _large(held)
        fitted, other = (self.sides[side] for side in RECORDED_SIDES)
        entry["between_windows"] = None
        if fitted is not None and other is not None:
            entry["between_windows"] = _apart(q, other, fitted)
        return entry


def _large(told: dict[str, Any]) -> bool:
    gap = told["largest_gap"] if "largest_gap" in told else told["kolmogorov_smirnov"]
    ln = told.get("ln_quantiles")
    return bool(gap > LARGE_KS or (ln is not None and ln > LARGE_LN))


def _apart(quantity: Quantity, recorded: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Distances of two samples: KS and ln quantiles, or the largest gap."""
    if quantity.kind == CURVE:
        return {"largest_gap": float(np.max(np.abs(recorded - other)))}
    if quantity.kind == SHARE:
        return {"largest_gap": float(abs(recorded.mean() - other.mean()))}
    found = distance(recorded, other, quantity.floor)
    known = np.isfinite(found.ln_quantiles)
    return {
        "kolmogorov_smirnov": found.kolmogorov_smirnov,
        "ln_quantiles": found.ln_quantiles if known else None,
    }


def _summary(quantity: Quantity, values: np.ndarray) -> dict[str, Any]:
    if quantity.kind == CURVE:
        return {"n": 1, "at": list(quantity.places), "values": values.tolist()}
    entry: dict[str, Any] = {"n": int(values.size), "mean": float(values.mean())}
    if quantity.kind != SHARE:
        quantiles = np.quantile(values, PROBABILITIES)
        entry["quantiles"] = {
            f"{100 * p:g}": float(value) for p, value in zip(PROBABILITIES, quantiles)
        }
    return entry


def _recorded(data: Path, quantity: Quantity) -> tuple[dict[str, np.ndarray | None], list[str]]:
    sides: dict[str, np.ndarray | None] = dict.fromkeys(RECORDED_SIDES)
    notes: list[str] = []
    if quantity.name in PUBLISHED:
        return sides | {"held_out": np.array([PUBLISHED[quantity.name]])}, notes
    spans = {"fitted": quantity.split.fitted, "held_out": quantity.split.held_out}
    for side, windows in spans.items():
        if not windows:
            notes.append(f"{side}: {quantity.split.why}")
            continue
        try:
            values = SAMPLES[quantity.name](data, windows)
        except TableError as error:
            notes.append(f"{side}: {error}")
            continue
        values = values[values >= quantity.least_kept] if quantity.least_kept else values
        if values.size:
            sides[side] = values
        else:
            notes.append(f"{side}: nothing is recorded in {quantity.split.words(side)}")
    return sides, notes


def compare(data: Path, simulated: dict[str, dict[str, np.ndarray]]) -> list[Row]:
    """All quantities against the samples of their eras; what is missing is said in its row."""
    rows = []
    for quantity in QUANTITIES:
        sides, notes = _recorded(data, quantity)
        ours = simulated.get(quantity.split.era, {}).get(quantity.sample)
        if ours is not None and quantity.least_kept:
            # Where a swap is capped by a pool's depth it may fall below the least size.
            ours = ours[ours >= quantity.least_kept]
        if ours is None or not ours.size:
            sides["simulated"] = None
            notes.append("simulated: none was seen")
        else:
            sides["simulated"] = ours
            if quantity.sample in DEFINED:
                notes.append(f"simulated: {DEFINED[quantity.sample]}")
        rows.append(Row(quantity, sides, "; ".join(notes)))
    return rows
