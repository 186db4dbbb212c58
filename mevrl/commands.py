"""The commands of the project by one name each: `mevrl train` is `python train.py`, and so on.

A command runs as `python -m` or `python FILE` would run it, in this process.
"""

import runpy
import sys
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Command(NamedTuple):
    """What `mevrl NAME` runs: a file of the checkout (ends in .py), or a module."""

    target: str
    does: str


COMMANDS = {
    "train": Command("train.py", "train a forecaster and a policy, compare them, freeze the best"),
    "serve": Command("serve.py", "serve a frozen policy on a chain, by default a local one"),
    "devnet": Command("devnet", "run the local chain world alone"),
    "evaluate": Command("agents.evaluate", "compare a frozen policy with rules of bidding"),
    "freeze": Command("agents.evaluate.elsewhere", "freeze a policy that was trained elsewhere"),
    "replay": Command("envs.replay", "replay the recorded events of a Uniswap V3 pool"),
    "prices": Command("history.prices", "say what a file or a folder of bars holds"),
    "download": Command("history.download", "fetch recorded prices and blocks"),
    "volatility": Command("models.volatility", "judge volatility forecasts out of sample"),
    "calibration": Command("envs.calibration", "hold the simulator against recorded blocks"),
    "hidden-competition": Command("agents.hidden_competition", "study a market of hidden regimes"),
    "belief": Command("agents.belief", "foretell clearing bids in the market and bid by them"),
    "robustness": Command("agents.studies.robustness", "play policies against changed rivals"),
    "patterns": Command("agents.patterns", "find the kinds of bidders in recorded bids"),
    "benchmarks": Command("benchmarks", "measure speed, after checking the results"),
}


def version() -> str:
    """The version of this checkout; an editable installation does not follow it by itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


__version__ = version()


def run(name: str, arguments: Sequence[str] = ()) -> int:
    """Run a command with these arguments; its exit status. Raises ValueError for another name."""
    if name not in COMMANDS:
        raise ValueError(f"no command {name!r}: choose one of {', '.join(COMMANDS)}")
    _reach_root()
    target, before = COMMANDS[name].target, sys.argv
    script = target.endswith(".py")
    sys.argv = [str(ROOT / target) if script else f"mevrl {name}", *arguments]
    try:
        if script:
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            with warnings.catch_warnings():
                # A module that is loaded already is run anew, which runpy warns of.
                loaded = "'.*' found in sys.modules after import of package"
                warnings.filterwarnings("ignore", loaded, RuntimeWarning)
                runpy.run_module(target, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    finally:
        sys.argv = before
    return 0


def _reach_root() -> None:
    """What lies beside train.py is found as `python train.py` finds it."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))


def _inside(name: str, arguments: Sequence[str]) -> int:
    """Run a command of which another program hears: that keeps its own signal handlers."""
    _reach_root()
    import terminal  # imported here: it lies beside train.py, which is reached only now

    terminal.embedded = True
    try:
        return run(name, arguments)
    finally:
        terminal.embedded = False


def train(arguments: Sequence[str] = ()) -> int:
    """`python train.py` with these arguments, e.g. ["--config", "configs/smoke.yaml"].

    The exit status: 0, or 2 after bad input, whose reason stands on standard error.
    """
    return _inside("train", arguments)


def serve(arguments: Sequence[str] = ()) -> int:
    """`python serve.py` with these arguments, e.g. ["--policy", "runs/latest/policy"].

    The exit status: 0, or 2 when the server cannot start, with the reason on standard error.
    """
    return _inside("serve", arguments)
