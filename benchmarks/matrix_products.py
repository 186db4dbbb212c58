"""Products of matrices as the learner without memory takes them, beside numpy's own BLAS.

Checks first that both give the same up to rounding; then takes them in turn on one thread.
"""

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.harness import Measurement, check, paired_seconds
from kernels.compile import kernel
from kernels.learning.matrix_products import add_transposed_product, affine
from kernels.learning.perceptrons import ROWS

INPUTS, UNITS = 96, 64  # of a first layer
TOLERANCE = 1e-4


@kernel
def _forward(x: np.ndarray, w: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    affine(x, w, bias, out)


@kernel
def _by_weight(g: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    add_transposed_product(g, x, out)


def run(quick: bool) -> list[Measurement]:
    """A layer's activations and the gradients by its inputs and by its weight."""
    rng = np.random.default_rng(0)
    shapes = (ROWS, INPUTS), (UNITS, INPUTS), (ROWS, UNITS)
    x, weight, g = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    transposed, none = np.ascontiguousarray(weight.T), np.zeros(INPUTS, np.float32)
    outs = [np.zeros(shape, np.float32) for shape in (shapes[2], shapes[0], shapes[1])]
    theirs = [np.zeros_like(out) for out in outs]
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "forward": (
            lambda: _forward(x, transposed, none[:UNITS], outs[0]),
            lambda: np.dot(x, weight.T, out=theirs[0]),
        ),
        "gradient by inputs": (
            lambda: _forward(g, weight, none, outs[1]),
            lambda: np.dot(g, weight, out=theirs[1]),
        ),
        "gradient by weight": (
            lambda: _by_weight(g, x, outs[2]),
            lambda: np.dot(g.T, x, out=theirs[2]),
        ),
    }
    rows: list[Measurement] = []
    operations = 2.0 * ROWS * INPUTS * UNITS
    with threadpool_limits(1):
        for (name, (own, blas)), out, their in zip(pairs.items(), outs, theirs, strict=True):
            own()
            blas()
            gap = float(np.abs(out - their).max() / np.abs(their).max())
            check(gap < TOLERANCE, f"{name}: products differ by {gap:.1e} of the largest")
            seconds, blas_seconds = paired_seconds(own, blas, 0.2 if quick else 2.0)
            note = f"{ROWS} rows, {INPUTS} inputs, {UNITS} units"
            rows += [
                Measurement(name, operations / seconds / 1e9, "GFLOP/s", note),
                Measurement(f"{name} / numpy", blas_seconds / seconds, "ratio"),
            ]
    return rows
