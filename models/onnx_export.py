"""ONNX graphs of torch modules of one input and one output."""

import io
import warnings

import torch
from torch import Tensor, nn

from models.frozen import OPSET


class ExportError(ValueError):
    """A module that has no ONNX graph; the message says why."""


def module_graph(module: nn.Module, rows: Tensor, input_name: str, output_name: str) -> bytes:
    """The graph of a module, traced on rows [n, D] and valid for any n. Raises ExportError."""
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The exporter that needs no further package calls itself legacy; torch is pinned.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (rows,),
                buffer,  # type: ignore[arg-type]
                input_names=[input_name],
                output_names=[output_name],
                dynamic_axes={input_name: {0: "n"}, output_name: {0: "n"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter has many types of its own
        raise ExportError(f"{type(module).__name__} has no ONNX graph: {error}") from error
    return buffer.getvalue()
