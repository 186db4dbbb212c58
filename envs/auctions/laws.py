"""Laws that the bare auctions draw from, compiled: normal quantile, Kumaraswamy bids, uniforms.

Normal quantile: Wichura (1988), AS 241, PPND16. A table of scipy's ndtri, as the market has, would
end at 4 standard deviations, where 32-bit uniforms reach 6.2. Kumaraswamy (1980): G(x) = 1 -
(1 - x^a)^b.
"""

from typing import TypeAlias

import numpy as np

from envs.market.randomness import TO_UNIT, draw
from kernels.compile import inline

Coefficients: TypeAlias = tuple[float, float, float, float, float, float, float, float]

# Coefficients of AS 241 from the constant term up: of p near 1/2, of its tails, and far out.
CENTRE_TOP: Coefficients = (
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
    1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
    3.3430575583588128105e4, 2.5090809287301226727e3,
)  # fmt: skip
CENTRE_BOTTOM: Coefficients = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2,
    5.3941960214247511077e3, 2.1213794301586595867e4, 3.9307895800092710610e4,
    2.8729085735721942674e4, 5.2264952788528545610e3,
)  # fmt: skip
TAIL_TOP: Coefficients = (
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
    3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
    2.27238449892691845833e-2, 7.74545014278341407640e-4,
)  # fmt: skip
TAIL_BOTTOM: Coefficients = (
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0,
    6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2,
    5.47593808499534494600e-4, 1.05075007164441684324e-9,
)  # fmt: skip
FAR_TAIL_TOP: Coefficients = (
    6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
    2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
    2.71155556874348757815e-5, 2.01033439929228813265e-7,
)  # fmt: skip
FAR_TAIL_BOTTOM: Coefficients = (
    1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1,
    1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5,
    1.42151175831644588870e-7, 2.04426310338993978564e-15,
)  # fmt: skip


@inline
def open_uniform(key: np.uint64, channel: int) -> float:
    """A uniform number strictly inside (0, 1): the middle of one of 2^32 equal cells."""
    return (np.float64(draw(key, channel)) + 0.5) * TO_UNIT


@inline
def _polynomial(c: Coefficients, r: float) -> float:
    """c[0] + c[1] r + ... + c[7] r^7 by Horner's rule."""
    return (
        (((((c[7] * r + c[6]) * r + c[5]) * r + c[4]) * r + c[3]) * r + c[2]) * r + c[1]
    ) * r + c[0]


@inline
def normal_quantile(p: float) -> float:
    """z with Phi(z) = p for p in (0, 1), to about 1e-15 relative."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return q * (_polynomial(CENTRE_TOP, r) / _polynomial(CENTRE_BOTTOM, r))
    r = np.sqrt(-np.log(min(p, 1.0 - p)))
    if r <= 5.0:
        z = _polynomial(TAIL_TOP, r - 1.6) / _polynomial(TAIL_BOTTOM, r - 1.6)
    else:
        z = _polynomial(FAR_TAIL_TOP, r - 5.0) / _polynomial(FAR_TAIL_BOTTOM, r - 5.0)
    if q < 0.0:
        return -z
    return z


@inline
def kumaraswamy_cdf(x: float, a: float, b: float) -> float:
    """G(x) = 1 - (1 - x^a)^b for x in [0, 1]."""
    return 1.0 - (1.0 - x**a) ** b


@inline
def kumaraswamy_pdf(x: float, a: float, b: float) -> float:
    """Density of `kumaraswamy_cdf`; 0 at the ends."""
    if x <= 0.0 or x >= 1.0:
        return 0.0
    return a * b * x ** (a - 1.0) * (1.0 - x**a) ** (b - 1.0)


@inline
def kumaraswamy_quantile(q: float, a: float, b: float) -> float:
    """x with G(x) = q for q in [0, 1)."""
    return (1.0 - (1.0 - q) ** (1.0 / b)) ** (1.0 / a)
