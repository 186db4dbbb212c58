"""Laws of hidden competition drawn at random, so that no setting is fitted to four named ones.

"drawn-K" is the K-th: 2 + K mod 3 regimes, a persistence of 15 to 300 auctions (log-uniform),
Kumaraswamy shapes, numbers of rivals and value shifts of its own.
"""

import re

import numpy as np

from envs.hidden_competition.model import SCENARIOS, HiddenCompetition

DRAWN = re.compile(r"drawn-(0|[1-9][0-9]{0,8})")
PERSISTENCE = (15.0, 300.0)
MEDIANS = (0.35, 0.93)  # of one rival's bid, by regime
LEAST_APART = 0.12  # of those medians: regimes that bid alike are one regime
SHAPES_A = (4.0, 30.0)
LOG_RATES = (1.15, 1.8)
VALUE_SHIFTS = (-1.2, 1.2)
TRIES = 1000


def drawn_law(number: int) -> HiddenCompetition:
    """The law "drawn-NUMBER". Draws that `HiddenCompetition` refuses are drawn anew."""
    rng = np.random.default_rng([13, number])
    regimes = 2 + number % 3
    for _ in range(TRIES):
        medians = rng.uniform(*MEDIANS, regimes)
        if np.diff(np.sort(medians)).min() < LEAST_APART:
            continue
        a = np.exp(rng.uniform(np.log(SHAPES_A[0]), np.log(SHAPES_A[1]), regimes))
        # Kumaraswamy: 1 - (1 - median^a)^b = 1/2
        b = np.log(0.5) / np.log1p(-(medians**a))
        low, high = np.log(PERSISTENCE)
        try:
            return HiddenCompetition(
                log_rate=tuple(rng.uniform(*LOG_RATES, regimes).tolist()),
                value_shift=tuple(rng.uniform(*VALUE_SHIFTS, regimes).tolist()),
                bid_a=tuple(a.tolist()),
                bid_b=tuple(b.tolist()),
                persistence=float(np.exp(rng.uniform(low, high))),
            )
        except ValueError:
            continue
    raise ValueError(f"drawn-{number}: no law with competition in {TRIES} draws")


def is_law(name: str) -> bool:
    """Whether there is a law of this name."""
    return name in SCENARIOS or DRAWN.fullmatch(name) is not None


def law_of(name: str) -> HiddenCompetition:
    """The law of a scenario, or a drawn one; ValueError for a name that neither is."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    found = DRAWN.fullmatch(name)
    if found is None:
        raise ValueError(f"law {name!r}: choose one of {', '.join(SCENARIOS)}, drawn-NUMBER")
    return drawn_law(int(found[1]))
