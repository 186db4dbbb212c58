"""Reference bidders of the hidden-competition auctions: exact Bayes filters and hand-made rules.

Every function maps recorded chains to bids as shares f of the value, float64[length, chains].
The filters maximise each auction's expected profit: they ignore what a bid teaches.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.auctions.laws import kumaraswamy_cdf, kumaraswamy_pdf
from envs.hidden_competition.model import (
    LOG_VALUE_MEAN,
    LOG_VALUE_SD,
    TAIL_INDEX,
    TAIL_SHARE,
    TAIL_Z,
    Chains,
    CompetitionLaw,
    HiddenCompetition,
    rival_rate,
    win_probability,
)
from kernels.checked_arrays import as_floats, check_array, check_finite
from kernels.compile import filter_kernel, inline, kernel

# What a filter learns from the past, from most to least.
RIVAL_SEEN = 0  # the highest rival bid, won or lost: more than any bidder sees, a strict bound
CLEARING_PUBLIC = 1  # own outcome and the clearing bid: what the environment's history holds
OWN_OUTCOME = 2  # won or lost only
NO_HISTORY = 3  # the present value alone: the ceiling of every stateless policy
REGIME_KNOWN = 4
FILTERS = {
    "Bayes, rival bid seen": RIVAL_SEEN,
    "Bayes, clearing public": CLEARING_PUBLIC,
    "Bayes, own win/loss": OWN_OUTCOME,
    "Bayes, no history": NO_HISTORY,
    "regime known": REGIME_KNOWN,
}
GRID: NDArray[np.float64] = np.linspace(0.0, 1.0, 129)[:-1]
DECILES = 10

Bids = NDArray[np.float64]
_SQRT_TAU = float(np.sqrt(2.0 * np.pi))
_FLOOR = 1e-12  # keeps a posterior alive through an observation no regime explains


@inline
def _value_likelihood(log_value: float, shift: float) -> float:
    """Density of ln v; see envs.hidden_competition.model.log_value_density."""
    z = (log_value - shift - LOG_VALUE_MEAN) / LOG_VALUE_SD
    if z > TAIL_Z:
        return TAIL_SHARE * TAIL_INDEX * np.exp(-TAIL_INDEX * (z - TAIL_Z) * LOG_VALUE_SD)
    return np.exp(-0.5 * z * z) / (_SQRT_TAU * LOG_VALUE_SD)


@inline
def _likelihood(
    law: CompetitionLaw, k: int, log_value: float, bid: float, rival: float, mode: int
) -> float:
    """Likelihood of what the filter sees of an auction in regime k."""
    rate = rival_rate(law, k, log_value)
    if (mode == RIVAL_SEEN and rival >= 0.0) or (mode == CLEARING_PUBLIC and rival > bid):
        above = 1.0 - kumaraswamy_cdf(rival, law.bid_a[k], law.bid_b[k])
        density = kumaraswamy_pdf(rival, law.bid_a[k], law.bid_b[k])
        return np.exp(-rate * above) * rate * density
    if mode == RIVAL_SEEN:
        return np.exp(-rate)
    won = win_probability(law, k, log_value, bid)
    if rival < bid:
        return won
    return 1.0 - won


@filter_kernel
def _best_bid(belief: np.ndarray, rates: np.ndarray, above: np.ndarray, grid: np.ndarray) -> int:
    """Index of the grid bid with the highest expected profit."""
    best, choice = -1.0, 0
    for j in range(grid.shape[0]):
        win = 0.0
        for k in range(belief.shape[0]):
            win += belief[k] * np.exp(-rates[k] * above[k, j])
        if win * (1.0 - grid[j]) > best:
            best, choice = win * (1.0 - grid[j]), j
    return choice


@kernel
def _normalise(belief: np.ndarray) -> None:
    belief /= belief.sum()


@kernel
def _filter_chain(
    law: CompetitionLaw,
    regime: np.ndarray,
    log_value: np.ndarray,
    top_rival: np.ndarray,
    mode: int,
    grid: np.ndarray,
    above: np.ndarray,
    bids: np.ndarray,
) -> None:
    """Predict, weigh by the value seen, bid, weigh by the outcome seen: along one chain."""
    regimes = law.log_rate.shape[0]
    belief, rates = np.full(regimes, 1.0 / regimes), np.empty(regimes)
    switch = (1.0 - law.stay) / (regimes - 1)
    for t in range(log_value.shape[0]):
        x = log_value[t]
        for k in range(regimes):
            if mode == NO_HISTORY or t == 0:
                belief[k] = 1.0 / regimes
            else:
                belief[k] = belief[k] * law.stay + (1.0 - belief[k]) * switch
            belief[k] *= _value_likelihood(x, law.value_shift[k]) + 1e-30
            rates[k] = rival_rate(law, k, x)
        if mode == REGIME_KNOWN:
            belief[:] = 0.0
            belief[regime[t]] = 1.0
        _normalise(belief)
        bid = grid[_best_bid(belief, rates, above, grid)]
        bids[t] = bid
        if mode <= OWN_OUTCOME:
            for k in range(regimes):
                belief[k] *= _likelihood(law, k, x, bid, top_rival[t], mode) + _FLOOR
            _normalise(belief)


@kernel
def _filter(
    law: CompetitionLaw,
    regime: np.ndarray,
    log_value: np.ndarray,
    top_rival: np.ndarray,
    mode: int,
    grid: np.ndarray,
    above: np.ndarray,
    bids: np.ndarray,
) -> None:
    for i in range(log_value.shape[1]):
        _filter_chain(
            law, regime[:, i], log_value[:, i], top_rival[:, i], mode, grid, above, bids[:, i]
        )


def bayes_bids(model: HiddenCompetition, chains: Chains, mode: int, grid: Bids = GRID) -> Bids:
    """Bids of the exact filter that sees what `mode` says: one of the constants above."""
    if mode not in FILTERS.values():
        raise ValueError(f"mode {mode}: choose one of {sorted(FILTERS.values())}")
    chains = chains.checked(model.regimes)
    grid = check_array("grid", grid, (None,), np.float64, 0.0, 1.0)
    law = model.law()
    above = np.stack([(1.0 - grid**a) ** b for a, b in zip(law.bid_a, law.bid_b)])
    bids = np.empty(chains.log_value.shape)
    _filter(law, *chains, mode, grid, above, bids)
    return bids


@kernel
def _filter_beside(
    law: CompetitionLaw,
    log_value: np.ndarray,
    top_rival: np.ndarray,
    bids: np.ndarray,
    fractions: np.ndarray,
    out: np.ndarray,
) -> None:
    """The belief of `CLEARING_PUBLIC` along one chain, in which `bids` are made."""
    regimes = law.log_rate.shape[0]
    belief = np.full(regimes, 1.0 / regimes)
    switch = (1.0 - law.stay) / (regimes - 1)
    for t in range(log_value.shape[0]):
        x = log_value[t]
        for k in range(regimes):
            if t > 0:
                belief[k] = belief[k] * law.stay + (1.0 - belief[k]) * switch
            belief[k] *= _value_likelihood(x, law.value_shift[k]) + 1e-30
        _normalise(belief)
        for j in range(fractions.shape[1]):
            out[t, j] = 0.0
            for k in range(regimes):
                out[t, j] += belief[k] * win_probability(law, k, x, fractions[t, j])
        for k in range(regimes):
            belief[k] *= _likelihood(law, k, x, bids[t], top_rival[t], CLEARING_PUBLIC) + _FLOOR
        _normalise(belief)


@kernel
def _filters_beside(
    law: CompetitionLaw,
    log_value: np.ndarray,
    top_rival: np.ndarray,
    bids: np.ndarray,
    fractions: np.ndarray,
    out: np.ndarray,
) -> None:
    for i in range(log_value.shape[1]):
        _filter_beside(
            law, log_value[:, i], top_rival[:, i], bids[:, i], fractions[:, i], out[:, i]
        )


def bayes_win_probabilities(
    model: HiddenCompetition, chains: Chains, bids: Bids, fractions: Bids
) -> Bids:
    """P(every rival bids less than a fraction) by the exact filter of the same information.

    What it has seen of an auction is the clearing bid when `bids` [length, chains] are made, so it
    referees any bidder's forecasts on that bidder's own history. fractions [length, chains, K] in
    [0, 1], and the result has their shape. Raises ArrayError naming the array.
    """
    chains = chains.checked(model.regimes)
    shape = chains.log_value.shape
    bids = check_array("bids", bids, shape, np.float64, 0.0, 1.0)
    wanted_shape = (*shape, fractions.shape[-1])
    fractions = as_floats("fractions", fractions, wanted_shape, 0.0, 1.0)
    out = np.empty(wanted_shape)
    _filters_beside(model.law(), chains.log_value, chains.top_rival, bids, fractions, out)
    return out


@kernel
def _moving_average(
    log_value: np.ndarray, top_rival: np.ndarray, rule: np.ndarray, bids: np.ndarray
) -> None:
    base, weight, slope, decay = rule
    for i in range(log_value.shape[1]):
        average = 0.6
        for t in range(log_value.shape[0]):
            z = (log_value[t, i] - LOG_VALUE_MEAN) / LOG_VALUE_SD
            bid = min(max(base + weight * average + slope * z, 0.02), 0.99)
            bids[t, i] = bid
            average = decay * average + (1.0 - decay) * max(top_rival[t, i], bid)


def _check_alike(chains: Chains) -> None:
    """Refuse chains whose values and rivals differ in shape; ArrayError."""
    check_array("top_rival", chains.top_rival, chains.log_value.shape, np.float64)


def moving_average_bids(chains: Chains, rule: Bids) -> Bids:
    """f = base + weight * EMA(clearing share) + slope * z; rule = (base, weight, slope, decay)."""
    check_finite("rule", rule, (4,))
    _check_alike(chains)
    bids = np.empty(chains.log_value.shape)
    _moving_average(chains.log_value, chains.top_rival, rule, bids)
    return bids


@kernel
def _raise_and_lower(top_rival: np.ndarray, up: float, down: float, bids: np.ndarray) -> None:
    for i in range(top_rival.shape[1]):
        bid = 0.7
        for t in range(top_rival.shape[0]):
            bids[t, i] = bid
            if top_rival[t, i] > bid:
                bid = min(bid + up * (1.0 - bid), 0.98)
            else:
                bid = max(bid - down, 0.02)


def raise_and_lower_bids(chains: Chains, rule: Bids) -> Bids:
    """AIMD: after a loss the rest 1 - f shrinks by `up`, after a win f falls by `down`."""
    check_finite("rule", rule, (2,))
    _check_alike(chains)
    bids = np.empty(chains.log_value.shape)
    _raise_and_lower(chains.top_rival, rule[0], rule[1], bids)
    return bids


@kernel
def _capture(
    law: CompetitionLaw,
    regime: np.ndarray,
    log_value: np.ndarray,
    bids: np.ndarray,
    out: np.ndarray,
) -> None:
    for t in range(bids.shape[0]):
        for i in range(bids.shape[1]):
            won = win_probability(law, regime[t, i], log_value[t, i], bids[t, i])
            out[t, i] = (1.0 - bids[t, i]) * won


def capture(model: HiddenCompetition, chains: Chains, bids: Bids | float) -> Bids:
    """Expected profit as a share of the value, given the true regime: (1 - f) P(win).

    The probability replaces the win indicator (Rao-Blackwell), which halves the noise.
    """
    chains = chains.checked(model.regimes)
    out = np.empty(chains.log_value.shape)
    full = as_floats("bids", np.broadcast_to(bids, out.shape), out.shape, 0.0, 1.0)
    _capture(model.law(), chains.regime, chains.log_value, full, out)
    return out


def clairvoyant(chains: Chains) -> Bids:
    """Share kept by one who sees the highest rival bid and matches it: 1 - max(x, 0)."""
    return 1.0 - np.maximum(chains.top_rival, 0.0)


class Tuned(NamedTuple):
    """Rules fitted on training chains."""

    static: float
    edges: NDArray[np.float64]  # deciles of ln v
    by_decile: NDArray[np.float64]
    moving_average: NDArray[np.float64]  # base, weight, slope, decay
    raise_and_lower: NDArray[np.float64]  # up, down

    def bids(self, chains: Chains) -> dict[str, Bids]:
        """Bids of every rule."""
        shape = chains.log_value.shape
        decile = np.searchsorted(self.edges, chains.log_value, side="right")
        return {
            "fixed 80 %": np.full(shape, 0.8),
            "fixed 90 %": np.full(shape, 0.9),
            "best static": np.full(shape, self.static),
            "static per value decile": self.by_decile[decile],
            "EMA of clearing": moving_average_bids(chains, self.moving_average),
            "AIMD": raise_and_lower_bids(chains, self.raise_and_lower),
        }


def tune(model: HiddenCompetition, chains: Chains, rule_chains: int = 32) -> Tuned:
    """Choose each rule's parameters by profit in ETH on training chains.

    The adaptive rules see the first `rule_chains` of them: their grids are large.
    """
    value = np.exp(chains.log_value)
    edges = np.quantile(chains.log_value, np.linspace(0.0, 1.0, DECILES + 1)[1:-1])
    decile = np.searchsorted(edges, chains.log_value, side="right")
    profit = np.array(
        [
            np.bincount(
                decile.ravel(), (capture(model, chains, f) * value).ravel(), minlength=DECILES
            )
            for f in GRID
        ]
    )
    few = chains.first(rule_chains)
    few_value = np.exp(few.log_value)

    def best(rules: list[tuple[float, ...]], bidder: object) -> NDArray[np.float64]:
        candidates = [np.array(rule) for rule in rules]
        scores = [
            float((capture(model, few, bidder(few, rule)) * few_value).sum())  # type: ignore[operator]
            for rule in candidates
        ]
        return candidates[int(np.argmax(scores))]

    averages = [
        (base, weight, slope, decay)
        for decay in (0.5, 0.7, 0.8, 0.9)
        for weight in (0.7, 0.85, 1.0, 1.15)
        for base in (-0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2)
        for slope in (0.0, 0.03)
    ]
    steps = [(up, down) for up in (0.1, 0.2, 0.3, 0.5) for down in (0.005, 0.01, 0.02, 0.04, 0.08)]
    return Tuned(
        static=float(GRID[profit.sum(axis=1).argmax()]),
        edges=edges,
        by_decile=GRID[profit.argmax(axis=0)],
        moving_average=best(averages, moving_average_bids),
        raise_and_lower=best(steps, raise_and_lower_bids),
    )
