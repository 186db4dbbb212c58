"""What a person sees while the server runs: a small table that is redrawn after a head, at most
once per second, when nothing is urgent; one line every ten seconds where there is no terminal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from live.server import Server
from live.settings.config import ETHER

REDRAW_S = 1.0
LINE_S = 10.0
SENT = ("bundles_sent", "included", "failed")

Entered = TypeVar("Entered")


class Status:
    """A context manager; pass `update` as the server's quiet-time callback."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._terminal = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._next = 0.0

    def __enter__(self) -> Status:
        self._console.print("Waiting for the first block; Ctrl-C ends the service.")
        if self._terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._terminal:
            self._live.stop()

    def update(self, server: Server) -> None:
        """Redraw when it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (REDRAW_S if self._terminal else LINE_S)
        if self._terminal:
            self._live.update(live_table(server), refresh=True)
        else:
            self._console.print(status_line(server), highlight=False)


@contextmanager
def stage(console: Console, name: str) -> Iterator[None]:
    """Say what is waited for before anything is served, for how long, and how long it took."""
    started = time.monotonic()
    ended = threading.Event()
    if console.is_terminal:
        columns = SpinnerColumn(), TextColumn(name), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as clock:
            clock.add_task(name, total=None)
            yield
    else:
        console.print(f"{name} ...", highlight=False)
        threading.Thread(target=_beat, args=(console, name, started, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
    console.print(f"{name:<32} {time.monotonic() - started:6.1f} s")


def _beat(console: Console, name: str, started: float, ended: threading.Event) -> None:
    while not ended.wait(LINE_S):
        console.print(f"  {name}: {time.monotonic() - started:.0f} s", highlight=False)


@contextmanager
def entered(
    console: Console, name: str, manager: AbstractContextManager[Entered]
) -> Iterator[Entered]:
    """`with manager`, whose beginning is a stage."""
    with ExitStack() as stack:
        with stage(console, name):
            value = stack.enter_context(manager)
        yield value


def eth(wei: int) -> str:
    """Ether with six decimals."""
    return f"{wei / ETHER:+.6f} ETH"


def status_line(server: Server) -> str:
    """The state in one line."""
    m, latency = server.metrics, server.metrics.latency["frame_to_signed"].summary_us()
    return (
        f"block {server.engine.chain.head.number}  heads {m.heads}  pending {m.pending_seen}  "
        f"sent {m.bundles_sent}  included {m.included}  failed {m.failed}  "
        f"realised {eth(m.realised_profit_wei)}  p50 {latency['p50']:.0f} us"
    )


def live_table(server: Server) -> Table:
    """The state as a table."""
    m = server.metrics
    latency = m.latency["frame_to_signed"].summary_us()
    mode = "dry run" if server.config.dry_run else "sending"
    seconds = time.monotonic() - server.started
    table = Table(title=f"mevrl  chain {server.deployment.chain_id}  {mode}  {seconds:.0f} s")
    table.add_column("chain")
    table.add_column("plans")
    table.add_column("money")
    table.add_column("frame to signed")
    lost = ", ".join(f"{reason} {count}" for reason, count in m.lost_by_reason.most_common(3))
    table.add_row(
        f"block {server.engine.chain.head.number}\nheads {m.heads}\npending {m.pending_seen}\n"
        f"mismatches {m.state_mismatches}\nreorgs {m.reorgs_handled}",
        f"found {m.opportunities}\ndecisions {m.decisions}\nsent {m.bundles_sent}\n"
        f"included {m.included}, failed {m.failed}\nlost: {lost or 'none'}",
        f"realised {eth(m.realised_profit_wei)}\nbids {eth(-m.bids_paid_wei)}\n"
        f"gas {eth(-m.gas_spent_wei)}\nnet {eth(m.realised_profit_wei - m.gas_spent_wei)}",
        f"p50 {latency['p50']:.0f} us\np99 {latency['p99']:.0f} us\nmax {latency['max']:.0f} us\n"
        f"n {latency['n']}",
    )
    return table


def summary_table(report: dict[str, Any]) -> Table:
    """The report's main figures, shown at the end."""
    table = Table(title="report", show_header=False)
    latency = report["latency_us"]["frame_to_signed"]
    for name, value in (
        ("seconds", f"{report['seconds']:.0f}"),
        ("heads, pending seen", f"{report['heads']}, {report['pending_seen']}"),
        ("sent, included, failed", ", ".join(str(report[k]) for k in SENT)),
        ("realised profit", eth(report["realised_profit_wei"])),
        ("gas spent", eth(-report["gas_spent_wei"])),
        ("state mismatches", str(report["state_mismatches"])),
        ("frame to signed", f"p50 {latency['p50']:.0f} us, p99 {latency['p99']:.0f} us"),
        ("lost by reason", str(report["lost_by_reason"] or "none")),
    ):
        table.add_row(name, value)
    return table
