"""One step of the frozen HAR-LSTM volatility forecast: standardise, base, LSTM, perceptron, mean.

ln h = base(z) + skip(clip z) + MLP([clip z, LSTM state]), averaged over the ensemble.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.checked_arrays import ArrayError, check_array, check_finite
from kernels.compile import lean_kernel
from kernels.networks.forward import SILU, affine, lstm_step, mlp_forward, mlp_size

CLIP = 6.0  # standard deviations; beyond it only the linear base extrapolates
_LINE = 32  # float32 in two cache lines


class Weights(NamedTuple):
    """The frozen ensemble: n inputs, H horizons, `members` networks of one shape."""

    scale: NDArray[np.float32]  # [2, n] mean, 1 / standard deviation
    base: NDArray[np.float32]  # [n + 1, H] on standardised inputs, intercept last
    weights: NDArray[np.float32]  # [members, .] each row LSTM, MLP and skip [n, H]
    recurrent: NDArray[np.int64]  # the inputs that the LSTM sees
    sizes: NDArray[np.int64]  # layers of the MLP, sizes[0] = n + hidden


@lean_kernel
def forecast_step(
    ensemble: Weights, inputs: np.ndarray, state: np.ndarray, scratch: np.ndarray, out: np.ndarray
) -> None:
    """Advance the recurrent state by one origin and write the log variance forecasts.

    inputs float64[n]; state float32[members, 2, hidden], replaced; scratch float32 from
    `new_scratch`; out float32[members + 1, H]: each member, then their mean.
    """
    scale, base, weights, recurrent, sizes = ensemble
    n = inputs.size
    members = weights.shape[0]
    hidden = state.shape[2]
    horizons = out.shape[1]
    clip = np.float32(CLIP)
    # The layers come first: they stay aligned, and stores across cache lines cost a third more.
    layers = scratch.size - n - hidden - recurrent.size
    rest = scratch[:layers]
    z = scratch[layers : layers + n + hidden]
    x = scratch[layers + n + hidden :]
    mean = out[members]
    for i in range(n):
        z[i] = (np.float32(inputs[i]) - scale[0, i]) * scale[1, i]
    affine(z[:n], base.reshape(base.size), base[n], mean)
    for i in range(n):
        z[i] = min(max(z[i], -clip), clip)
    for i in range(recurrent.size):
        x[i] = z[recurrent[i]]
    n_lstm = (recurrent.size + hidden + 1) * 4 * hidden
    n_skip = n * horizons
    for e in range(members):
        lstm_step(x, weights[e, :n_lstm], state[e, 0], state[e, 1], rest)
        for i in range(hidden):
            z[n + i] = state[e, 0, i]
        mlp = weights[e, n_lstm : weights.shape[1] - n_skip]
        mlp_forward(z, mlp, sizes, SILU, rest, out[e])
        affine(z[:n], weights[e, weights.shape[1] - n_skip :], out[e], out[e])
        for j in range(horizons):
            out[e, j] += mean[j]
    for j in range(horizons):
        total = np.float32(0.0)
        for e in range(members):
            total += out[e, j]
        mean[j] = total / np.float32(members)


@lean_kernel
def forecast_history(
    ensemble: Weights,
    inputs: np.ndarray,
    restart: np.ndarray,
    state: np.ndarray,
    scratch: np.ndarray,
    out: np.ndarray,
) -> None:
    """`forecast_step` along inputs float64[t, n] into out float32[t, members + 1, H].

    The state is set to zero where restart (bool[t]) is true: the first origin after a gap.
    """
    for t in range(inputs.shape[0]):
        if restart[t]:
            for e in range(state.shape[0]):
                for i in range(state.shape[2]):
                    state[e, 0, i] = np.float32(0.0)
                    state[e, 1, i] = np.float32(0.0)
        forecast_step(ensemble, inputs[t], state, scratch, out[t])


def check_weights(ensemble: Weights) -> None:
    """Refuse arrays that `forecast_step` would read beyond; ArrayError names the array.

    Lengths follow from `scale` float32[2, n], the base's columns and `sizes`; see `Weights`.
    """
    scale, base, weights, recurrent, sizes = ensemble
    n, horizons = np.shape(scale)[-1], np.shape(base)[-1]
    check_array("sizes", sizes, (None,), np.int64, 1, 1 << 20)
    hidden = int(sizes[0]) - n if sizes.size > 1 else 0
    if hidden < 1 or int(sizes[-1]) != horizons:
        raise ArrayError(
            f"sizes is {sizes.tolist()}: give {n} inputs plus the recurrent state, hidden layers, "
            f"then {horizons} horizons"
        )
    check_finite("scale", scale, (2, n), np.float32)
    check_finite("base", base, (n + 1, horizons), np.float32)
    check_array("recurrent", recurrent, (None,), np.int64, 0, n - 1)
    lstm = (recurrent.size + hidden + 1) * 4 * hidden
    row = lstm + mlp_size(sizes) + n * horizons
    check_finite("weights", weights, (None, row), np.float32)
    if not recurrent.size or not len(weights):
        raise ArrayError(f"recurrent {recurrent.size}, members {len(weights)}: give at least one")


def new_scratch(n_inputs: int, n_recurrent: int, hidden: int, sizes: np.ndarray) -> np.ndarray:
    """The scratch array of `forecast_step`, float32, aligned to a cache line."""
    layers = max(4 * hidden, 2 * int(sizes.max()))
    layers += -layers % _LINE  # both halves of it start on a cache line
    size = layers + n_inputs + hidden + n_recurrent
    block = np.empty(size + _LINE, np.float32)
    skip = -(block.ctypes.data // block.itemsize) % _LINE
    return block[skip : skip + size]
