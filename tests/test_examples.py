"""Every example runs, as the README says it, and says what it is for in its first lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MOST_LINES = 60
# What one of them must print, beside ending without an error.
SAYS = {
    "freeze_and_serve_a_policy": "refused: ",
    "own_forecaster": "pooled",
    "own_network_and_loss": "episode",
    "own_rule": "ShadeByGas",
    "read_a_frozen_policy": "Action(",
    "replay_recorded_events": "2 of 2 events exact",
    "step_the_market": "auctions won",
    "train_with_stable_baselines3": "MaskablePPO: ",
}
POOL = "swaps/v3_wbtc_weth_3000_pool_before_16944668.json.gz"
EVENTS = "swaps/v3_wbtc_weth_3000_events_16944669_16951788.json.gz"


def run(example: Path, *arguments: str) -> str:
    """Standard output of an example, from a folder that is not the checkout."""
    environment = {k: v for k, v in os.environ.items() if k != "MEVRL_DATA"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([os.fspath(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-W", "error", os.fspath(example), *arguments],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_are_those_that_are_run() -> None:
    assert {example.stem for example in EXAMPLES} == set(SAYS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_is_short_and_says_how_to_run_it(example: Path) -> None:
    text = example.read_text()
    assert len(text.splitlines()) < MOST_LINES
    assert f"python examples/{example.name}" in text


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_runs(example: Path) -> None:
    assert SAYS[example.stem] in run(example)


@pytest.mark.skipif(
    "MEVRL_DATA" not in os.environ, reason="MEVRL_DATA is unset: no recorded events"
)
def test_recorded_events_are_replayed() -> None:
    data = Path(os.environ["MEVRL_DATA"])
    example = ROOT / "examples" / "replay_recorded_events.py"
    assert "events exact" in run(example, os.fspath(data / POOL), os.fspath(data / EVENTS))
