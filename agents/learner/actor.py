"""The network of a trained policy that chooses, as comparisons and the server play it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.learner_arms import blind_columns, blinded
from kernels.market.observation import SIZE
from models.frozen import Network, OnnxNetwork
from models.policy.convert import CannotServeError, servable
from models.policy.own_network import NetworkPolicy


def actor_of(policy: nn.Module, blind: Sequence[str]) -> Network | OnnxNetwork:
    """The actor of a trained policy, for observations that hold everything.

    Raises CannotServeError for a network that has no ONNX graph.
    """
    columns = blind_columns(blind)
    if columns.size and isinstance(policy, NetworkPolicy):
        return servable(_Blinded(policy.network, columns))
    network = servable(policy)
    if columns.size and not isinstance(network, Network):
        raise CannotServeError(f"ppo.blind {list(blind)}: give a torch module as ppo.network")
    return blinded(network, columns) if isinstance(network, Network) else network


class _Blinded(nn.Module):
    """A network of one's own that does not see some columns."""

    def __init__(self, network: nn.Module, columns: NDArray[np.int64]) -> None:
        super().__init__()
        self.network = network
        self.seen: Tensor
        self.register_buffer("seen", torch.ones(SIZE))
        self.seen[torch.from_numpy(columns)] = 0.0
        self.state_shape = getattr(network, "state_shape", ())

    def forward(self, observation: Tensor, *state: Tensor) -> Any:
        return self.network(observation * self.seen, *state)
