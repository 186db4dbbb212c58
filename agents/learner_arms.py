"""Learners that differ in one ingredient: what they see, whether they remember, what is masked.

An arm changes settings of `ppo` and nothing else. What a learner does not see is zero while it
trains; its network leaves with zero weights there, so that nobody has to know when it is played.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.bidders.baselines import Bidder, network_bidder
from kernels.market.action import ACTIONS, BIDS, PASS
from kernels.market.observation import FIELDS
from models.frozen import Network, OnnxNetwork

_BEST_BUNDLES = np.zeros(ACTIONS, np.bool_)
_BEST_BUNDLES[[PASS, *range(1, 1 + BIDS)]] = True


class Choice(NamedTuple):
    """Which actions a learner may choose; the market's masks say which can be done."""

    masking: bool = True
    """False: every action may be chosen, one that cannot be done counts as a pass."""
    best_bundles: bool = False
    """True: a whole-size bundle on the best opportunity, or a pass."""

    def of(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool[N, A] to choose among. Raises ValueError for another table than ACTION_TABLE."""
        allowed = masks if self.masking else np.ones_like(masks)
        if not self.best_bundles:
            return allowed
        if masks.shape[-1] != ACTIONS:
            raise ValueError(f"best_bundles: {masks.shape[-1]} actions are none of ACTION_TABLE")
        return allowed & _BEST_BUNDLES


ALL = Choice()  # what can be done, as a server chooses


class LearnerArm(NamedTuple):
    """Changes of the learner's settings."""

    blind: tuple[str, ...] = ()
    """Prefixes of the names of observation fields that it does not see."""
    lstm: int = 0
    """Units of an LSTM; 0: as the settings say."""
    choice: Choice = ALL
    """What it may do."""


def learned_name(arm: str) -> str:
    """Name of a learner in comparisons."""
    return f"PPO {arm}"


HISTORY, STATELESS, NO_FORECAST = "history", "stateless", "no-forecast"
RECURRENT, UNMASKED = "recurrent", "unmasked"
BUNDLES_ONLY = "bundles-only"
STATELESS_NO_FORECAST = "stateless-no-forecast"
RECURRENT_NO_FORECAST = "recurrent-no-forecast"
_PAST, _FORECAST, _UNITS = "auction", "forecast_", 64
LEARNER_ARMS: dict[str, LearnerArm] = {
    HISTORY: LearnerArm(),
    STATELESS: LearnerArm(blind=(_PAST,)),
    NO_FORECAST: LearnerArm(blind=(_FORECAST,)),
    STATELESS_NO_FORECAST: LearnerArm(blind=(_PAST, _FORECAST)),
    RECURRENT: LearnerArm(lstm=_UNITS),
    RECURRENT_NO_FORECAST: LearnerArm(blind=(_FORECAST,), lstm=_UNITS),
    UNMASKED: LearnerArm(choice=Choice(masking=False)),
    BUNDLES_ONLY: LearnerArm(choice=Choice(best_bundles=True)),
}
# Name of an ingredient, the arm that has it, the arm that does not.
INGREDIENTS = (
    ("the history of auctions", HISTORY, STATELESS),
    ("the volatility forecast", HISTORY, NO_FORECAST),
    ("the volatility forecast to a stateless learner", STATELESS, STATELESS_NO_FORECAST),
    ("the volatility forecast to a recurrent learner", RECURRENT, RECURRENT_NO_FORECAST),
    ("recurrence", RECURRENT, HISTORY),
    ("masking", HISTORY, UNMASKED),
    ("public bids, half sizes and second opportunities", HISTORY, BUNDLES_ONLY),
)


def blind_columns(prefixes: Sequence[str]) -> NDArray[np.int64]:
    """Columns of the observation whose field names begin with one of `prefixes`.

    Raises ValueError naming a prefix that no field has.
    """
    names = [field.name for field in FIELDS]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"{prefix!r}: no observation field begins so; fields: {names[0]}, ...")
    found = [k for k, name in enumerate(names) if name.startswith(tuple(prefixes))]
    return np.array(found, np.int64)


def blinded(network: Network, columns: NDArray[np.int64]) -> Network:
    """The network with zero weights on input `columns`, its output is that on zeros there."""
    if network.lstm is not None:
        weight = network.lstm.weight_input.copy()
        weight[:, columns] = 0.0
        return network._replace(lstm=network.lstm._replace(weight_input=weight))
    (first, bias), *rest = network.layers
    weight = first.copy()
    weight[:, columns] = 0.0
    return network._replace(layers=((weight, bias), *rest))


class _Choosing:
    """Plays a network on the actions among which it was trained to choose."""

    def __init__(self, network: Network | OnnxNetwork, choice: Choice) -> None:
        self.player, self.choice = network_bidder(network), choice

    def restart(self) -> None:
        self.player.restart()

    def __call__(
        self, observations: NDArray[np.float32], masks: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        return self.player(observations, self.choice.of(masks))


def bidder_of(network: Network | OnnxNetwork, choice: Choice) -> Bidder:
    """Argmax of a network, over the actions among which it was trained to choose."""
    return network_bidder(network) if choice == ALL else _Choosing(network, choice)
