"""Freezes a policy that was trained elsewhere, so that the server and the evaluation can load it.

python -m agents.evaluate.elsewhere --model FILE --policy DIR [--algorithm MODULE:NAME]
    [--forecaster DIR] [--config FILE]
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("agents.evaluate.elsewhere")  # before the heavy imports: they take seconds

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from agents.config import TrainConfig, config_to_dict, read_arguments
from agents.evaluate.freeze import write_folder
from agents.prices import bars_to_learn_from, data_folder, first_test_minute, market_paths
from agents.progress import Report
from models.extensions import imported, refused
from models.policy.convert import CannotServeError, servable
from models.volatility.onnx_file import load_forecaster
from models.volatility.predictor import VarianceForecaster
from models.volatility.train import train_forecaster


def freeze_policy(
    policy: Any,
    directory: Path | str,
    config: TrainConfig | None = None,
    forecaster: VarianceForecaster | Path | str | None = None,
    progress: Report = lambda done, total: None,
) -> Path:
    """Write a policy that was trained elsewhere into `directory`, as train.py does with its own.

    policy: see `models.policy.convert.servable`. config: market and prices that it was trained in
    (default: TrainConfig()). forecaster: one that is trained, or the folder of a frozen policy that
    holds one; default: one is trained as the configuration says, which takes minutes. Raises
    CannotServeError for a policy that a server could not play, BarsError for bad prices.
    """
    config = config or TrainConfig()
    network = servable(policy)
    if network.recurrent and config.market.ticks_per_slot > 1:
        raise CannotServeError(
            f"it remembers, and market.ticks_per_slot is {config.market.ticks_per_slot}: a server "
            "moves the memory once per slot; train it with one decision per slot"
        )
    bars = bars_to_learn_from(config.prices, data_folder(config.prices), config.run.seed)
    if forecaster is None:
        test_from = first_test_minute(config.prices, bars)
        forecaster = train_forecaster(bars, config.forecaster, test_from, progress)
    elif not isinstance(forecaster, VarianceForecaster):
        forecaster = load_forecaster(forecaster)
    paths = market_paths(forecaster, bars)
    directory = Path(directory)
    write_folder(directory, network, config.market, paths, forecaster, config_to_dict(config))
    return directory


def read_model(file: Path, algorithm: str) -> Any:
    """An ONNX file as its path, a file of stable-baselines3 as the algorithm loaded from it."""
    if file.suffix == ".onnx":
        return file
    if not file.is_file():
        raise CannotServeError(f"--model {file}: no such file")
    if file.suffix != ".zip":
        raise CannotServeError(
            f"--model {file}: give an .onnx file, or a .zip that stable-baselines3 saved; a torch "
            "module is frozen from Python with mevrl.freeze_policy"
        )
    kind = imported(algorithm, "--algorithm")
    load: Callable[..., Any] | None = getattr(kind, "load", None)
    if load is None:
        raise refused("--algorithm", algorithm, "it has no method load", "name an algorithm")
    try:
        return load(file, device="cpu")
    except Exception as error:  # pickles and torch have many types of their own
        raise CannotServeError(
            f"--model {file}: {algorithm} cannot load it: {error}; name the algorithm that saved it"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 with the reason on standard error for bad input."""
    parser = ArgumentParser(prog="python -m agents.evaluate.elsewhere", description=__doc__)
    parser.add_argument("--model", type=str, required=True, help=".onnx, or .zip with --algorithm")
    parser.add_argument("--policy", type=str, required=True, help="folder to write")
    parser.add_argument(
        "--algorithm",
        type=str,
        default="stable_baselines3:PPO",
        help="class that saved a .zip, which holds pickles: load only files that you trust",
    )
    parser.add_argument(
        "--forecaster", type=str, default="", help="policy folder whose forecaster is taken"
    )
    parser.add_argument("--config", type=str, default="", help="configuration of train.py")
    given = parser.parse_args(arguments)
    console = Console()
    try:
        config, _ = read_arguments(["--config", given.config] if given.config else [])
        model = read_model(Path(given.model), given.algorithm)
        with console.status("freezing"):
            freeze_policy(model, given.policy, config, given.forecaster or None)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(f"Policy: {given.policy}   Evaluate: mevrl evaluate --policy {given.policy}")
    return 0


if __name__ == "__main__":
    ended("agents.evaluate.elsewhere", main)
