"""Chooses the settings of a rule on validation, over a grid that grows at its edges."""

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agents.bidders.baselines import Bidder


class Tuned(NamedTuple):
    """A bidder, what was chosen for it, and from how many settings."""

    bidder: Bidder
    setting: str
    tried: int


class Axis(NamedTuple):
    """Values of one setting, ascending, and what may be tried beyond its ends."""

    values: tuple[float, ...]
    beyond: tuple[float, ...] = ()
    """Further values, tried one after the other while the best lies at the edge next to them."""


class Grid(NamedTuple):
    """The settings of a rule: every combination of the axes' values is tried on validation."""

    name: str  # for example "decay {:g}, offset {:+g}"
    axes: tuple[Axis, ...]
    make: Callable[..., Bidder]  # of one value per axis and the fallback

    def candidates(self, fallback: int) -> dict[str, Bidder]:
        """Bidders of the grid without what lies beyond, by the name of the setting."""
        return {
            self.name.format(*setting): self.make(*setting, fallback)
            for setting in itertools.product(*(axis.values for axis in self.axes))
        }


def tune(score: Callable[[Bidder], float], candidates: Mapping[str, Bidder]) -> Tuned:
    """The candidate with the highest score, the first of equals."""
    scores = {setting: score(bidder) for setting, bidder in candidates.items()}
    best = max(scores, key=lambda setting: scores[setting])
    return Tuned(candidates[best], best, len(candidates))


def tune_grid(score: Callable[[Bidder], float], grid: Grid, fallback: int) -> Tuned:
    """The best setting of a grid, which grows where its best lies at an edge.

    The setting says "at the edge" where there is nothing further to try.
    """
    values = [list(axis.values) for axis in grid.axes]
    beyond = [list(axis.beyond) for axis in grid.axes]
    scores: dict[tuple[float, ...], float] = {}
    while True:
        for setting in itertools.product(*values):
            if setting not in scores:
                scores[setting] = score(grid.make(*setting, fallback))
        best = max(scores, key=lambda setting: scores[setting])
        edges = [k for k, value in enumerate(best) if value in (min(values[k]), max(values[k]))]
        grows = [k for k in edges if _further(beyond[k], best[k], values[k]) is not None]
        if not grows:
            break
        for k in grows:
            further = _further(beyond[k], best[k], values[k])
            assert further is not None
            beyond[k].remove(further)
            values[k].append(further)
    at_edge = any(not _bounded(grid.axes[k], best[k]) for k in edges)
    name = grid.name.format(*best) + (", at the edge" if at_edge else "")
    return Tuned(grid.make(*best, fallback), name, len(scores))


def _further(beyond: list[float], best: float, values: list[float]) -> float | None:
    """The next value beyond the edge on which `best` lies."""
    if best == max(values):
        above = [value for value in beyond if value > best]
        return min(above) if above else None
    below = [value for value in beyond if value < best]
    return max(below) if below else None


def _bounded(axis: Axis, value: float) -> bool:
    """Whether a value at an edge is the last that makes sense: a decay of 0 or 1."""
    return value in (0.0, 1.0) and axis.values[-1] <= 1.0
