"""Loads and runs a frozen policy and its forecaster without torch: the folder of
`models.policy.export`.

Everything is checked before the first decision: file hashes, observation fields, actions, shapes,
and that the compiled forward passes reproduce onnxruntime on recorded inputs.
"""

from models.frozen.folder import (
    DECODE,
    FORMAT,
    HORIZONS_MINUTES,
    KERNEL,
    ONNXRUNTIME,
    TOLERANCE,
    PolicyError,
    kernel_contract,
)
from models.frozen.forecaster import FrozenForecaster, load_forecaster
from models.frozen.network import OPSET, Layer, Lstm, Network, policy_graph, read_network
from models.frozen.onnx_network import LOGITS, OBSERVATION, OnnxNetwork
from models.frozen.policy import (
    FrozenPolicy,
    Player,
    compile_network,
    load,
    recurrent_contract,
    run_onnx,
)
from models.frozen.row_graph import (
    NEXT_STATE,
    STATE,
    NetworkFileError,
    Port,
    RowGraph,
    named_graph,
)

__all__ = [
    "DECODE",
    "FORMAT",
    "HORIZONS_MINUTES",
    "KERNEL",
    "LOGITS",
    "NEXT_STATE",
    "OBSERVATION",
    "ONNXRUNTIME",
    "OPSET",
    "STATE",
    "TOLERANCE",
    "FrozenForecaster",
    "FrozenPolicy",
    "Layer",
    "Lstm",
    "Network",
    "NetworkFileError",
    "OnnxNetwork",
    "Player",
    "PolicyError",
    "Port",
    "RowGraph",
    "compile_network",
    "kernel_contract",
    "load",
    "load_forecaster",
    "named_graph",
    "policy_graph",
    "read_network",
    "recurrent_contract",
    "run_onnx",
]
