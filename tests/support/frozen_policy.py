"""A frozen policy folder for tests of the server, written by the exporter of the learner: a network
that bids a fixed share on the best opportunity, and a small random forecaster."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kernels.market.action import ACTIONS, BID_PPM, BIDS, action_of
from kernels.market.observation import SIZE
from kernels.market.tile import OPPORTUNITIES
from kernels.networks.features import N_FEATURES
from kernels.networks.forward import mlp_size
from models.frozen import Layer, Network
from models.policy.export import write_policy
from models.volatility.onnx_file import export_forecaster
from models.volatility.predictor import Forecaster

HIDDEN = 16
FALLBACK = [-13.0, -11.9, -10.5]


def write_fixed_fraction_policy(directory: Path, bid_ppm: int = 500_000) -> Path:
    """Write the folder; the bid is the nearest of the grid."""
    rng = np.random.default_rng(0)
    bid = int(np.argmin(np.abs(BID_PPM - bid_ppm)))
    layers: tuple[Layer, ...] = (
        (np.zeros((HIDDEN, SIZE), np.float32), np.zeros(HIDDEN, np.float32)),
        (np.zeros((ACTIONS, HIDDEN), np.float32), np.zeros(ACTIONS, np.float32)),
    )
    # best opportunity first, and any of them before passing
    for k in range(OPPORTUNITIES):
        layers[-1][1][action_of(k, bid)] = 4.0 - k * 0.5
    observations = np.clip(rng.normal(0.0, 1.5, (20, SIZE)), -5.0, 5.0).astype(np.float32)
    masks = np.zeros((20, ACTIONS), np.bool_)
    masks[:, 0] = True
    masks[10:, 1 : 1 + BIDS] = True
    forecaster = random_forecaster(rng)
    write_policy(
        directory,
        Network(layers),
        observations,
        masks,
        lambda folder: export_forecaster(forecaster, folder) | {"fallback_log_variance": FALLBACK},
        {"purpose": "tests"},
        {"torch": 1},
    )
    return directory


def random_forecaster(rng: np.random.Generator) -> Forecaster:
    """Two small networks for one symbol and three horizons."""
    hidden, recurrent = 4, np.array([0, 3, 7], np.int64)
    sizes = np.array([N_FEATURES + hidden, 8, 3], np.int64)
    row = (recurrent.size + hidden + 1) * 4 * hidden + mlp_size(sizes) + N_FEATURES * 3
    return Forecaster(
        horizons_minutes=(5, 15, 60),
        symbols=("ETHUSDT",),
        bar_minutes=1,
        trained_from=27_000_000,
        trained_until=28_000_000,
        scale=np.stack([np.zeros(N_FEATURES), np.ones(N_FEATURES)]).astype(np.float32),
        base=rng.normal(0.0, 0.1, (N_FEATURES + 1, 3)).astype(np.float32),
        weights=rng.normal(0.0, 0.1, (2, row)).astype(np.float32),
        recurrent=recurrent,
        sizes=sizes,
    )
