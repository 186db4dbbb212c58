"""What is shown of a run where there is no terminal: every stage, and that it still goes on."""

import io
import os
import threading

import pytest
from rich.console import Console

from agents.processes import cores
from agents.progress import Stages
from tests.support.programs import until


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def test_every_stage_is_named_and_timed(console: Console) -> None:
    with Stages(console) as stages:
        with stages.stage("compilation") as progress:
            assert printed(console) == "compilation ...\n"
            progress(1, 3, "57 kernels compiled")
        with stages.trials(["seed-0"], 100) as report:
            report("seed-0", {"validation_iqm_eth": 0.5, "steps_per_s": 1e4, "steps": 50})
    lines = printed(console).splitlines()
    assert [line.split()[0] for line in lines] == [
        "compilation",
        "compilation",
        "learning",
        "seed-0:",
        "learning",
    ]
    assert "50 of 100 steps, 0.5000 ETH/episode, 10,000 steps/s" in lines[3]
    assert set(stages.seconds) == {"compilation", "learning"}


def test_a_long_stage_says_that_it_goes_on(console: Console) -> None:
    with (
        Stages(console, beat_s=0.01) as stages,
        stages.stage("compilation") as progress,
    ):
        until(lambda: "  compilation: 0 s" in printed(console), "a beat")
        progress(1, 2, "57 kernels compiled")
        until(lambda: "  compilation: 50 %, " in printed(console), "a beat with its share")
        assert "57 kernels compiled" in printed(console)
    beats = [thread for thread in threading.enumerate() if thread is stages._beats]
    until(lambda: not any(thread.is_alive() for thread in beats), "the end of the beats")


@pytest.mark.parametrize("per_core", [0.5, 4.0])
def test_a_crowded_machine_is_named(
    console: Console, monkeypatch: pytest.MonkeyPatch, per_core: float
) -> None:
    """Ray's workers run at low priority: beside other programs a minute's work took eight."""
    load = per_core * cores()
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    with Stages(console, beat_s=0.01) as stages, stages.stage("forecaster"):
        until(lambda: "  forecaster: 0 s" in printed(console), "a beat")
    crowded = f", load {load:.1f} on {cores()} cores" in printed(console)
    assert crowded == (per_core > 2.0)


def test_bars_of_a_terminal_tell_the_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (8.0 * cores(), 0.0, 0.0))
    terminal = Console(file=io.StringIO(), width=160, force_terminal=True)
    with Stages(terminal, beat_s=0.01) as stages, stages.stage("forecaster"):
        until(lambda: f"load {8.0 * cores():.1f} on" in printed(terminal), "the load in a bar")


def test_the_beginning_of_a_manager_is_a_stage_and_its_end_is_not(console: Console) -> None:
    lock = threading.Lock()
    with Stages(console) as stages:
        with stages.entered("lock", lock):
            assert lock.locked()
            assert set(stages.seconds) == {"lock"}
        assert not lock.locked()
