"""Products of float32 matrices of a few hundred rows, quicker than those of a BLAS, which first
copies its operands.

Sums of some rows and COLUMNS columns stay in registers over PANEL factors. An entry adds up its
products in their order wherever it stands: a row has the same product among any others. Matrices
are C-contiguous.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.networks.vectors import COLUMNS, add_fused, load_columns, store_columns

PANEL = 64  # factors whose operands fit the first cache


class Left(NamedTuple):
    """The left matrix, flat: row r has its factor i at i * step + r * stride."""

    entries: np.ndarray
    step: int
    stride: int


class Right(NamedTuple):
    """The right matrix, flat, of n columns: factor i has its row at i * n."""

    entries: np.ndarray
    n: int


class Start(NamedTuple):
    """What the sums of row r begin with, flat, at r * apart."""

    entries: np.ndarray
    apart: int


class Tile(NamedTuple):
    """Where a few rows and columns lie: in the left and right matrix, in the start and the sums."""

    at: int
    below: int
    begin: int
    to: int
    count: int
    """Columns."""


@inline
def _six_rows(
    left: Left, right: Right, start: Start, out: np.ndarray, tile: Tile, factors: int
) -> None:
    a, step, stride = left.entries, left.step, left.stride
    b, n, count = right.entries, right.n, tile.count
    first, begin, apart = start.entries, tile.begin, start.apart
    s0, s1 = load_columns(first, begin, count), load_columns(first, begin + apart, count)
    s2 = load_columns(first, begin + 2 * apart, count)
    s3 = load_columns(first, begin + 3 * apart, count)
    s4 = load_columns(first, begin + 4 * apart, count)
    s5 = load_columns(first, begin + 5 * apart, count)
    for i in range(factors):
        row, entry = load_columns(b, tile.below + i * n, count), tile.at + i * step
        s0, s1 = add_fused(s0, row, a, entry), add_fused(s1, row, a, entry + stride)
        s2 = add_fused(s2, row, a, entry + 2 * stride)
        s3 = add_fused(s3, row, a, entry + 3 * stride)
        s4 = add_fused(s4, row, a, entry + 4 * stride)
        s5 = add_fused(s5, row, a, entry + 5 * stride)
    to = tile.to
    store_columns(out, to, count, s0)
    store_columns(out, to + n, count, s1)
    store_columns(out, to + 2 * n, count, s2)
    store_columns(out, to + 3 * n, count, s3)
    store_columns(out, to + 4 * n, count, s4)
    store_columns(out, to + 5 * n, count, s5)


@inline
def _four_rows(
    left: Left, right: Right, start: Start, out: np.ndarray, tile: Tile, factors: int
) -> None:
    a, step, stride = left.entries, left.step, left.stride
    b, n, count = right.entries, right.n, tile.count
    first, begin, apart = start.entries, tile.begin, start.apart
    s0, s1 = load_columns(first, begin, count), load_columns(first, begin + apart, count)
    s2 = load_columns(first, begin + 2 * apart, count)
    s3 = load_columns(first, begin + 3 * apart, count)
    for i in range(factors):
        row, entry = load_columns(b, tile.below + i * n, count), tile.at + i * step
        s0, s1 = add_fused(s0, row, a, entry), add_fused(s1, row, a, entry + stride)
        s2 = add_fused(s2, row, a, entry + 2 * stride)
        s3 = add_fused(s3, row, a, entry + 3 * stride)
    to = tile.to
    store_columns(out, to, count, s0)
    store_columns(out, to + n, count, s1)
    store_columns(out, to + 2 * n, count, s2)
    store_columns(out, to + 3 * n, count, s3)


@inline
def _one_row(
    left: Left, right: Right, start: Start, out: np.ndarray, tile: Tile, factors: int
) -> None:
    count, n = tile.count, right.n
    sums = load_columns(start.entries, tile.begin, count)
    for i in range(factors):
        row = load_columns(right.entries, tile.below + i * n, count)
        sums = add_fused(sums, row, left.entries, tile.at + i * left.step)
    store_columns(out, tile.to, count, sums)


@inline
def _strip(
    left: Left,
    right: Right,
    start: Start,
    out: np.ndarray,
    rows: int,
    corner: Tile,
    factors: int,
) -> None:
    """The columns of all rows below a corner."""
    row = 0
    while row < rows:
        rest = rows - row
        tile = Tile(
            corner.at + row * left.stride,
            corner.below,
            corner.begin + row * start.apart,
            corner.to + row * right.n,
            corner.count,
        )
        if rest >= 6 and rest != 8:
            _six_rows(left, right, start, out, tile, factors)
            row += 6
        elif rest >= 4:
            _four_rows(left, right, start, out, tile, factors)
            row += 4
        else:
            _one_row(left, right, start, out, tile, factors)
            row += 1


@lean_kernel
def _product(
    left: Left, factors: int, right: Right, start: Start, out: np.ndarray, rows: int
) -> None:
    """out[r, c] = start[r, c] + the sum over `factors`, of which there may be none, of
    left[r, i] * right[i, c]; flat."""
    never_inline()
    n = right.n
    for first in range(0, max(factors, 1), PANEL):
        some, at, below = min(PANEL, factors - first), first * left.step, first * n
        begins = start if first == 0 else Start(out, n)
        column = 0
        while column + COLUMNS <= n:
            corner = Tile(at, below + column, column, column, COLUMNS)
            _strip(left, right, begins, out, rows, corner, some)
            column += COLUMNS
        if column < n:
            corner = Tile(at, below + column, column, column, n - column)
            _strip(left, right, begins, out, rows, corner, some)


@inline
def affine(x: np.ndarray, w: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """out float32[m, n] = x float32[m, k] @ w float32[k, n] + bias float32[n]."""
    k, n = w.shape
    left, right = Left(x.reshape(-1), 1, k), Right(w.reshape(-1), n)
    _product(left, k, right, Start(bias, 0), out.reshape(-1), len(x))


@inline
def add_transposed_product(g: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out float32[f, k] += g.T @ x of g float32[m, f] and x float32[m, k]."""
    f, k = out.shape
    total = out.reshape(-1)
    left, right = Left(g.reshape(-1), f, 1), Right(x.reshape(-1), k)
    _product(left, len(x), right, Start(total, k), total, f)
