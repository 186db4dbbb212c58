"""ONNX graphs of torch modules whose inputs and outputs have one row per market or moment."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.frozen import OPSET


class ExportError(ValueError):
    """A module that has no ONNX graph; the message says why."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[torch.device]:
    """The module as it decides: no dropout, fixed statistics, no gradients; then as it was before.

    The value is the device on which it computes.
    """
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield next((weight.device for weight in module.parameters()), torch.device("cpu"))
    finally:
        for part, training in before.items():
            part.training = training


def module_graph(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> bytes:
    """The graph of a module, traced on inputs [n, ...] by name, in the order of its arguments.

    It is valid for any n. Raises ExportError.
    """
    buffer = io.BytesIO()
    try:
        with evaluating(module) as device, warnings.catch_warnings():
            # The exporter that needs no further package calls itself legacy; torch is pinned.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(value.to(device) for value in inputs.values()),
                buffer,  # type: ignore[arg-type]
                input_names=list(inputs),
                output_names=outputs,
                dynamic_axes={name: {0: "n"} for name in (*inputs, *outputs)},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter has many types of its own
        raise ExportError(f"{type(module).__name__} has no ONNX graph: {error}") from error
    return buffer.getvalue()
