"""Wide integers against Python's own, on random and edge values; no input may kill the process."""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError

from kernels.compile import inline, kernel
from kernels.numbers.u256 import (
    DIVIDER,
    Limbs,
    divmod256,
    divmod512,
    from_float,
    from_limbs,
    leading_zeros,
    limb,
    load128,
    load256,
    low64,
    make256,
    shift_right_arithmetic,
    sign_extend,
    store128,
    store256,
    to_float,
    to_limbs,
    u128,
    u256,
    u512,
)

ROOT = Path(__file__).resolve().parents[3]
MODULUS = 1 << 256
EDGE_LIMBS = (0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)


def wide(bits: int) -> st.SearchStrategy[int]:
    """Integers of every length up to `bits`, and integers made of awkward limbs."""
    limbs = st.sampled_from(EDGE_LIMBS) | st.integers(0, 2**64 - 1)
    composed = st.lists(limbs, min_size=bits // 64, max_size=bits // 64).map(
        lambda words: sum(word << 64 * index for index, word in enumerate(words))
    )
    sized = st.integers(0, bits).flatmap(lambda width: st.integers(0, (1 << width) - 1))
    return composed | sized | st.integers(0, bits).map(lambda width: (1 << width) - 1)


def rows(*columns: st.SearchStrategy[int]) -> st.SearchStrategy[list[tuple[int, ...]]]:
    """Many cases per example: the call costs more than a case."""
    return st.lists(st.tuples(*columns), min_size=1, max_size=60)


@kernel
def _arithmetic(a: Limbs, b: Limbs, out: Any) -> None:
    for i in range(a.shape[0]):
        x = load256(a, i)
        y = load256(b, i)
        store256(out[0], i, x + y)
        store256(out[1], i, x - y)
        store256(out[2], i, x * y)
        store256(out[3], i, x & y)
        store256(out[4], i, x | y)
        store256(out[5], i, x ^ y)
        store256(out[6], i, ~x)
        store256(out[7], i, -x)
        z = x
        z += y
        z *= u128(y)
        z -= 1
        z ^= low64(x)
        z |= limb(x, 3)
        z <<= 3
        z >>= 2
        store256(out[8], i, z)


ARITHMETIC: tuple[Callable[[int, int], int], ...] = (
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x & y,
    lambda x, y: x | y,
    lambda x, y: x ^ y,
    lambda x, y: ~x,
    lambda x, y: -x,
    lambda x, y: (
        (((((x + y) * (y % 2**128) - 1) % MODULUS) ^ (x % 2**64) | (x >> 192)) << 3) % MODULUS >> 2
    ),
)


@settings(max_examples=60)
@given(rows(wide(256), wide(256)))
def test_arithmetic_wraps_like_the_evm(cases: list[tuple[int, int]]) -> None:
    a, b = (to_limbs(column, 4) for column in zip(*cases, strict=True))
    out = np.zeros((len(ARITHMETIC), len(cases), 4), dtype=np.uint64)
    _arithmetic(a, b, out)
    for row, operation in zip(out, ARITHMETIC, strict=True):
        assert from_limbs(row) == [operation(x, y) % MODULUS for x, y in cases]


@kernel
def _compare(a: Limbs, b: Limbs, out: Any) -> None:
    for i in range(a.shape[0]):
        x = load256(a, i)
        y = load256(b, i)
        out[0, i] = x < y
        out[1, i] = x <= y
        out[2, i] = x > y
        out[3, i] = x >= y
        out[4, i] = x == y
        out[5, i] = x != y
        out[6, i] = u128(x) < u512(y)
        out[7, i] = x > 9


@settings(max_examples=30)
@given(rows(wide(256), wide(256), st.booleans()))
def test_comparisons_are_unsigned(cases: list[tuple[int, int, bool]]) -> None:
    pairs = [(x, x if same else y) for x, y, same in cases]
    a, b = (to_limbs(column, 4) for column in zip(*pairs, strict=True))
    out = np.zeros((8, len(pairs)), dtype=np.bool_)
    _compare(a, b, out)
    for i, (x, y) in enumerate(pairs):
        expected = [x < y, x <= y, x > y, x >= y, x == y, x != y, x % 2**128 < y, x > 9]
        assert out[:, i].tolist() == expected


@kernel
def _shift(a: Limbs, counts: Any, out: Any, words: Any) -> None:
    for i in range(a.shape[0]):
        x = load256(a, i)
        count = counts[i]
        store256(out[0], i, x << count)
        store256(out[1], i, x >> count)
        store256(out[2], i, shift_right_arithmetic(x, count))
        store128(out[3], i, u128(x) << count)
        words[0, i] = leading_zeros(x)
        words[1, i] = leading_zeros(u128(x))
        words[2, i] = leading_zeros(low64(x))
        words[3, i] = limb(x, count)


@settings(max_examples=60)
@given(rows(wide(256), st.integers(0, 520) | st.integers(2**58 - 1, 2**58 + 1) | st.just(2**63)))
def test_shifts_of_any_count_are_defined(cases: list[tuple[int, int]]) -> None:
    values, counts = zip(*cases, strict=True)
    out = np.zeros((4, len(cases), 4), dtype=np.uint64)
    words = np.zeros((4, len(cases)), dtype=np.uint64)
    _shift(to_limbs(values, 4), np.array(counts, dtype=np.uint64), out, words)
    for i, (x, count) in enumerate(cases):
        few = min(count, 600)
        signed = x - MODULUS if x >> 255 else x
        expected = [
            (x << few) % MODULUS,
            x >> few,
            (signed >> few) % MODULUS,
            ((x % 2**128) << few) % 2**128,
        ]
        assert [from_limbs(out[k, i : i + 1])[0] for k in range(4)] == expected
        zeros = [
            256 - x.bit_length(),
            128 - (x % 2**128).bit_length(),
            64 - (x % 2**64).bit_length(),
        ]
        assert words[:3, i].tolist() == zeros
        assert int(words[3, i]) == ((x >> 64 * few) % 2**64 if count < 4 else 0)


@kernel
def _negative_count(out: Limbs) -> None:
    count = np.int64(-1)
    store256(out, 0, u256(7) << count)
    store256(out, 1, shift_right_arithmetic(~u256(7), count))


def test_negative_shift_count_shifts_everything_out() -> None:
    out = np.full((2, 4), 5, dtype=np.uint64)
    _negative_count(out)
    assert from_limbs(out) == [0, MODULUS - 1]


@kernel
def _divide256(a: Limbs, b: Limbs, quotient: Limbs, remainder: Limbs) -> None:
    for i in range(a.shape[0]):
        q, r = divmod256(load256(a, i), load256(b, i))
        store256(quotient, i, q)
        store256(remainder, i, r)


@kernel
def _divide512(high: Limbs, a: Limbs, b: Limbs, quotient: Limbs, remainder: Limbs) -> None:
    for i in range(a.shape[0]):
        dividend = (u512(load256(high, i)) << 256) | load256(a, i)
        q, r = divmod512(dividend, load256(b, i))
        store256(quotient, i, q)
        store256(remainder, i, r)


def _check_divisions(cases: list[tuple[int, ...]]) -> None:
    highs, lows, divisors = zip(*cases, strict=True)
    high, low, divisor = (to_limbs(column, 4) for column in (highs, lows, divisors))
    quotient, remainder = np.zeros_like(low), np.zeros_like(low)
    _divide256(low, divisor, quotient, remainder)
    assert from_limbs(quotient) == [x // d if d else 0 for _, x, d in cases]
    assert from_limbs(remainder) == [x % d if d else x for _, x, d in cases]
    _divide512(high, low, divisor, quotient, remainder)
    for (h, x, d), q, r in zip(cases, from_limbs(quotient), from_limbs(remainder), strict=True):
        fits = h < d
        assert (q, r) == (divmod((h << 256) | x, d) if fits else (MODULUS - 1, 0)), (h, x, d)


@settings(max_examples=100)
@given(rows(wide(256), wide(256), wide(256), st.booleans()))
def test_division_equals_python_for_every_input(cases: list[tuple[int, int, int, bool]]) -> None:
    # Reducing the high half modulo the divisor makes quotients of full length that still fit.
    _check_divisions([(h % d if d and fit else h, x, d) for h, x, d, fit in cases])


def _seeded_divisions(count: int) -> list[tuple[int, ...]]:
    """Quotient digits at their limits: dividends just around q * d for awkward q and d."""
    rng = np.random.default_rng(20)
    edges = np.array(EDGE_LIMBS, dtype=np.uint64)

    def draw(limbs: int) -> int:
        words = np.where(
            rng.random(limbs) < 0.6,
            rng.choice(edges, limbs),
            rng.integers(0, 2**64, limbs, dtype=np.uint64),
        )
        return int.from_bytes(words.tobytes(), "little") >> int(rng.integers(0, 64 * limbs))

    cases = []
    for _ in range(count):
        divisor = max(1, draw(4))
        product = (
            divisor * draw(4) + int(rng.integers(-2, 3)) + int(rng.integers(0, 2)) * (divisor - 1)
        )
        product = max(0, min(product, (divisor << 256) - 1))
        cases.append((product >> 256, product % MODULUS, divisor))
    return cases


def _edge_divisions() -> list[tuple[int, ...]]:
    """Every mix of awkward limbs: overflowing quotients, zero divisors, divisors of 1-4 limbs."""
    shapes = [(1, 1), (2, 3), (4, 2), (4, 4)]  # limbs of the dividend's halves, of the divisor
    return [
        (
            high << 64 * (dividend_limbs - 1) | edge,
            edge << 192 | low,
            divisor << 64 * (divisor_limbs - 1),
        )
        for dividend_limbs, divisor_limbs in shapes
        for high, low, divisor, edge in itertools.product(
            EDGE_LIMBS, EDGE_LIMBS, EDGE_LIMBS, (0, 2**64 - 1)
        )
    ]


def test_no_edge_kills_the_process() -> None:
    _check_divisions(_edge_divisions())


def test_division_around_exact_multiples() -> None:
    _check_divisions(_seeded_divisions(10_000))


@pytest.mark.exhaustive
def test_division_around_exact_multiples_exhaustively() -> None:
    _check_divisions(_seeded_divisions(1_000_000))


@kernel
def _floats(a: Limbs, number: Any, integer: Limbs) -> None:
    for i in range(a.shape[0]):
        number[i] = to_float(load256(a, i))
        store256(integer, i, from_float(number[i]))


@settings(max_examples=60)
@given(rows(wide(256), st.integers(-1, 1)))
def test_float_conversion_is_correctly_rounded(cases: list[tuple[int, int]]) -> None:
    # Half-way cases: 54 significant bits ending in 1, give or take one in the last place.
    values = [min(MODULUS - 1, abs(x + step)) for x, step in cases]
    values += [((x >> 203 | 1) << 60) + step + 1 for x, step in cases]
    numbers = np.zeros(len(values))
    integers = np.zeros((len(values), 4), dtype=np.uint64)
    _floats(to_limbs(values, 4), numbers, integers)
    assert numbers.tolist() == [float(value) for value in values]
    assert from_limbs(integers) == [min(int(number), MODULUS - 1) for number in numbers.tolist()]


@kernel
def _from_floats(numbers: Any, integers: Limbs) -> None:
    for i in range(numbers.shape[0]):
        store256(integers, i, from_float(numbers[i]))


def test_unrepresentable_floats_saturate() -> None:
    numbers = np.array([math.nan, -math.inf, -3.0, 0.99, 1.99, 2.0**256, math.inf, 2.0**255])
    integers = np.zeros((len(numbers), 4), dtype=np.uint64)
    _from_floats(numbers, integers)
    top = MODULUS - 1
    assert from_limbs(integers) == [0, 0, 0, 0, 1, top, top, 2**255]


@kernel
def _extend_signs(numbers: Any, a: Limbs, out: Any) -> None:
    for i in range(numbers.shape[0]):
        store256(out[0], i, sign_extend(numbers[i]))
        store256(out[1], i, sign_extend(load128(a, i)))


def test_sign_extension() -> None:
    numbers = np.array([0, 1, -1, 2**63 - 1, -(2**63)], dtype=np.int64)
    wide_numbers = [0, 5, -5, 2**127 - 1, -(2**127)]
    out = np.zeros((2, 5, 4), dtype=np.uint64)
    _extend_signs(numbers, to_limbs([x % 2**128 for x in wide_numbers], 2), out)
    assert from_limbs(out[0]) == [int(x) % MODULUS for x in numbers]
    assert from_limbs(out[1]) == [x % MODULUS for x in wide_numbers]


def test_signed_operands_do_not_compile() -> None:
    """uint64 + literal is an int64 in Numba: extending its sign would forge amounts near 2^256."""

    @inline
    def convert(amount: np.uint64) -> np.uint64:
        return low64(u256(amount + 1))

    @inline
    def add(amount: np.uint64) -> np.uint64:
        return low64(u256(amount) + (amount + 1))

    @inline
    def negative_literal(amount: np.uint64) -> np.uint64:
        return low64(u256(-1))

    @inline
    def build(amount: np.uint64) -> np.uint64:
        return low64(make256(amount, amount, amount, amount + 1))

    for refused in (convert, add, negative_literal, build):
        with pytest.raises(TypingError):
            refused(np.uint64(3))


def test_limbs_round_trip_and_refuse_what_does_not_fit() -> None:
    values = [0, 1, 2**64, 2**128 - 1]
    assert from_limbs(to_limbs(values, 2)) == values
    assert to_limbs([], 4).shape == (0, 4)
    with pytest.raises(ValueError, match=r"integers\[1\] = -1"):
        to_limbs([0, -1], 2)
    with pytest.raises(ValueError, match=r"expected 0 <= integer < 2\^128"):
        to_limbs([2**128], 2)


def _run_with(divider: str, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"MEVRL_DIVIDER": divider, "NUMBA_CPU_NAME": "generic"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_other_divider_on_a_generic_cpu() -> None:
    other = "portable" if DIVIDER == "asm" else "asm"
    program = (
        "import tests.kernels.numbers.test_u256 as t; from kernels.numbers.u256 import DIVIDER\n"
        f"assert DIVIDER == {other!r}\n"
        "t._check_divisions(t._seeded_divisions(3000))\n"
        "t.test_no_edge_kills_the_process()\n"
    )
    finished = _run_with(other, program)
    if other == "asm" and "needs x86-64" in finished.stderr:
        pytest.skip("the asm divider needs x86-64")
    assert finished.returncode == 0, finished.stderr


def test_unknown_divider_is_named() -> None:
    finished = _run_with("fast", "import kernels.numbers.u256")
    assert finished.returncode != 0
    assert "MEVRL_DIVIDER='fast': expected asm or portable" in finished.stderr
