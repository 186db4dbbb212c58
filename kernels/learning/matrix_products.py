"""Products of float32 matrices of a few hundred rows, quicker than those of a BLAS, which first
copies its operands.

Sums of some rows and COLUMNS columns stay in registers over PANEL factors. An entry adds up its
products in their order wherever it stands: a row has the same product among any others. Matrices
are C-contiguous.
"""

import numpy as np

from kernels.compile import inline, kernel, never_inline
from kernels.networks.vectors import COLUMNS, add_fused, load_columns, store_columns

PANEL = 64  # factors whose operands fit the first cache


@inline
def _six_rows(
    a: np.ndarray,
    at: int,
    step: int,
    stride: int,
    b: np.ndarray,
    below: int,
    n: int,
    factors: int,
    start: np.ndarray,
    begin: int,
    apart: int,
    out: np.ndarray,
    to: int,
    count: int,
) -> None:
    s0, s1 = load_columns(start, begin, count), load_columns(start, begin + apart, count)
    s2 = load_columns(start, begin + 2 * apart, count)
    s3 = load_columns(start, begin + 3 * apart, count)
    s4 = load_columns(start, begin + 4 * apart, count)
    s5 = load_columns(start, begin + 5 * apart, count)
    for i in range(factors):
        row, entry = load_columns(b, below + i * n, count), at + i * step
        s0, s1 = add_fused(s0, row, a, entry), add_fused(s1, row, a, entry + stride)
        s2 = add_fused(s2, row, a, entry + 2 * stride)
        s3 = add_fused(s3, row, a, entry + 3 * stride)
        s4 = add_fused(s4, row, a, entry + 4 * stride)
        s5 = add_fused(s5, row, a, entry + 5 * stride)
    store_columns(out, to, count, s0)
    store_columns(out, to + n, count, s1)
    store_columns(out, to + 2 * n, count, s2)
    store_columns(out, to + 3 * n, count, s3)
    store_columns(out, to + 4 * n, count, s4)
    store_columns(out, to + 5 * n, count, s5)


@inline
def _four_rows(
    a: np.ndarray,
    at: int,
    step: int,
    stride: int,
    b: np.ndarray,
    below: int,
    n: int,
    factors: int,
    start: np.ndarray,
    begin: int,
    apart: int,
    out: np.ndarray,
    to: int,
    count: int,
) -> None:
    s0, s1 = load_columns(start, begin, count), load_columns(start, begin + apart, count)
    s2 = load_columns(start, begin + 2 * apart, count)
    s3 = load_columns(start, begin + 3 * apart, count)
    for i in range(factors):
        row, entry = load_columns(b, below + i * n, count), at + i * step
        s0, s1 = add_fused(s0, row, a, entry), add_fused(s1, row, a, entry + stride)
        s2 = add_fused(s2, row, a, entry + 2 * stride)
        s3 = add_fused(s3, row, a, entry + 3 * stride)
    store_columns(out, to, count, s0)
    store_columns(out, to + n, count, s1)
    store_columns(out, to + 2 * n, count, s2)
    store_columns(out, to + 3 * n, count, s3)


@inline
def _one_row(
    a: np.ndarray,
    at: int,
    step: int,
    b: np.ndarray,
    below: int,
    n: int,
    factors: int,
    start: np.ndarray,
    begin: int,
    out: np.ndarray,
    to: int,
    count: int,
) -> None:
    sums = load_columns(start, begin, count)
    for i in range(factors):
        sums = add_fused(sums, load_columns(b, below + i * n, count), a, at + i * step)
    store_columns(out, to, count, sums)


@inline
def _strip(
    a: np.ndarray,
    at: int,
    step: int,
    stride: int,
    b: np.ndarray,
    below: int,
    n: int,
    factors: int,
    start: np.ndarray,
    apart: int,
    out: np.ndarray,
    rows: int,
    column: int,
    count: int,
) -> None:
    """Some columns of all rows."""
    below += column
    row = 0
    while row < rows:
        left, here = rows - row, at + row * stride
        begin, to = row * apart + column, row * n + column
        if left >= 6 and left != 8:
            _six_rows(
                a, here, step, stride, b, below, n, factors, start, begin, apart, out, to, count
            )
            row += 6
        elif left >= 4:
            _four_rows(
                a, here, step, stride, b, below, n, factors, start, begin, apart, out, to, count
            )
            row += 4
        else:
            _one_row(a, here, step, b, below, n, factors, start, begin, out, to, count)
            row += 1


@kernel
def _product(
    a: np.ndarray,
    step: int,
    stride: int,
    factors: int,
    b: np.ndarray,
    n: int,
    start: np.ndarray,
    apart: int,
    out: np.ndarray,
    rows: int,
) -> None:
    """out[r, c] = start[r * apart + c] + the sum over i of a[i * step + r * stride] * b[i, c].

    All flat; i below `factors`, of which there may be none.
    """
    never_inline()
    for first in range(0, max(factors, 1), PANEL):
        some, at, below = min(PANEL, factors - first), first * step, first * n
        if first > 0:
            start, apart = out, n
        column = 0
        while column + COLUMNS <= n:
            _strip(a, at, step, stride, b, below, n, some, start, apart, out, rows, column, COLUMNS)
            column += COLUMNS
        if column < n:
            left = n - column
            _strip(a, at, step, stride, b, below, n, some, start, apart, out, rows, column, left)


@inline
def affine(x: np.ndarray, w: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """out float32[m, n] = x float32[m, k] @ w float32[k, n] + bias float32[n]."""
    k, n = w.shape
    _product(x.reshape(-1), 1, k, k, w.reshape(-1), n, bias, 0, out.reshape(-1), len(x))


@inline
def add_transposed_product(g: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out float32[f, k] += g.T @ x of g float32[m, f] and x float32[m, k]."""
    f, k = out.shape
    total = out.reshape(-1)
    _product(g.reshape(-1), f, 1, len(x), x.reshape(-1), k, total, k, total, f)
