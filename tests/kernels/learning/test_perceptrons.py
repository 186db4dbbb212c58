"""Products of matrices are exact up to rounding, those of no factors and of no rows too."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.learning.perceptrons import add_transposed_product, affine

Matrix = NDArray[np.float32]

SIZES = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 133]))
WIDTHS = st.one_of(st.integers(1, 40), st.sampled_from([16, 64, 83]))
GUARD = 16  # entries behind the result, which stay as they are


def some(rng: np.random.Generator, *shape: int) -> Matrix:
    return rng.normal(size=shape).astype(np.float32)


def assert_close(found: Matrix, exact: NDArray[np.float64], terms: NDArray[np.float64]) -> None:
    """Within the bound of a float32 sum of products whose absolute values add up to `terms`."""
    assert (np.abs(found - exact) <= 2.0**-24 * 400 * terms).all()


@given(m=SIZES, k=SIZES, n=WIDTHS, seed=st.integers(0, 1 << 30))
def test_products_are_right(m: int, k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, bias = some(rng, m, k), some(rng, k, n), some(rng, n)
    memory = np.full(m * n + GUARD, 7.0, np.float32)
    out = memory[: m * n].reshape(m, n)
    affine(x, w, bias, out)
    wide = x.astype(np.float64), w.astype(np.float64)
    assert_close(out, wide[0] @ wide[1] + bias, np.abs(wide[0]) @ np.abs(wide[1]) + np.abs(bias))
    assert (memory[m * n :] == 7.0).all()


@given(m=SIZES, k=WIDTHS, f=SIZES, seed=st.integers(0, 1 << 30))
def test_transposed_products_are_added(m: int, k: int, f: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g, x, start = some(rng, m, f), some(rng, m, k), some(rng, f, k)
    memory = np.full(f * k + GUARD, 7.0, np.float32)
    out = memory[: f * k].reshape(f, k)
    out[:] = start
    add_transposed_product(g, x, out)
    wide = g.astype(np.float64), x.astype(np.float64)
    terms = np.abs(wide[0]).T @ np.abs(wide[1]) + np.abs(start)
    assert_close(out, wide[0].T @ wide[1] + start, terms)
    assert (memory[f * k :] == 7.0).all()
