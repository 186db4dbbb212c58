"""The map of a chain of constant-product pools in Python integers, exact for any number of hops: a
referee of `product_cycles`, whose docstring has the formulas.
"""

from collections.abc import Sequence
from math import isqrt


def moebius(
    reserves_in: Sequence[int], reserves_out: Sequence[int], fees: Sequence[tuple[int, int]]
) -> tuple[int, int, int]:
    """Integers (A, B, C) of the chain's map x -> A x / (B + C x), for any number of hops.

    One hop is x -> n Ro x / (d Ri + n x), for a fee of n / d.
    """
    a, b, c = 1, 1, 0
    for reserve_in, reserve_out, (numerator, denominator) in zip(
        reserves_in, reserves_out, fees, strict=True
    ):
        c = denominator * reserve_in * c + numerator * a
        a *= numerator * reserve_out
        b *= denominator * reserve_in
    return a, b, c


def best_real_input(a: int, b: int, c: int) -> int:
    """Floor of the real input that maximises A x / (B + C x) - x; 0 when none pays."""
    return max(0, (isqrt(a * b) - b) // c)


def profit_bound(a: int, b: int, c: int) -> int:
    """Floor of the best real profit: no integer input earns more on the contracts."""
    if a <= b:
        return 0
    product = 4 * a * b
    root_up = isqrt(product - 1) + 1
    return (a + b - root_up) // c
