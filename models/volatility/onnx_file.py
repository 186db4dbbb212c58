"""`volatility.onnx`: the whole ensemble in one graph, and the way back to a `Forecaster`.

Inputs: `inputs` float32[batch, features] (raw rows of `kernels.networks.features`) and `state`
float32[batch, members, 2, hidden]; outputs: `log_variance` float32[batch, horizons] and
`next_state`. One row of the batch is one asset.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from history.files import write_atomically
from history.prices import minute_of
from kernels.networks.features import FEATURES, N_FEATURES
from kernels.networks.forecast import CLIP
from kernels.networks.forward import lstm_parameters, mlp_parameters
from models.frozen import ONNXRUNTIME, NetworkFileError
from models.volatility.own import OwnForecaster
from models.volatility.predictor import Forecaster, VarianceForecaster

FILE_NAME = "volatility.onnx"
OPSET = 17
IR_VERSION = 9


class ForecasterFileError(ValueError):
    """A volatility.onnx that cannot be used; the message names file, field and remedy."""


class _Graph:
    """Nodes and initialisers in the making; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"{kind}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.add(kind, *inputs, **attributes)[0]


def export_forecaster(forecaster: VarianceForecaster, directory: str | Path) -> dict[str, Any]:
    """Write `volatility.onnx` into the directory; returns what a manifest says about it.

    That is `Forecaster.metadata`, the opset and `Forecaster.test_vectors`.
    """
    path = Path(directory) / FILE_NAME
    if isinstance(forecaster, OwnForecaster):
        write_atomically(path, forecaster.file_bytes(), durable=True)
    elif isinstance(forecaster, Forecaster):
        write_onnx(forecaster, path)
    else:
        raise TypeError(f"{type(forecaster).__name__} has no file format")
    return forecaster.metadata() | {"opset": OPSET, "test_vectors": forecaster.test_vectors()}


def load_forecaster(directory: str | Path) -> VarianceForecaster:
    """Read the forecaster of a policy folder (or of the file itself); ForecasterFileError."""
    path = Path(directory)
    return read_onnx(path if path.suffix == ".onnx" else path / FILE_NAME)


def write_onnx(forecaster: Forecaster, path: Path) -> None:
    """Write the forecaster to `path` (created under a temporary name, then renamed)."""
    graph = _Graph()
    n, hidden = N_FEATURES, forecaster.hidden
    z = graph.op("Sub", "inputs", graph.constant("mean", forecaster.scale[0]))
    z = graph.op("Mul", z, graph.constant("inverse_sd", forecaster.scale[1]))
    base = graph.op(
        "Gemm",
        z,
        graph.constant("base.slopes", forecaster.base[:n]),
        graph.constant("base.intercept", forecaster.base[n]),
    )
    low = graph.constant("clip.low", np.array(-CLIP, np.float32))
    z = graph.op("Clip", z, low, graph.constant("clip.high", np.array(CLIP, np.float32)))
    x = graph.op("Gather", z, graph.constant("recurrent", forecaster.recurrent), axis=1)
    forecasts, states = [], []
    for e in range(forecaster.members):
        parts = _split(forecaster, e)
        forecast, state = _member(graph, e, parts, z, x, hidden)
        forecasts.append(graph.op("Add", forecast, base))
        states.append(state)
    mean = graph.op("Mean", *forecasts) if len(forecasts) > 1 else forecasts[0]
    graph.nodes.append(helper.make_node("Identity", [mean], ["log_variance"]))
    graph.nodes.append(helper.make_node("Concat", states, ["next_state"], axis=1))
    shape = ["batch", forecaster.members, 2, hidden]
    horizons = len(forecaster.horizons_minutes)
    proto = helper.make_graph(
        graph.nodes,
        "volatility",
        [_tensor("inputs", ["batch", n]), _tensor("state", shape)],
        [_tensor("log_variance", ["batch", horizons]), _tensor("next_state", shape)],
        graph.initializers,
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    helper.set_model_props(model, {"forecaster": json.dumps(forecaster.metadata())})
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString(), durable=True)


def read_onnx(path: Path) -> VarianceForecaster:
    """Read a forecaster back, bit for bit; raises ForecasterFileError."""
    try:
        model = onnx.load(path)
        properties = {p.key: p.value for p in model.metadata_props}
        meta = json.loads(properties["forecaster"])
        arrays = {a.name: numpy_helper.to_array(a) for a in model.graph.initializer}
        features = meta["features"]
    except FileNotFoundError:
        raise ForecasterFileError(f"{path}: no such file; train a model first") from None
    except Exception as error:  # protobuf, JSON and key errors alike mean: another kind of file
        raise ForecasterFileError(f"{path}: not a volatility model: {error!r}") from error
    if features != list(FEATURES):
        odd = sorted(set(features) ^ set(FEATURES)) or ["(their order)"]
        raise ForecasterFileError(
            f"{path}: features differ from this version's: {', '.join(odd)}; train the model again"
        )
    if meta.get("runtime") == ONNXRUNTIME:
        return _own(path, meta)
    rows = []
    for e in range(meta["members"]):
        layers = range(len(meta["mlp_sizes"]) - 1)
        lstm = [arrays[f"member{e}.lstm.{part}"] for part in ("input", "hidden", "bias")]
        weights = [arrays[f"member{e}.mlp{k}.weight"].T for k in layers]
        biases = [arrays[f"member{e}.mlp{k}.bias"] for k in layers]
        flat = [lstm_parameters(lstm[0].T, lstm[1].T, lstm[2]), mlp_parameters(weights, biases)]
        rows.append(np.concatenate([*flat, arrays[f"member{e}.skip"].ravel()]))
    return Forecaster(
        horizons_minutes=tuple(meta["horizons_minutes"]),
        symbols=tuple(meta["symbols"]),
        bar_minutes=meta["bar_minutes"],
        trained_from=minute_of(meta["trained_from"]),
        trained_until=minute_of(meta["trained_until"]),
        scale=np.stack([arrays["mean"], arrays["inverse_sd"]]),
        base=np.vstack([arrays["base.slopes"], arrays["base.intercept"]]),
        weights=np.stack(rows),
        recurrent=arrays["recurrent"].copy(),
        sizes=np.array(meta["mlp_sizes"], np.int64),
    )


def _own(path: Path, meta: dict[str, Any]) -> OwnForecaster:
    forecaster = OwnForecaster(
        horizons_minutes=tuple(meta["horizons_minutes"]),
        symbols=tuple(meta["symbols"]),
        bar_minutes=meta["bar_minutes"],
        trained_from=minute_of(meta["trained_from"]),
        trained_until=minute_of(meta["trained_until"]),
        model=meta["model"],
        content=path.read_bytes(),
    )
    try:
        _ = forecaster.graph
    except NetworkFileError as error:
        raise ForecasterFileError(f"{path}: {error}") from error
    return forecaster


def _tensor(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _split(forecaster: Forecaster, member: int) -> dict[str, np.ndarray]:
    """The arrays of one member, cut from its flat row of `Weights.weights`."""
    row = forecaster.weights[member]
    inputs, hidden = forecaster.recurrent.size, forecaster.hidden
    sizes = [int(s) for s in forecaster.sizes]
    shapes = {
        "lstm.input": (inputs, 4 * hidden),
        "lstm.hidden": (hidden, 4 * hidden),
        "lstm.bias": (4 * hidden,),
    }
    for k in range(len(sizes) - 1):
        shapes[f"mlp{k}.weight"] = (sizes[k], sizes[k + 1])
        shapes[f"mlp{k}.bias"] = (sizes[k + 1],)
    shapes["skip"] = (N_FEATURES, sizes[-1])
    parts, at = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        parts[name] = row[at : at + size].reshape(shape)
        at += size
    return parts


def _member(
    graph: _Graph, e: int, parts: dict[str, np.ndarray], z: str, x: str, hidden: int
) -> tuple[str, str]:
    """Forecast relative to the base [batch, H] and next state [batch, 1, 2, hidden]."""
    names = {k: graph.constant(f"member{e}.{k}", v) for k, v in parts.items()}
    index = graph.constant(f"member{e}.index", np.array(e, np.int64))
    state = graph.op("Gather", "state", index, axis=1)
    zero = graph.constant(f"member{e}.h", np.array(0, np.int64))
    one = graph.constant(f"member{e}.c", np.array(1, np.int64))
    h = graph.op("Gather", state, zero, axis=1)
    c = graph.op("Gather", state, one, axis=1)
    gates = graph.op("Gemm", x, names["lstm.input"], names["lstm.bias"])
    gates = graph.op("Add", gates, graph.op("MatMul", h, names["lstm.hidden"]))
    i, f, g, o = graph.add("Split", gates, outputs=4, axis=1)
    i, f, o = (graph.op("Sigmoid", gate) for gate in (i, f, o))
    c = graph.op("Add", graph.op("Mul", f, c), graph.op("Mul", i, graph.op("Tanh", g)))
    h = graph.op("Mul", o, graph.op("Tanh", c))
    value = graph.op("Concat", z, h, axis=1)
    layers = sum(name.endswith("weight") for name in parts)
    for k in range(layers):
        value = graph.op("Gemm", value, names[f"mlp{k}.weight"], names[f"mlp{k}.bias"])
        if k < layers - 1:
            value = graph.op("Mul", value, graph.op("Sigmoid", value))
    value = graph.op("Add", value, graph.op("MatMul", z, names["skip"]))
    shape = graph.constant(f"member{e}.state_shape", np.array([-1, 1, 2, hidden], np.int64))
    return value, graph.op("Reshape", graph.op("Concat", h, c, axis=1), shape)
