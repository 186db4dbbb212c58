"""Float64 mirrors of exact quotes, vectorised: they rank and rule out, integers decide.

Constant-product, weighted and StableSwap pools; V3 ranges are in
`kernels.pools.uniswap_v3.float_filter`. Each mirror states its error with proof. It exceeds the
exact output in about half of all cases, so that nothing is signed from it. u = 2^-53; (k) stands
for a product of k factors 1 + t or 1 / (1 + t), |t| <= u, which is within k u / (1 - k u) of 1
(Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1). A sum of positive numbers of
(j) and (k) is max(j, k) and one more for its own rounding. fastmath reorders sums and products,
fuses them, and may divide by a rounded reciprocal: no rounding more than counted here, with
quotients counted as two.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from kernels.checked_arrays import entrance, wanted
from kernels.compile import filter_kernel, inline
from kernels.numbers.u256 import word_as_float

Floats = NDArray[np.float64]

U = 2.0**-53
PRODUCT_ERROR = 12.0 * U
WEIGHTED_ERROR = 4e-14
STABLE_ERROR = 32.0 * U

# 2 atanh(s) = 2 s (1 + s^2 / 3 + s^4 / 5 + ...): the terms that s^2 <= (0.3 / 2.3)^2 needs.
ATANH = tuple(1.0 / (2 * k + 1) for k in range(10))
INVERSE_LN2 = 1.4426950408889634
LN2 = 0.6931471805599453
EXPONENT_BIAS = np.int64(1023)
MANTISSA_BITS = np.int64(52)


@entrance(
    amounts=wanted(np.float64, "N"),
    reserves_in=wanted(np.float64, "N"),
    reserves_out=wanted(np.float64, "N"),
    keep=wanted(np.float64, "N"),
    outputs=wanted(np.float64, "N"),
)
@filter_kernel
def rank_product_outputs(
    amounts: Floats, reserves_in: Floats, reserves_out: Floats, keep: Floats, outputs: Floats
) -> None:
    """Outputs x k R_o / (R_i + x k) of N constant-product pools, float64[N] each, smallest units.

    The inputs are integers from 1 to below 2^112 rounded to float64, and keep k = n / d rounded,
    for a fee n / d of `uniswap_v2.is_valid_fee` with n > 0. Then, with the real output r and
    e = PRODUCT_ERROR,

        |outputs - r| <= e r,  hence  exact <= outputs / (1 - e)  and
        |outputs - exact| <= 1 + e (exact + 1).

    Proof: every operand enters as (1), k included. x k is (3): two operands, a product. x k R_o is
    (5). R_i + x k is (4). The quotient is (5 + 4 + 2) = (11), within 12 u of 1. All values lie
    between 2^-140 and 2^230: nothing overflows, and no bits are lost to underflow. The contract
    pays floor(r), so that r - 1 < exact <= r.
    """
    for row in range(amounts.shape[0]):
        charged = amounts[row] * keep[row]
        outputs[row] = charged * reserves_out[row] / (reserves_in[row] + charged)


@inline
def _log_of_growth(q: float) -> float:
    """log(1 + q) for 0 <= q <= 0.3 as 2 atanh(q / (2 + q)), the rest of the series below 2^-58."""
    s = q / (2.0 + q)
    square = s * s
    total = ATANH[9]
    for k in range(8, -1, -1):
        total = total * square + ATANH[k]
    return 2.0 * s * total


@inline
def _exp_of_minus(t: float) -> float:
    """exp(-t) for 0 <= t <= 700: 2^-m times the Taylor series of exp(r), |r| <= 0.35."""
    halvings = np.int32(t * INVERSE_LN2 + 0.5)
    r = float(halvings) * LN2 - t
    total = 1.0
    for k in range(14, 0, -1):
        total = total * r * (1.0 / k) + 1.0
    word = np.uint64((EXPONENT_BIAS - np.int64(halvings)) << MANTISSA_BITS)
    return total * word_as_float(word)


@entrance(
    amounts=wanted(np.float64, "N"),
    balances_in=wanted(np.float64, "N"),
    balances_out=wanted(np.float64, "N"),
    exponents=wanted(np.float64, "N"),
    keep=wanted(np.float64, "N"),
    outputs=wanted(np.float64, "N"),
)
@filter_kernel
def rank_weighted_outputs(
    amounts: Floats,
    balances_in: Floats,
    balances_out: Floats,
    exponents: Floats,
    keep: Floats,
    outputs: Floats,
) -> None:
    """Outputs B_o (1 - (B_i / (B_i + x k))^w) of N weighted pools, float64[N] each, token units.

    w = w_i / w_o from 1 / 99 to 99, keep k is 1 - fee, and x k <= 0.3 B_i, which the contract
    demands: the caller leaves out what is larger. Then

        |outputs - exact| <= WEIGHTED_ERROR B_o + 2 + w B_o / B_i.

    Proof: q = x k / B_i is (6). log(1 + q) turns a relative error of q into no larger one of its
    own, since q / (1 + q) <= log(1 + q); its series has positive terms and adds at most (26), the
    cut below 2^-58. w is (1): t = w log(1 + q) is (35). As t exp(-t) <= 1 / e, that moves exp(-t)
    by at most 13 u. The reduced r has an absolute error of at most (2 m + 2) u, and exp(-t) <=
    2^(1/2 - m), so that it moves exp(-t) by less than 3 u; the series of exp(r) errs by less than
    30 u e^0.35 <= 43 u, its cut by 2^-57. Together with the last difference and product
    the float is within 64 u B_o < 1e-14 B_o of the real output. The contract rounds the power up by
    at most 2e-14 of it and a few 1e-18 (base and exponent to 18 decimals, times 99), and relies on
    LogExpMath being right to 1e-14; then it rounds down twice, and its fee rounds up by one unit of
    the input, which is worth less than w B_o / B_i.
    """
    for row in range(amounts.shape[0]):
        q = amounts[row] * keep[row] / balances_in[row]
        rest = _exp_of_minus(exponents[row] * _log_of_growth(q))
        outputs[row] = balances_out[row] * (1.0 - rest)


@entrance(
    amounts=wanted(np.float64, "N"),
    balances_in=wanted(np.float64, "N"),
    balances_out=wanted(np.float64, "N"),
    invariants=wanted(np.float64, "N"),
    offsets=wanted(np.float64, "N"),
    products=wanted(np.float64, "N"),
    keep=wanted(np.float64, "N"),
    outputs=wanted(np.float64, "N"),
)
@filter_kernel
def rank_stable_outputs(
    amounts: Floats,
    balances_in: Floats,
    balances_out: Floats,
    invariants: Floats,
    offsets: Floats,
    products: Floats,
    keep: Floats,
    outputs: Floats,
) -> None:
    """Outputs of N StableSwap pools, float64[N] each, amounts scaled to 18 decimals.

    The last four describe pool and direction: see `stable_columns`; keep is 1 - fee. With
    X = x + balance in, h = D - X - offset and c = product / X, the balance out becomes the positive
    root Y of Y^2 - h Y = c, taken without cancellation, and the output is (balance out - Y) keep.
    While no balance exceeds D, in a pool of n coins,

        |outputs - exact| <= STABLE_ERROR (D + X + offset + balance out) + 4 + 2 n^(n - 1) + p + v

    in units of 1e-18, p and v being what one unit of the coin in and one of the coin out are worth.

    Proof: h has an absolute error of at most 6 u (D + X + offset), and 0 <= dY/dh <= 1. c is (5),
    and c dY/dc = c / sqrt(h^2 + 4 c) <= Y, so that it costs at most 5 u Y. The root itself adds
    (11) of positive terms, the difference and keep 4 u of balance out. Sum: below 32 u of the sum
    in brackets. The contract's Newton steps end within 1 of the root of its own integers (each
    step stays above Y - 1, and one that moves by at most 1 is within 1 of Y); its b is rounded by
    less than 1; its c by a relative sum of 1 / c_k, where n^(n - 1) bounds each Y / c_k because no
    balance exceeds D. It takes off 1, rounds the fee and both conversions by less than 1 each.
    """
    for row in range(amounts.shape[0]):
        after = balances_in[row] + amounts[row]
        h = invariants[row] - after - offsets[row]
        c = products[row] / after
        larger = 0.5 * (abs(h) + np.sqrt(h * h + 4.0 * c))
        root = larger if h >= 0.0 else c / larger
        outputs[row] = max(balances_out[row] - root, 0.0) * keep[row]


def stable_columns(
    scaled: Sequence[int], invariant: int, amp: int, coin_in: int, coin_out: int
) -> tuple[float, float, float]:
    """(invariant, offset, product) of a pool and direction for `rank_stable_outputs`.

    `scaled` are the balances at 18 decimals, `invariant` is D of `stableswap.get_d` and `amp` the
    contract's A n^(n - 1) * 100: offset = sum of the other balances + 100 D / Ann, product =
    100 D^(n + 1) / (n^n Ann prod of the other balances), with Ann = amp n.
    """
    coins = len(scaled)
    others = [x for k, x in enumerate(scaled) if k not in (coin_in, coin_out)]
    ann = amp * coins
    if coin_in == coin_out or min(scaled) <= 0 or ann <= 0:
        raise ValueError(f"coins {coin_in}, {coin_out} of {list(scaled)}, amp {amp}: none may be 0")
    product = Fraction(100 * invariant ** (coins + 1), coins**coins * ann)
    for balance in others:
        product /= balance
    return float(invariant), float(sum(others) + Fraction(100 * invariant, ann)), float(product)
