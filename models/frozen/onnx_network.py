"""A policy network of any architecture: its ONNX graph, run by onnxruntime on one thread.

What `models.frozen.network` describes runs in the project's own kernel, which is faster; every
other network is served through its graph. Inputs and outputs are float32 and have these names:
observation [n, D] -> logits [n, A]; with a memory also state [n, ...] -> next_state of that shape.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto

from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from models.frozen.folder import TOLERANCE, session_of

OBSERVATION, LOGITS, STATE, NEXT_STATE = "observation", "logits", "state", "next_state"
# The same observation must lead to the same decision.
RANDOM_OPERATORS = (
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Multinomial", "Bernoulli"),
)
_TRIED_ROWS = 3


class NetworkFileError(ValueError):
    """An ONNX graph that cannot be served as a policy; the message names what and the remedy."""


class OnnxNetwork:
    """The graph as the server and the evaluation run it: the same calls as `Compiled`."""

    def __init__(self, content: bytes) -> None:
        """Read and check the graph. Raises NetworkFileError."""
        self.content = content
        self.state_shape = _checked(content)
        self._session = session_of(content)
        self._outputs = [LOGITS, NEXT_STATE] if self.recurrent else [LOGITS]
        self._check_rows()

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxNetwork, (self.content,)

    @property
    def recurrent(self) -> bool:
        """Whether it has a state."""
        return bool(self.state_shape)

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

    def new_state(self, n: int) -> NDArray[np.float32]:
        """State float32[n, ...] of n markets before their first slot: zeros."""
        return np.zeros((n, *(self.state_shape or (0,))), np.float32)

    def run(
        self, observations: NDArray[np.float32], state: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Logits float32[n, A] of observations float32[n, D]; `state` is replaced by the next."""
        feed = {OBSERVATION: np.ascontiguousarray(observations, np.float32)}
        if self.recurrent:
            feed[STATE] = np.ascontiguousarray(state)
        logits, *after = (np.asarray(out) for out in self._session.run(self._outputs, feed))
        if after:
            state[:] = after[0]
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

    def _check_rows(self) -> None:
        """Any number of markets, each of which has its own answer, the same every time."""
        rows = np.linspace(-1.0, 1.0, _TRIED_ROWS * SIZE, dtype=np.float32).reshape(-1, SIZE)
        try:
            together = self.run(rows, self.new_state(_TRIED_ROWS))
            alone = [self.run(row[None], self.new_state(1)) for row in rows]
            again = self.run(rows, self.new_state(_TRIED_ROWS))
        except Exception as error:  # onnxruntime has many types of its own
            raise NetworkFileError(
                f"the graph does not run on 1 and on {_TRIED_ROWS} observations: {error}; export "
                "it with a first axis of any length"
            ) from error
        if together.shape != (_TRIED_ROWS, ACTIONS) or together.dtype != np.float32:
            found = f"{together.dtype}{list(together.shape)}"
            raise NetworkFileError(
                f"{LOGITS}: {found} for {_TRIED_ROWS} observations; give float32[n, {ACTIONS}]"
            )
        if not np.isfinite(together).all():
            raise NetworkFileError(f"{LOGITS}: not finite for an ordinary observation")
        bound = TOLERANCE * max(1.0, float(np.abs(together).max()))
        for name, other in (("alone", np.concatenate(alone)), ("again", again)):
            gap = float(np.abs(together - other).max())
            if not gap <= bound:
                raise NetworkFileError(
                    f"{LOGITS} of an observation differ by {gap:.3g} when it is run {name}: the "
                    "network must treat every row by itself and draw nothing; export it in "
                    "evaluation mode"
                )


def named_graph(source: bytes | Path) -> bytes:
    """An ONNX file whose only input and output, whatever they are called, get the right names.

    Raises NetworkFileError for a file that is no ONNX graph.
    """
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        model = onnx.load_from_string(content)
    except FileNotFoundError:
        raise NetworkFileError(f"{source}: no such file") from None
    except Exception as error:  # protobuf raises its own types on hostile bytes
        raise NetworkFileError(f"not an ONNX graph: {error!r}") from error
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        return content
    names = {inputs[0].name: OBSERVATION, model.graph.output[0].name: LOGITS}
    if all(old == new for old, new in names.items()):
        return content
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model.SerializeToString()


def _checked(content: bytes) -> tuple[int, ...]:
    """Shape of the state of one market, empty without one. Raises NetworkFileError."""
    try:
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # protobuf raises its own types on hostile bytes
        raise NetworkFileError(f"not a valid ONNX graph: {error}") from error
    foreign = {opset.domain for opset in model.opset_import} - {"", "ai.onnx"}
    if foreign:
        raise NetworkFileError(f"operators of {', '.join(foreign)}: only those of ONNX are served")
    drawn = sorted({node.op_type for node in model.graph.node} & set(RANDOM_OPERATORS))
    if drawn:
        raise NetworkFileError(f"operators that draw at random: {', '.join(drawn)}; give logits")
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in held}
    outputs = {value.name: value for value in model.graph.output}
    for kind, found, wanted in (
        ("inputs", inputs, [OBSERVATION] + [STATE] * (len(inputs) > 1)),
        ("outputs", outputs, [LOGITS] + [NEXT_STATE] * (len(inputs) > 1)),
    ):
        if sorted(found) != sorted(wanted):
            names = ", ".join(found) or "none"
            raise NetworkFileError(f"{kind} {names}: give {' and '.join(wanted)}")
    _check_width(inputs[OBSERVATION], SIZE)
    _check_width(outputs[LOGITS], ACTIONS)
    if STATE not in inputs:
        return ()
    shape = _shape(inputs[STATE])
    if len(shape) < 2 or not all(shape[1:]):
        raise NetworkFileError(f"{STATE}: shape {shape}; give one row per market and fixed widths")
    return tuple(shape[1:])


def _check_width(value: ValueInfoProto, width: int) -> None:
    shape = _shape(value)
    if len(shape) != 2 or shape[1] not in (0, width):
        raise NetworkFileError(f"{value.name}: shape {shape}; this version has [n, {width}]")


def _shape(value: ValueInfoProto) -> list[int]:
    """Lengths of the axes, 0 where any is taken."""
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(tensor.elem_type)
        raise NetworkFileError(f"{value.name}: {found}; give float32")
    return [axis.dim_value for axis in tensor.shape.dim]
