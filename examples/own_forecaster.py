"""A volatility forecaster of your own: any torch module, judged beside the standard models.

python examples/own_forecaster.py

In a training it is named by import path, from the folder that holds this file; the market then
shows its forecasts, and the frozen policy carries it to the server:

    python train.py --forecaster.model own_forecaster:small_network
"""

import numpy as np
import torch
from torch import Tensor, nn

from history.stochastic_volatility import stochastic_volatility_bars
from models.volatility.config import VolatilityConfig
from models.volatility.train import evaluate


class SmallNetwork(nn.Module):
    """ln of the variance of the next 5, 15 and 60 minutes from one row of inputs."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        super().__init__()
        self.mean = nn.Parameter(inputs.mean(0), requires_grad=False)
        self.deviation = nn.Parameter(inputs.std(0) + 1e-3, requires_grad=False)
        self.level = nn.Parameter(targets.mean(0))
        self.layers = nn.Sequential(
            nn.Linear(inputs.shape[1], 32), nn.ReLU(), nn.Linear(32, targets.shape[1])
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """float32[n, F] -> float32[n, 3]."""
        return self.level + self.layers((inputs - self.mean) / self.deviation)


def small_network(inputs: np.ndarray, targets: np.ndarray, config: VolatilityConfig) -> nn.Module:
    """What the import path leads to: fit on rows [n, F] and what followed them, ln variance."""
    torch.manual_seed(config.seed)
    x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
    network = SmallNetwork(x, y)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(100):
        error = y - network(x)
        optimiser.zero_grad()
        (error.exp() - error).mean().backward()  # QLIKE, up to a constant
        optimiser.step()
    return network


if __name__ == "__main__":
    bars = stochastic_volatility_bars(seed=0, days=25)
    own = VolatilityConfig(model="own_forecaster:small_network", garch=False, confidence_set=False)
    report = evaluate(bars, own, test_from="2024-01-18")
    for row in report["rows"]:
        ours, best = (row["qlike"][model] for model in ("small_network", row["strongest_linear"]))
        print(
            f"{row['symbol']:8} {row['horizon_minutes']:3} min: QLIKE {ours:.3f}, linear {best:.3f}"
        )
