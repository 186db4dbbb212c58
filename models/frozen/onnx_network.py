"""A policy network of any architecture: its ONNX graph, run by onnxruntime.

What `models.frozen.network` describes runs in the project's own kernel, which is faster; every
other network is served through its graph. It maps observation float32[n, D] to logits
float32[n, A]; one that remembers also maps state float32[n, ...] to next_state.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from kernels.networks.forward import masked_argmax
from models.frozen.row_graph import Port, RowGraph

OBSERVATION, LOGITS = "observation", "logits"


class OnnxNetwork(RowGraph):
    """The graph as the server and the evaluation run it: the same calls as `Compiled`."""

    def __init__(self, content: bytes) -> None:
        """Read and check the graph. Raises NetworkFileError."""
        super().__init__(content, Port(OBSERVATION, SIZE), Port(LOGITS, ACTIONS))

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxNetwork, (self.content,)

    @property
    def inputs(self) -> int:
        """D, width of the observation."""
        return SIZE

    @property
    def outputs(self) -> int:
        """A, number of logits."""
        return ACTIONS

    def shapes(self) -> dict[str, Any]:
        """As the manifest states them."""
        return {"observation": SIZE, "state": list(self.state_shape), "logits": ACTIONS}

    def run(self, rows: NDArray[np.float32], state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32[n, A] of observations float32[n, D]; `state` is replaced by the next."""
        logits = super().run(rows, state)
        # An action of unknown worth is never chosen; when all are, it is the first one, a pass.
        return np.where(np.isnan(logits), np.float32(-np.inf), logits)

    def forward(
        self,
        observation: NDArray[np.float32],
        state: NDArray[np.float32],
        after: NDArray[np.float32],
        scratch: NDArray[np.float32],
        logits: NDArray[np.float32],
    ) -> None:
        """One market: `logits` float32[A] and the next state `after` of observation float32[D]."""
        after[:] = state
        logits[:] = self.run(observation[None], after[None])[0]

    def choose(
        self,
        observation: NDArray[np.float32],
        state: NDArray[np.float32],
        after: NDArray[np.float32],
        scratch: NDArray[np.float32],
        logits: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> int:
        """`forward`, then the best action that `mask` allows; below 0 when there is none."""
        self.forward(observation, state, after, scratch, logits)
        return masked_argmax(logits, mask)
