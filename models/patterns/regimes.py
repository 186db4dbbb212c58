"""Hidden regimes of volatility and of competition: Gaussian hidden Markov models and mixtures.

EM of Baum et al. (1970) from mixtures of scikit-learn as starts; the number of regimes by BIC
(Schwarz 1978). The filtered probabilities are causal inputs:
`kernels.networks.regimes.regime_step` gives them one observation at a time.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.mixture import GaussianMixture

from kernels.checked_arrays import as_floats, check_array, check_finite
from kernels.networks.regimes import filter_history, smooth_history

MIN_OBSERVATIONS_PER_REGIME = 20
COVARIANCE_FLOOR = 1e-3  # of the whole sample's variance, so that no regime is one point
STICKY = 0.95  # chance to stay in a regime that EM starts from
PSEUDO_COUNT = 0.5  # of every transition, so that none becomes impossible


class RegimeError(ValueError):
    """Observations that no regimes can be found in; the message names value and remedy."""


@dataclass(frozen=True)
class RegimeModel:
    """Regimes in rising order of their mean of the first observed quantity."""

    start: np.ndarray  # float64[K], probabilities at the first observation
    transition: np.ndarray  # float64[K, K], rows sum to one; equal rows: a mixture, no memory
    means: np.ndarray  # float64[K, d]
    covariances: np.ndarray  # float64[K, d, d]
    log_likelihood: float  # of the observations fitted to
    observations: int  # rows fitted to, those with an unknown value left out
    memory: bool  # a hidden Markov model, not a mixture
    factors: np.ndarray = field(init=False)  # as `kernels.networks.regimes.regime_step` wants them
    log_scale: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together (ArrayError); derive what kernels read."""
        regimes, size = np.size(self.start), np.shape(self.means)[-1]
        check_array("start", self.start, (regimes,), np.float64, 0.0, 1.0 + 1e-9)
        check_array("transition", self.transition, (regimes, regimes), np.float64, 0.0, 1.0 + 1e-9)
        check_finite("means", self.means, (regimes, size))
        check_finite("covariances", self.covariances, (regimes, size, size))
        lower = np.linalg.cholesky(self.covariances)
        factors = [solve_triangular(low, np.eye(size), lower=True) for low in lower]
        diagonal = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
        object.__setattr__(self, "factors", np.ascontiguousarray(factors))
        object.__setattr__(self, "log_scale", -diagonal - 0.5 * size * np.log(2.0 * np.pi))

    @property
    def regimes(self) -> int:
        """Number of regimes K."""
        return self.start.size

    @property
    def parameters(self) -> int:
        """Free parameters: weights or start and transition, means, covariances."""
        k, d = self.means.shape
        memory = k * (k - 1) if self.memory else 0
        return k - 1 + memory + k * d + k * d * (d + 1) // 2

    @property
    def bic(self) -> float:
        """Bayesian information criterion; less is better."""
        return self.parameters * np.log(self.observations) - 2.0 * self.log_likelihood

    def filter(self, x: np.ndarray, restart: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of the regimes given x[: t + 1], float64[t, K]: no future is used.

        x float64[t, d], nan where unknown; restart bool[t] marks where a new sequence begins.
        """
        return self._filter(x, restart)[0]

    def score(self, x: np.ndarray, restart: np.ndarray | None = None) -> float:
        """Log likelihood of a sequence; per observation it compares models out of sample."""
        return self._filter(x, restart)[1]

    def smooth(self, x: np.ndarray, restart: np.ndarray | None = None) -> np.ndarray:
        """Probabilities given the whole sequence, float64[t, K]: for figures and labels only."""
        filtered, _ = self._filter(x, restart)
        return self._smooth(filtered, _restarts(len(x), restart))[0]

    def labels(self, x: np.ndarray, restart: np.ndarray | None = None) -> np.ndarray:
        """Most probable regime of each row given the whole sequence, int64[t]."""
        return self.smooth(x, restart).argmax(axis=1)

    def _filter(self, x: np.ndarray, restart: np.ndarray | None) -> tuple[np.ndarray, float]:
        x = as_floats("x", x, (None, self.means.shape[1]))
        out = np.empty((len(x), self.regimes))
        log_likelihood = filter_history(
            *(x, _restarts(len(x), restart)),
            *(self.start, self.transition, self.means, self.factors, self.log_scale, out),
        )
        return out, log_likelihood

    def _smooth(self, filtered: np.ndarray, restart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        smoothed, moves = np.empty_like(filtered), np.empty_like(self.transition)
        smooth_history(restart, self.start, self.transition, filtered, smoothed, moves)
        return smoothed, moves


def fit_mixture(x: np.ndarray, regimes: int, seed: int = 0, starts: int = 4) -> RegimeModel:
    """Gaussian mixture of x float64[t, d] (rows with a nan are left out), best of `starts`."""
    known = _known(x, regimes)
    mixture = GaussianMixture(
        regimes,
        n_init=starts,
        random_state=seed,
        max_iter=500,
        reg_covar=COVARIANCE_FLOOR * float(known.var(axis=0).min()),
    ).fit(known)
    weights = np.asarray(mixture.weights_)
    return _sorted(
        RegimeModel(
            start=weights,
            transition=np.tile(weights, (regimes, 1)),
            means=np.asarray(mixture.means_),
            covariances=np.asarray(mixture.covariances_),
            log_likelihood=float(mixture.score(known)) * len(known),
            observations=len(known),
            memory=False,
        )
    )


def fit_hidden_markov(
    x: np.ndarray,
    regimes: int,
    restart: np.ndarray | None = None,
    seed: int = 0,
    starts: int = 4,
    iterations: int = 300,
    tolerance: float = 1e-6,
) -> RegimeModel:
    """Gaussian hidden Markov model of x float64[t, d] (nan: unknown), best of `starts`.

    Each start is a mixture of another seed with sticky transitions; EM stops when an iteration
    gains less than `tolerance` per observation. Raises RegimeError when there is too little.
    """
    best: RegimeModel | None = None
    for k in range(starts):
        model = _expectation_maximisation(x, regimes, restart, seed + k, iterations, tolerance)
        if best is None or model.log_likelihood > best.log_likelihood:
            best = model
    if best is None:
        raise RegimeError(f"starts: {starts}; give at least 1")
    return _sorted(best)


def choose_by_bic(models: list[RegimeModel]) -> RegimeModel:
    """The model with the least BIC; the first one on a tie."""
    return min(models, key=lambda model: model.bic)


def _expectation_maximisation(
    x: np.ndarray,
    regimes: int,
    restart: np.ndarray | None,
    seed: int,
    iterations: int,
    tolerance: float,
) -> RegimeModel:
    known = _known(x, regimes)
    rows = np.isfinite(x).all(axis=1)
    begins = _restarts(len(x), restart)
    floor = COVARIANCE_FLOOR * np.diag(known.var(axis=0))
    mixture = fit_mixture(x, regimes, seed, starts=1)
    off = (1.0 - STICKY) / max(regimes - 1, 1)
    transition = np.where(np.eye(regimes) > 0.0, STICKY if regimes > 1 else 1.0, off)
    model = replace(mixture, transition=transition, memory=True)
    before = -np.inf
    for _ in range(iterations):
        filtered, log_likelihood = model._filter(x, begins)
        if log_likelihood - before < tolerance * len(known):
            break
        before = log_likelihood
        smoothed, moves = model._smooth(filtered, begins)
        model = _maximise(known, smoothed[rows], smoothed[begins], moves, floor)
    return replace(model, log_likelihood=model.score(x, begins))


def _maximise(
    x: np.ndarray,
    weights: np.ndarray,
    first: np.ndarray,
    moves: np.ndarray,
    floor: np.ndarray,
) -> RegimeModel:
    """The M step: weighted means and covariances, counted transitions."""
    total = weights.sum(axis=0)
    means = (weights.T @ x) / total[:, None]
    covariances = np.empty((total.size, *floor.shape))
    for k in range(total.size):
        centred = x - means[k]
        covariances[k] = (centred * weights[:, [k]]).T @ centred / total[k] + floor
    counted = moves + PSEUDO_COUNT
    begun = first.sum(axis=0) + PSEUDO_COUNT
    return RegimeModel(
        start=begun / begun.sum(),
        transition=counted / counted.sum(axis=1, keepdims=True),
        means=means,
        covariances=covariances,
        log_likelihood=-np.inf,
        observations=len(x),
        memory=True,
    )


def _sorted(model: RegimeModel) -> RegimeModel:
    order = np.argsort(model.means[:, 0], kind="stable")
    return replace(
        model,
        start=model.start[order],
        transition=model.transition[np.ix_(order, order)],
        means=model.means[order],
        covariances=model.covariances[order],
    )


def _restarts(rows: int, restart: np.ndarray | None) -> np.ndarray:
    """The first row always starts a sequence."""
    begins = np.zeros(rows, np.bool_) if restart is None else restart.astype(np.bool_)
    if begins.size != rows:
        raise RegimeError(f"restart: {begins.size} marks for {rows} rows; give one per row")
    begins[:1] = True
    return begins


def _known(x: np.ndarray, regimes: int) -> np.ndarray:
    """Rows without a nan; refuses what cannot hold so many regimes."""
    if x.ndim != 2:
        raise RegimeError(f"observations of shape {x.shape}; give [time, quantities]")
    known = x[np.isfinite(x).all(axis=1)]
    needed = regimes * MIN_OBSERVATIONS_PER_REGIME
    if regimes < 1 or len(known) < needed:
        raise RegimeError(
            f"{len(known)} known observations for {regimes} regimes; give at least "
            f"{MIN_OBSERVATIONS_PER_REGIME} for each and at least one regime"
        )
    if (known.var(axis=0) == 0.0).any():
        flat = int(np.argmin(known.var(axis=0)))
        raise RegimeError(f"quantity {flat} is {known[0, flat]} everywhere; leave it out")
    return known
