"""The policy network of a frozen policy as weights, and as the ONNX graph that holds them.

A graph is read by taking its weights, writing the graph of these weights again and comparing: what
is not exactly a graph of this version is refused, whatever else it may compute.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.frozen.folder import RETRAIN, refuse

# Opset 17 (ONNX 1.12, 2022) holds every operator used and is read by all runtimes in range.
OPSET = 17
IR_VERSION = 8

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


class Lstm(NamedTuple):
    """An LSTM cell of H units as PyTorch keeps it, gates in the order input, forget, cell, output.

    weight_input [4H, D], weight_hidden [4H, H], bias [4H] (the sum of PyTorch's two).
    """

    weight_input: NDArray[np.float32]
    weight_hidden: NDArray[np.float32]
    bias: NDArray[np.float32]


class Network(NamedTuple):
    """A tanh perceptron: (weight [out, in], bias [out]) from the input on, the last one linear."""

    layers: tuple[Layer, ...]
    lstm: Lstm | None = None
    """Reads the observation; its output is the input of the layers."""

    @property
    def units(self) -> int:
        """H, 0 without an LSTM."""
        return 0 if self.lstm is None else int(self.lstm.weight_hidden.shape[1])

    @property
    def recurrent(self) -> bool:
        """Whether it has a state."""
        return self.lstm is not None

    @property
    def inputs(self) -> int:
        """D, width of the observation."""
        first = self.layers[0][0] if self.lstm is None else self.lstm.weight_input
        return int(first.shape[1])

    @property
    def outputs(self) -> int:
        """A, number of logits."""
        return int(self.layers[-1][0].shape[0])

    def shapes(self) -> dict[str, Any]:
        """As the manifest states them."""
        hidden = [int(weight.shape[0]) for weight, _ in self.layers[:-1]]
        return {
            "observation": self.inputs,
            "lstm": self.units,
            "hidden": hidden,
            "logits": self.outputs,
        }


class _Graph:
    """Nodes and weights in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))


def policy_graph(network: Network) -> onnx.ModelProto:
    """observation float32[n, D] -> logits float32[n, A]; with an LSTM also state -> next_state.

    Both float32[n, 2, H]: h and c of each market, zeros before its first slot.
    """
    graph, source = _Graph(), "observation"
    inputs = [_tensor("observation", ["n", network.inputs])]
    outputs = [_tensor("logits", ["n", network.outputs])]
    if network.lstm is not None:
        source = _add_lstm(graph, network.lstm)
        inputs.append(_tensor("state", ["n", 2, network.units]))
        outputs.append(_tensor("next_state", ["n", 2, network.units]))
    for k, (weight, bias) in enumerate(network.layers):
        last = k == len(network.layers) - 1
        target = "logits" if last else f"affine_{k}"
        names = [graph.weight(f"weight_{k}", weight), graph.weight(f"bias_{k}", bias)]
        graph.add("Gemm", [source, *names], [target], transB=1)
        if not last:
            source = f"hidden_{k}"
            graph.add("Tanh", [target], [source])
    proto = helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.weights)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    model.producer_name = "mevrl"
    onnx.checker.check_model(model, full_check=True)
    return model


def _add_lstm(graph: _Graph, lstm: Lstm) -> str:
    """One step of the cell; the name of its output h [n, H]."""
    for k, name in enumerate(("h", "c")):
        graph.weight(f"state_{name}", np.array(k, np.int64))
        graph.add("Gather", ["state", f"state_{name}"], [name], axis=1)
    for name, values in lstm._asdict().items():
        graph.weight(f"lstm_{name}", values)
    graph.add("Gemm", ["observation", "lstm_weight_input", "lstm_bias"], ["gates_x"], transB=1)
    graph.add("Gemm", ["h", "lstm_weight_hidden", "gates_x"], ["gates"], transB=1)
    graph.add("Split", ["gates"], ["z_input", "z_forget", "z_cell", "z_output"], axis=1)
    for gate in ("input", "forget", "output"):
        graph.add("Sigmoid", [f"z_{gate}"], [gate])
    graph.add("Tanh", ["z_cell"], ["cell"])
    graph.add("Mul", ["forget", "c"], ["kept"])
    graph.add("Mul", ["input", "cell"], ["added"])
    graph.add("Add", ["kept", "added"], ["next_c"])
    graph.add("Tanh", ["next_c"], ["bounded_c"])
    graph.add("Mul", ["output", "bounded_c"], ["next_h"])
    graph.weight("state_axis", np.array([1], np.int64))
    for name in ("h", "c"):
        graph.add("Unsqueeze", [f"next_{name}", "state_axis"], [f"next_{name}_row"])
    graph.add("Concat", ["next_h_row", "next_c_row"], ["next_state"], axis=1)
    return "next_h"


def _tensor(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def read_network(content: bytes) -> Network:
    """The network whose `policy_graph` has these bytes; PolicyError for any other graph."""
    try:
        model = onnx.load_from_string(content)
        found = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        count = sum(name.startswith("weight_") for name in found)
        layers = tuple((found[f"weight_{k}"], found[f"bias_{k}"]) for k in range(count))
        lstm = None
        if "lstm_bias" in found:
            lstm = Lstm(*(found[f"lstm_{name}"] for name in Lstm._fields))
        network = Network(layers, lstm)
        check_widths(network)
        written = policy_graph(network)
        for ours, theirs in zip(written.graph.node, model.graph.node, strict=True):
            if ours != theirs:
                raise ValueError(f"node {theirs.name or theirs.op_type} is not {ours}")
        if written.graph != model.graph or written.opset_import != model.opset_import:
            raise ValueError("its inputs, outputs, weights or opset are not those of its nodes")
    except Exception as error:  # protobuf raises its own types on hostile bytes
        refuse(f"policy.onnx is not a policy network of this version: {error}", RETRAIN)
    return network


def check_widths(network: Network) -> None:
    """The kernel reads flat arrays without bounds checks: every shape must follow from the last."""
    width, units = network.inputs, network.units
    if network.lstm is not None:
        shapes = [array.shape for array in network.lstm]
        if shapes != [(4 * units, width), (4 * units, units), (4 * units,)] or not units:
            raise ValueError(f"LSTM of shapes {shapes}")
        width = units
    for weight, bias in network.layers:
        if weight.shape != (len(bias), width) or bias.shape != (len(bias),) or not weight.size:
            raise ValueError(f"layer of shapes {weight.shape}, {bias.shape} after {width} values")
        width = len(bias)
    arrays = [*(network.lstm or ()), *(a for layer in network.layers for a in layer)]
    if any(array.dtype != np.float32 for array in arrays):
        raise ValueError(f"weights of types {sorted({str(a.dtype) for a in arrays})}, not float32")
