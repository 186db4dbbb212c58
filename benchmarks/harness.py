"""Timing of callables and the record that every benchmark returns.

A benchmark first calls `check` on what it is about to time; a figure is worth nothing when the
result is wrong. Ratios are taken between two callables timed in turn (A B A B ...), so that they
hold when the machine's speed drifts."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


class CheckFailedError(AssertionError):
    """A benchmark's result differs from its referee: nothing was timed."""


@dataclass(frozen=True)
class Measurement:
    """One row of a benchmark's table, with the target it is held against where there is one.

    A missed target is printed as such and fails nothing: the note says what bounds the figure.
    """

    name: str
    value: float
    unit: str
    note: str = ""
    extra: dict[str, float] = field(default_factory=dict)
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """The target and whether it was met, empty when there is none."""
        if self.at_least is not None:
            met = self.value >= self.at_least
            return f">= {self.at_least:,.4g} {'met' if met else 'missed'}"
        if self.at_most is not None:
            met = self.value <= self.at_most
            return f"<= {self.at_most:,.4g} {'met' if met else 'missed'}"
        return ""


def check(condition: bool, message: str) -> None:
    """Raise CheckFailedError with `message` unless `condition` holds."""
    if not condition:
        raise CheckFailedError(message)


def seconds_per_call(call: Callable[[], object], budget_s: float, rounds: int = 5) -> float:
    """Median over `rounds` of the mean seconds per call, after one call that is not counted."""
    call()
    begin = time.perf_counter()
    call()
    once = max(time.perf_counter() - begin, 1e-9)
    repeats = max(1, int(budget_s / rounds / once))
    means = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(repeats):
            call()
        means.append((time.perf_counter() - begin) / repeats)
    return statistics.median(means)


def paired_seconds(
    first: Callable[[], object], second: Callable[[], object], budget_s: float, rounds: int = 5
) -> tuple[float, float]:
    """Median seconds per call of two callables timed in turn, each with half of the budget."""
    first()
    second()
    pairs = [
        (
            seconds_per_call(first, budget_s / 2 / rounds, rounds=1),
            seconds_per_call(second, budget_s / 2 / rounds, rounds=1),
        )
        for _ in range(rounds)
    ]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def percentiles_us(samples_s: list[float]) -> dict[str, float]:
    """p50, p99 and max of samples in seconds, as microseconds."""
    ordered = sorted(samples_s)
    at = lambda q: ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e6  # noqa: E731
    return {"p50_us": at(0.5), "p99_us": at(0.99), "max_us": ordered[-1] * 1e6}
