"""Progress of a run in the terminal, and how long each stage took."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agents.processes import cores

BEAT_S = 10.0  # a file or a pipe is shown no bars, but a line this often
CROWDED = 2.0  # processes per core that want to run; Ray's workers wait for all others

Entered = TypeVar("Entered")

Report = Callable[[int, int], None]  # done, in all


class NotedReport(Protocol):
    """A Report that is also told what else there is to say."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """`done` of `total` parts."""


class Stages:
    """Named stages with bars, or with lines where there is no terminal; keeps their seconds."""

    def __init__(self, console: Console, beat_s: float = BEAT_S) -> None:
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
            TextColumn("{task.fields[load]}"),
            console=console,
            transient=True,
        )
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, args=(beat_s,), daemon=True)

    def __enter__(self) -> "Stages":
        """Start drawing."""
        if self.console.is_terminal:
            self._bars.start()
        self._beats.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Stop drawing; the terminal is left clean after errors and Ctrl-C."""
        self._ended.set()
        if self.console.is_terminal:
            self._bars.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[NotedReport]:
        """Time a stage; it reports how much of it is done."""
        self._begin(name)
        started = time.monotonic()
        bar = self._bars.add_task(name, total=None, note="", load="")

        def report(done: int, total: int, note: str = "", /) -> None:
            self._bars.update(bar, completed=done, total=total, note=note)

        yield report
        self._bars.remove_task(bar)
        self._finish(name, time.monotonic() - started)

    @contextmanager
    def entered(self, name: str, manager: AbstractContextManager[Entered]) -> Iterator[Entered]:
        """`with manager`, whose beginning is a stage."""
        with ExitStack() as stack:
            with self.stage(name):
                value = stack.enter_context(manager)
            yield value

    @contextmanager
    def trials(
        self, names: list[str], steps: int
    ) -> Iterator[Callable[[str, dict[str, Any]], None]]:
        """Time the trials; each reports the steps it learned from and its validation profit."""
        self._begin("learning")
        started = time.monotonic()
        bars = {name: self._bars.add_task(name, total=steps, note="", load="") for name in names}

        def report(name: str, metrics: dict[str, Any]) -> None:
            note = (
                f"{metrics['validation_iqm_eth']:.4f} ETH/episode, "
                f"{metrics['steps_per_s']:,.0f} steps/s"
            )
            self._bars.update(bars[name], completed=metrics["steps"], note=note)
            if not self.console.is_terminal:
                self._print(f"  {name}: {metrics['steps']:,} of {steps:,} steps, {note}")

        yield report
        for bar in bars.values():
            self._bars.remove_task(bar)
        self._finish("learning", time.monotonic() - started)

    def _begin(self, name: str) -> None:
        if not self.console.is_terminal:
            self._print(f"{name} ...")

    def _finish(self, name: str, seconds: float) -> None:
        self.seconds[name] = seconds
        self.console.print(f"{name:<32} {seconds:6.1f} s")

    def _beat(self, beat_s: float) -> None:
        """Say every `beat_s` what is open and how crowded the machine is: silence looks like a
        standstill. Bars tell the first by themselves.
        """
        while not self._ended.wait(beat_s):
            load = crowd()
            for task in self._bars.tasks:
                if self.console.is_terminal:
                    self._bars.update(task.id, load=load)
                    continue
                done = "" if task.total is None else f"{task.percentage:.0f} %"
                told = (done, f"{task.elapsed or 0.0:.0f} s", task.fields["note"], load)
                self._print(f"  {task.description}: {', '.join(filter(None, told))}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def crowd() -> str:
    """How many processes want the machine, where that is more than it can serve; else nothing."""
    try:
        wanting = os.getloadavg()[0]
    except OSError:  # a system that does not say
        return ""
    return f"load {wanting:.1f} on {cores()} cores" if wanting > CROWDED * cores() else ""
