"""How a bidder bids: mean bid and win rate by value and hidden regime."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.market.block import PASSED

VALUE_EDGES_ETH = np.geomspace(1e-4, 100.0, 25)


@dataclass
class BidCurve:
    """Mean bid and win rate by value of the opportunity and hidden regime, filled slot by slot."""

    regimes: int
    bids: NDArray[np.float64] = field(init=False)  # [regime, value]
    fraction: NDArray[np.float64] = field(init=False)
    won: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Start from zero."""
        shape = (self.regimes, VALUE_EDGES_ETH.size - 1)
        self.bids, self.fraction, self.won = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def watch(
        self, available: NDArray[np.float64], rewards: NDArray[np.float64], infos: dict[str, Any]
    ) -> None:
        """Add the auctions that one decision settled."""
        value = np.searchsorted(VALUE_EDGES_ETH, infos["net"]) - 1
        known = (infos["outcome"] != PASSED) & (value >= 0) & (value < self.bids.shape[1])
        cell = infos["regime"][known], value[known]
        np.add.at(self.bids, cell, 1.0)
        np.add.at(self.fraction, cell, infos["own_fraction"][known])
        np.add.at(self.won, cell, infos["won"][known])
