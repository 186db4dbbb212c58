"""Serves a frozen policy on a chain: `python serve.py`. Without a node it starts the local chain
world first. Settings: configs/serve-devnet.yaml and live/settings/config.py; `--help` lists all of
them."""

from __future__ import annotations

import sys

from terminal import BAD_INPUT, begin, ended

if __name__ == "__main__":
    begin("serve.py")  # before the heavy imports: they take seconds

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from configs.reading import read_or_exit
from live.books.metrics import write_report
from live.market.volatility import WarmUpBars
from live.server import Policy, load_policy, serve
from live.settings.config import ServeConfig, StartError
from live.status import Status, entered, stage, summary_table

DEFAULT_CONFIG = Path(__file__).resolve().parent / "configs" / "serve-devnet.yaml"
# The local chain outlives the server by this much, for whoever reads its last state.
LOCAL_CHAIN_GRACE_S = 120.0
SYMBOL = "ETHUSDT"
# Two weeks: the daily profile looks back seven days, and borrowed bars lose up to a week.
WARM_UP_DAYS = 15


def read_arguments(arguments: list[str]) -> ServeConfig:
    """Settings from YAML and command line; wrong ones end the program with code 2."""
    if not any(word == "--config" or word.startswith("--config=") for word in arguments):
        arguments = ["--config", str(DEFAULT_CONFIG), *arguments]
    return read_or_exit(ServeConfig, "python serve.py", arguments, __doc__)


@contextmanager
def local_chain(config: ServeConfig) -> Iterator[ServeConfig]:
    """The local chain world, and the settings that point at it."""
    # imported here: a server with a node of its own must not load the world
    import devnet
    from devnet.anvil import NodeStartError
    from devnet.artifacts import ArtifactError
    from devnet.config import DevnetConfig, load_config
    from devnet.world import DeploymentError

    try:
        named = config.local_chain != Path("")
        world_config = load_config(config.local_chain) if named else DevnetConfig()
    except ValueError as error:
        raise StartError(f"local_chain: {error}") from error
    if config.duration:
        world_config = replace(world_config, lifetime=config.duration + LOCAL_CHAIN_GRACE_S)
    try:
        with devnet.running(world_config) as world:
            name = config.key.removeprefix("env:")
            if config.key.startswith("env:"):
                os.environ.setdefault(name, world.searcher_key)
            node = replace(config.node, url=world.ws_url, chain_id=world_config.anvil.chain_id)
            yield replace(config, node=node, deployment=world_config.manifest)
    except (ArtifactError, NodeStartError, DeploymentError) as error:
        raise StartError(f"local chain: {error}") from error


def warm_up_bars(config: ServeConfig, local: bool) -> WarmUpBars | None:
    """Bars that warm up the forecast: the file of the configuration, or for the local chain, which
    has no past of its own, the calibrated stand-in; None for a real chain without a file."""
    from history.prices import BarsError, load_bars
    from history.stochastic_volatility import stochastic_volatility_bars

    unnamed = config.bars == Path("")
    if unnamed and not local:
        return None
    try:
        bars = stochastic_volatility_bars(0, WARM_UP_DAYS) if unnamed else load_bars(config.bars)
        series = bars.of(SYMBOL if SYMBOL in bars.symbols else next(iter(bars.symbols)))
        start, stop = bars.windows(series.symbol)[-1]
    except BarsError as error:
        raise StartError(f"bars: {error}") from error
    start = max(start, stop - WARM_UP_DAYS * 1440 // bars.bar_minutes)
    return WarmUpBars(series.minute[start:stop], series.ohlcv[start:stop], bars.bar_minutes, local)


def run(config: ServeConfig, policy: Policy, console: Console) -> None:
    """Serve, show the report, write it."""
    local = not (config.node.url or config.node.ipc_path)
    bars = warm_up_bars(config, local)
    chain = entered(console, "local chain", local_chain(config)) if local else nullcontext(config)
    with chain as settings:
        with Status(console) as status:
            report = serve(settings, policy, bars, status.update)
        path = config.report
        if path == Path(""):
            path = Path(report["journal"]).with_suffix(".report.json")
        console.print(summary_table(report))
        write_report(path, report)
    console.print(f"report: {path}", highlight=False)


def main(arguments: list[str] | None = None) -> int:
    """0 after a served time or an interruption of the service, 2 when the server cannot start."""
    config = read_arguments(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    console = Console(stderr=True)
    try:
        with stage(console, "policy and kernels"):
            policy = load_policy(config.policy)
        run(config, policy, console)
    except StartError as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    ended("serve.py", main)
