"""Functions of rows as ONNX graphs, run by onnxruntime on one thread and checked before that.

One input float32[n, D] and one output float32[n, A], under names that the caller gives; with a
memory also state float32[n, ...] -> next_state of that shape.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto

from kernels.checked_arrays import check_array, check_finite
from models.frozen.folder import TOLERANCE, session_of

STATE, NEXT_STATE = "state", "next_state"
# The same row must lead to the same answer.
RANDOM_OPERATORS = (
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Multinomial", "Bernoulli"),
)
_TRIED_ROWS = 3


class NetworkFileError(ValueError):
    """An ONNX graph that cannot be served; the message names what and the remedy."""


class Port(NamedTuple):
    """Name and width of the input or the output."""

    name: str
    width: int


class RowGraph:
    """A checked graph; every row has its own answer, the same every time."""

    def __init__(self, content: bytes, source: Port, target: Port) -> None:
        """Read and check the graph. Raises NetworkFileError."""
        self.content, self.source, self.target = content, source, target
        self.state_shape = _checked(content, source, target)
        self._session = session_of(content)
        self._outputs = [target.name, NEXT_STATE] if self.recurrent else [target.name]
        self._check_rows()

    @property
    def recurrent(self) -> bool:
        """Whether it has a state."""
        return bool(self.state_shape)

    def new_state(self, n: int) -> NDArray[np.float32]:
        """State float32[n, ...] of n rows before their first step: zeros."""
        return np.zeros((n, *(self.state_shape or (0,))), np.float32)

    def run(self, rows: NDArray[np.float32], state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs float32[n, A] of rows float32[n, D]; `state` is replaced by the next.

        Raises ArrayError for other shapes or types, and for numbers that are not finite.
        """
        n = len(rows)
        check_finite(self.source.name, rows, (n, self.source.width), np.float32)
        if self.recurrent:
            check_array(STATE, state, (n, *self.state_shape), np.float32)
        feed = {self.source.name: np.ascontiguousarray(rows, np.float32)}
        if self.recurrent:
            feed[STATE] = np.ascontiguousarray(state)
        out, *after = (np.asarray(value) for value in self._session.run(self._outputs, feed))
        if after:
            state[:] = after[0]
        return out

    def _check_rows(self) -> None:
        """Any number of rows, alone and together, twice."""
        name = self.target.name
        rows = np.linspace(-1.0, 1.0, _TRIED_ROWS * self.source.width, dtype=np.float32)
        rows = rows.reshape(_TRIED_ROWS, self.source.width)
        try:
            together = self.run(rows, self.new_state(_TRIED_ROWS))
            alone = [self.run(row[None], self.new_state(1)) for row in rows]
            again = self.run(rows, self.new_state(_TRIED_ROWS))
        except Exception as error:  # onnxruntime has many types of its own
            raise NetworkFileError(
                f"the graph does not run on 1 and on {_TRIED_ROWS} rows: {error}; export "
                "it with a first axis of any length"
            ) from error
        if together.shape != (_TRIED_ROWS, self.target.width) or together.dtype != np.float32:
            found = f"{together.dtype}{list(together.shape)}"
            raise NetworkFileError(
                f"{name}: {found} for {_TRIED_ROWS} rows; give float32[n, {self.target.width}]"
            )
        if not np.isfinite(together).all():
            raise NetworkFileError(f"{name}: not finite for an ordinary row")
        bound = TOLERANCE * max(1.0, float(np.abs(together).max()))
        for how, other in (("alone", np.concatenate(alone)), ("again", again)):
            gap = float(np.abs(together - other).max())
            if not gap <= bound:
                raise NetworkFileError(
                    f"{name} of a row differ by {gap:.3g} when it is run {how}: the "
                    "graph must treat every row by itself and draw nothing; export it in "
                    "evaluation mode"
                )


def named_graph(source: bytes | Path, input_name: str, output_name: str) -> bytes:
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
    names = {inputs[0].name: input_name, model.graph.output[0].name: output_name}
    if all(old == new for old, new in names.items()):
        return content
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model.SerializeToString()


def _checked(content: bytes, source: Port, target: Port) -> tuple[int, ...]:
    """Shape of the state of one row, empty without one. Raises NetworkFileError."""
    try:
        model = onnx.load_from_string(content)
        attributes = (a for node in model.graph.node for a in node.attribute)
        tensors = (*model.graph.initializer, *(a.t for a in attributes if a.HasField("t")))
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
            raise ValueError("its weights lie in another file; save them inside the graph")
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # protobuf raises its own types on hostile bytes
        raise NetworkFileError(f"not a valid ONNX graph: {error}") from error
    foreign = {opset.domain for opset in model.opset_import} - {"", "ai.onnx"}
    if foreign:
        raise NetworkFileError(f"operators of {', '.join(foreign)}: only those of ONNX are served")
    drawn = sorted({node.op_type for node in model.graph.node} & set(RANDOM_OPERATORS))
    if drawn:
        raise NetworkFileError(
            f"operators that draw at random: {', '.join(drawn)}; it must give the same every time"
        )
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in held}
    outputs = {value.name: value for value in model.graph.output}
    for kind, found, wanted in (
        ("inputs", inputs, [source.name] + [STATE] * (len(inputs) > 1)),
        ("outputs", outputs, [target.name] + [NEXT_STATE] * (len(inputs) > 1)),
    ):
        if sorted(found) != sorted(wanted):
            names = ", ".join(found) or "none"
            raise NetworkFileError(f"{kind} {names}: give {' and '.join(wanted)}")
    _check_width(inputs[source.name], source.width)
    _check_width(outputs[target.name], target.width)
    if STATE not in inputs:
        return ()
    shape = _shape(inputs[STATE])
    if len(shape) < 2 or not all(shape[1:]):
        raise NetworkFileError(f"{STATE}: shape {shape}; give one entry per row and fixed widths")
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
