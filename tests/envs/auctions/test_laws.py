"""Compiled laws against scipy."""

import numpy as np
import pytest
from scipy.special import ndtri

from envs.auctions.laws import (
    kumaraswamy_cdf,
    kumaraswamy_pdf,
    kumaraswamy_quantile,
    normal_quantile,
)
from kernels.compile import kernel


@kernel
def _normal_quantiles(p: np.ndarray) -> np.ndarray:
    out = np.empty_like(p)
    for index in range(p.size):
        out[index] = normal_quantile(p[index])
    return out


@kernel
def _kumaraswamy(q: np.ndarray, a: float, b: float) -> np.ndarray:
    out = np.empty((3, q.size))
    for index in range(q.size):
        x = kumaraswamy_quantile(q[index], a, b)
        out[0, index] = x
        out[1, index] = kumaraswamy_cdf(x, a, b)
        out[2, index] = kumaraswamy_pdf(x, a, b)
    return out


def test_normal_quantile_is_scipys_over_the_whole_range() -> None:
    p = np.concatenate(
        [np.linspace(1e-6, 1 - 1e-6, 20001), 0.5 * 2.0 ** -np.arange(1.0, 900.0, 3.0), [0.5]]
    )
    np.testing.assert_allclose(_normal_quantiles(p), ndtri(p), rtol=2e-14, atol=1e-15)


@pytest.mark.parametrize(("a", "b"), [(5.0, 100.0), (8.0, 40.0), (20.0, 10.0), (40.0, 20.0)])
def test_kumaraswamy_quantile_inverts_its_distribution(a: float, b: float) -> None:
    q = np.linspace(1e-4, 0.9999, 999)
    x, back, density = _kumaraswamy(q, a, b)
    np.testing.assert_allclose(back, q, rtol=1e-10)
    assert np.all((x > 0.0) & (x < 1.0))
    numeric = np.gradient(q, x)[20:-20]
    np.testing.assert_allclose(density[20:-20], numeric, rtol=1e-2)
