"""The volatility forecaster: seconds to train it on one core, microseconds per forecast.

Checks first that the serving kernel gives what PyTorch gives and that training left the base; the
bars are the stand-in, as many as the recorded ones hold."""

import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks.harness import Measurement, check, seconds_per_call
from history.stochastic_volatility import stochastic_volatility_bars
from kernels.networks.features import N_FEATURES, ORIGIN, encode_inputs, new_states, update_bar
from models.volatility.config import VolatilityConfig
from models.volatility.har_lstm import HarLstm, standardise, train_har_lstm
from models.volatility.origins import Origins, build_origins
from models.volatility.predictor import Forecaster
from models.volatility.train import FULL

SEED = 3
DAYS = 310  # of two symbols: the 180,000 origins of the recorded 1-minute windows
QUICK_DAYS = 40
STEPS = 64  # forecasts per timed call
TOLERANCE = 1e-5


def train(origins: list[Origins], config: VolatilityConfig) -> tuple[Forecaster, float]:
    """A forecaster of all but the last day, and the seconds of processor time it took."""
    until = int(origins[0].minute[-1]) - 1440
    begin = time.process_time()
    forecaster = train_har_lstm(origins, config, until, 1)
    return forecaster, time.process_time() - begin


def check_against_torch(forecaster: Forecaster, config: VolatilityConfig, rows: np.ndarray) -> None:
    """Random weights through the kernel and through PyTorch."""
    torch.manual_seed(SEED)
    network = HarLstm(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        one = replace(forecaster, weights=network.flat()[None])
        got = one.run(rows, np.zeros(len(rows), np.bool_), one.new_state())[:, -1]
        x = torch.from_numpy(standardise(rows, one.scale))
        expected = network(x[None])[0].numpy() + base_forecast(one, rows)
    worst = float(np.abs(got - expected).max() / np.abs(expected).max())
    check(worst < TOLERANCE, f"kernel and PyTorch differ by {worst:.1e} of the forecast")


def base_forecast(forecaster: Forecaster, rows: np.ndarray) -> np.ndarray:
    """The linear part of the forecast alone."""
    z = (rows.astype(np.float32) - forecaster.scale[0]) * forecaster.scale[1]
    return z @ forecaster.base[:-1] + forecaster.base[-1]


def step_us(forecaster: Forecaster, members: int, rows: np.ndarray, budget_s: float) -> float:
    """Least microseconds per forecast of an ensemble of so many members."""
    part = replace(forecaster, weights=forecaster.weights[:members])
    restart, state = np.zeros(len(rows), np.bool_), part.new_state()
    times = [
        seconds_per_call(lambda: part.run(rows, restart, state), budget_s / 20, rounds=1)
        for _ in range(20)
    ]
    return min(times) / len(rows) * 1e6


def bar_us(minutes: int) -> float:
    """Least microseconds per 1-minute bar to update and encode the inputs."""
    rng = np.random.default_rng(SEED)
    close = 3000.0 * np.exp(np.cumsum(rng.normal(0.0, 5e-4, minutes)))
    states, out = new_states(2), np.empty(N_FEATURES)
    bars = [(k, p, p * 1.0005, p * 0.9995, p, 10.0) for k, p in enumerate(close.tolist())]
    for bar in bars[:1500]:
        update_bar(states[0], 1, *bar)
    best, encoded = np.inf, 0
    for block in range(1500, minutes - 50, 50):
        begin = time.perf_counter()
        for bar in bars[block : block + 50]:
            if update_bar(states[0], 1, *bar) == ORIGIN:
                encode_inputs(states[0], states[1], 1.0, out)
                encoded += 1
        best = min(best, time.perf_counter() - begin)
    check(encoded >= minutes // 5 - 400, f"{encoded} origins in {minutes} minutes")
    return best / 50 * 1e6


def run(quick: bool) -> list[Measurement]:
    """Full: the whole model. Quick: one network for two epochs of fewer days."""
    config = FULL
    if quick:
        config = replace(config, ensemble=1, epochs=2)
    origins = build_origins(
        stochastic_volatility_bars(SEED, QUICK_DAYS if quick else DAYS), config.horizons_minutes
    )
    forecaster, seconds = train(origins, config)
    rows = origins[0].inputs[:STEPS]
    check_against_torch(forecaster, config, rows)
    out = forecaster.run(rows, np.zeros(STEPS, np.bool_), forecaster.new_state())
    check(bool(np.isfinite(out).all()), "a forecast is not finite")
    gap = np.abs(out[:, -1] - base_forecast(forecaster, rows)).max()
    check(bool(gap > 1e-4), "training left the network at its base")
    count = sum(len(o) for o in origins)
    note = f"{config.ensemble} networks, {config.epochs} epochs, {count:,} origins, one thread"
    wide = replace(forecaster, weights=np.repeat(forecaster.weights[:1], 4, axis=0))
    budget_s = 0.5 if quick else 4.0
    figures = [Measurement("training", seconds, "s of processor time", note)]
    for members in (1, 2, 4):
        us = step_us(wide, members, rows, budget_s)
        figures.append(Measurement(f"forecast step, {members} networks", us, "us", "least of 20"))
    figures.append(Measurement("one bar into the inputs", bar_us(3000), "us", "called from Python"))
    return figures
