"""Means per block of each era: gross of arbitrage cycles, their number, what bundles paid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from envs.calibration.recorded import (
    Spans,
    cycles_per_block,
    informed_per_block,
    payments_2021,
    payments_2022,
)
from envs.calibration.windows import BUNDLES, CEXDEX, INSPECTED, REWARDS, Split
from history.tables import TableError

ERAS = ("2021", "2022", "2023")
MEASURES = {
    "gross_eth": "block_gross",
    "opportunities": "block_opportunities",
    "payment_eth": "block_payment",
    "informed_payment_eth": "block_informed",
}
RESAMPLES = 2000
Series = Callable[[Path, Spans], list[np.ndarray]]

RECORDED: dict[tuple[str, str], tuple[Split, Series]] = {
    ("2021", "gross_eth"): (INSPECTED, lambda data, spans: cycles_per_block(data, spans)[0]),
    ("2021", "opportunities"): (INSPECTED, lambda data, spans: cycles_per_block(data, spans)[1]),
    ("2021", "payment_eth"): (REWARDS, payments_2021),
    ("2022", "payment_eth"): (BUNDLES, payments_2022),
    ("2023", "informed_payment_eth"): (CEXDEX, informed_per_block),
}
_NO_CYCLES = "no swaps of whole blocks are recorded, so that no cycle can be found or valued"
_NO_INFORMED = "no CEX-DEX trades of this year are labelled"
REASONS = {
    ("2022", "gross_eth"): _NO_CYCLES,
    ("2022", "opportunities"): _NO_CYCLES,
    ("2023", "gross_eth"): _NO_CYCLES,
    ("2023", "opportunities"): _NO_CYCLES,
    ("2023", "payment_eth"): "payments of CEX-DEX traders alone are recorded, not those of others",
    ("2021", "informed_payment_eth"): _NO_INFORMED,
    ("2022", "informed_payment_eth"): _NO_INFORMED,
}


def stretch_of(blocks: int) -> int:
    """Length of the stretches that a bootstrap draws: the cube root of the series, 8 at least."""
    return max(8, round(blocks ** (1.0 / 3.0)))


def interval(parts: list[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over blocks of series that do not adjoin, float64[n] each.

    Circular block bootstrap: stretches of consecutive blocks are drawn with replacement, so that
    what comes in runs stays in runs. Windows shorter than a few stretches say little all the same.
    """
    total = sum(part.size for part in parts)
    stretch = min(stretch_of(total), min(part.size for part in parts))
    sums = np.concatenate(
        [
            np.convolve(np.concatenate([part, part[: stretch - 1]]), np.ones(stretch), "valid")
            for part in parts
        ]
    )
    draws = -(-total // stretch)
    rng = np.random.default_rng(seed)
    means = [
        float(sums[rng.integers(sums.size, size=draws)].mean() / stretch) for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def recorded_means(data: Path, era: str, measure: str) -> dict[str, Any]:
    """fitted, held_out, low, high of a measure, or nulls and the reason."""
    entry: dict[str, Any] = dict.fromkeys(("fitted", "held_out", "low", "high"))
    if (era, measure) not in RECORDED:
        return entry | {"reason": REASONS[era, measure]}
    split, series = RECORDED[era, measure]
    try:
        fitted, held_out = series(data, split.fitted), series(data, split.held_out)
    except TableError as error:
        return entry | {"reason": str(error)}
    if not fitted or not held_out:
        return entry | {"reason": f"no blocks of {split.words('held_out')} in the file"}
    entry["fitted"] = float(np.concatenate(fitted).mean())
    entry["held_out"] = float(np.concatenate(held_out).mean())
    entry["low"], entry["high"] = interval(held_out)
    return entry | {
        "fitted_window": split.words("fitted"),
        "held_out_window": split.words("held_out"),
        "fitted_blocks": sum(part.size for part in fitted),
        "held_out_blocks": sum(part.size for part in held_out),
    }


def agrees(entry: dict[str, Any]) -> bool | None:
    """Whether the simulated mean lies in the interval, or within 1.5 times of the held-out mean."""
    if entry["held_out"] is None or entry["simulated"] is None:
        return None
    inside = entry["low"] <= entry["simulated"] <= entry["high"]
    ratio = entry["simulated"] / entry["held_out"]
    return bool(inside or 1.0 / 1.5 <= ratio <= 1.5)


def means_per_block(data: Path, simulated: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Per era and measure: simulated, fitted, held_out, low, high, and a reason where null."""
    found: dict[str, Any] = {}
    for era in ERAS:
        found[era] = {}
        for measure, sample in MEASURES.items():
            ours = simulated.get(era, {}).get(sample)
            mean = float(ours.mean()) if ours is not None and ours.size else None
            entry = {"simulated": mean} | recorded_means(data, era, measure)
            found[era][measure] = entry | {"agrees": agrees(entry)}
    return found
