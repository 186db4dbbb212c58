"""Tests between forecasts: Diebold-Mariano (1995) and the Model Confidence Set (2011)."""

import numpy as np
from scipy import stats


def diebold_mariano(
    loss_a: np.ndarray, loss_b: np.ndarray, lags: int, horizon: int = 1
) -> tuple[float, float]:
    """Statistic and two-sided p-value for equal mean loss; negative when a loses less than b.

    Long-run variance of Newey and West (1987) with Bartlett weights over `lags`; small-sample
    factor and t(n - 1) of Harvey, Leybourne and Newbold (1997) for forecasts `horizon` steps
    ahead. Equal losses everywhere give (0, 1).
    """
    d = loss_a - loss_b
    n = d.size
    if n < 2 or lags < 0 or lags >= n or d.shape != loss_b.shape:
        raise ValueError(f"diebold_mariano: {n} losses and {lags} lags; give more losses than lags")
    variance = long_run_variance(d, lags)
    if variance <= 0.0:
        return 0.0, 1.0
    adjustment = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    statistic = float(d.mean() / np.sqrt(variance / n) * np.sqrt(adjustment))
    return statistic, float(2.0 * stats.t.sf(abs(statistic), n - 1))


def long_run_variance(x: np.ndarray, lags: int) -> float:
    """Newey-West variance of sqrt(n) times the mean of x, Bartlett weights over `lags`."""
    centred = x - x.mean()
    variance = float(centred @ centred)
    for k in range(1, lags + 1):
        variance += 2.0 * (1.0 - k / (lags + 1.0)) * float(centred[k:] @ centred[:-k])
    return variance / x.size


def ratio_interval(
    loss_a: np.ndarray, loss_b: np.ndarray, lags: int, level: float = 0.95
) -> tuple[float, float, float]:
    """Ratio of mean losses a / b and its interval by the delta method, HAC as above."""
    ratio = float(loss_a.mean() / loss_b.mean())
    influence = (loss_a - ratio * loss_b) / loss_b.mean()
    half = stats.norm.ppf(0.5 + level / 2.0) * np.sqrt(
        max(long_run_variance(influence, lags), 0.0) / influence.size
    )
    return ratio, ratio - float(half), ratio + float(half)


def model_confidence_set(
    losses: dict[str, np.ndarray], block: int, size: float = 0.10, seed: int = 0, reps: int = 500
) -> dict[str, float]:
    """p-values of the Model Confidence Set (Hansen, Lunde and Nason 2011), range statistic.

    A model belongs to the set when its p-value is at least `size`; `block` is the length of the
    bootstrap's blocks in observations. A NaN in a loss is an error.
    """
    # arch imports pandas and statsmodels, two seconds that only an evaluation needs.
    from arch.bootstrap import MCS

    names = list(losses)
    table = np.column_stack([losses[name] for name in names])
    if not np.isfinite(table).all():
        raise ValueError("model_confidence_set: a loss is not finite")
    mcs = MCS(table, size=size, reps=reps, block_size=block, method="R", seed=seed)
    mcs.compute()
    p_values = mcs.pvalues
    return {
        names[k]: float(p) for k, p in zip(p_values.index, p_values.to_numpy()[:, 0], strict=True)
    }
