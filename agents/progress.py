"""Progress of a training run in the terminal, and how long each stage took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[int, int], None]  # done, in all


class Stages:
    """Named stages with bars; also keeps their durations in seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._bars = Progress(
            TextColumn("{task.description:<32}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )

    def __enter__(self) -> "Stages":
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Stop drawing; the terminal is left clean after errors and Ctrl-C."""
        self._bars.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """Time a stage; it reports how much of it is done."""
        started = time.monotonic()
        bar = self._bars.add_task(name, total=None, note="")
        yield lambda done, total: self._bars.update(bar, completed=done, total=total)
        self._bars.remove_task(bar)
        self._finish(name, time.monotonic() - started)

    @contextmanager
    def trials(
        self, names: list[str], steps: int
    ) -> Iterator[Callable[[str, dict[str, Any]], None]]:
        """Time the trials; each reports the steps it learned from and its validation profit."""
        started = time.monotonic()
        bars = {name: self._bars.add_task(name, total=steps, note="") for name in names}

        def report(name: str, metrics: dict[str, Any]) -> None:
            note = (
                f"{metrics['validation_iqm_eth']:.4f} ETH/episode, "
                f"{metrics['steps_per_s']:,.0f} steps/s"
            )
            self._bars.update(bars[name], completed=metrics["steps"], note=note)

        yield report
        for bar in bars.values():
            self._bars.remove_task(bar)
        self._finish("learning", time.monotonic() - started)

    def _finish(self, name: str, seconds: float) -> None:
        self.seconds[name] = seconds
        self.console.print(f"{name:<32} {seconds:6.1f} s")
