"""Double-double arithmetic against exact fractions."""

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compile import inline, kernel
from kernels.numbers.double_double import (
    DoubleDouble,
    dd_add,
    dd_divide,
    dd_from_u128,
    dd_multiply,
    dd_sqrt,
)
from kernels.numbers.u256 import Limbs, load128, to_limbs

RELATIVE_ERROR = Fraction(1, 2**102)


@inline
def _store(out: Any, row: int, i: int, value: DoubleDouble) -> None:
    out[row, i, 0] = value[0]
    out[row, i, 1] = value[1]


@kernel
def _operate(x: Any, y: Any, a: Limbs, out: Any) -> None:
    for i in range(x.shape[0]):
        p = (x[i, 0], x[i, 1])
        q = (y[i, 0], y[i, 1])
        _store(out, 0, i, dd_add(p, q))
        _store(out, 1, i, dd_multiply(p, q))
        _store(out, 2, i, dd_divide(p, q))
        _store(out, 3, i, dd_sqrt((abs(p[0]), p[1] if p[0] > 0.0 else -p[1])))
        _store(out, 4, i, dd_from_u128(load128(a, i)))


def numbers() -> st.SearchStrategy[tuple[float, float]]:
    """Non-zero double-doubles: a float64 and something below half its last place."""
    high = st.floats(1e-30, 1e30) | st.floats(-1e30, -1e-30) | st.floats(1 - 1e-9, 1 + 1e-9)
    return st.tuples(high, st.floats(-1, 1)).map(
        lambda pair: (pair[0], pair[1] * float(np.spacing(abs(pair[0]))) * 0.49)
    )


@settings(max_examples=60)
@given(
    st.lists(st.tuples(numbers(), numbers(), st.integers(0, 2**128 - 1)), min_size=1, max_size=15)
)
def test_operations_keep_more_than_a_hundred_bits(cases: list[tuple]) -> None:
    x = np.array([case[0] for case in cases])
    y = np.array([case[1] for case in cases])
    out = np.zeros((5, len(cases), 2))
    _operate(x, y, to_limbs([case[2] for case in cases], 2), out)
    value = [[Fraction(high) + Fraction(low) for high, low in row] for row in out.tolist()]
    for i, (p, q, integer) in enumerate(cases):
        a, b = sum(map(Fraction, p)), sum(map(Fraction, q))
        for result, exact in ((0, a + b), (1, a * b), (2, a / b), (4, Fraction(integer))):
            assert abs(value[result][i] - exact) <= abs(exact) * RELATIVE_ERROR, (result, p, q)
        assert abs(value[3][i] ** 2 - abs(a)) <= 2 * abs(a) * RELATIVE_ERROR
