"""Rules of one's own in the comparison, named by import path in `evaluation.rules`.

A rule is anything that is called with the market's configuration and gives a bidder. A bidder is
called at every decision with observations float32[n, SIZE] and masks bool[n, ACTIONS] and gives
actions int[n]; a method `restart` of it is called before other episodes. A rule with settings gives
a dictionary of bidders by the name of the setting: validation episodes choose one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from agents.bidders.arms import POLICY, SCRIPTED, VALIDATION_SEED, play
from agents.bidders.baselines import Bidder, Remembering
from agents.bidders.tuning import Tuned, tune
from agents.measures.intervals import iqm
from envs.market.config import MarketConfig
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from models.extensions import imported, refused, source_digest

KEY = "evaluation.rules"
_TRIED_MARKETS = 3


class Rule(Protocol):
    """What an import path of `evaluation.rules` leads to."""

    def __call__(self, market: MarketConfig) -> Bidder | Mapping[str, Bidder]:
        """A bidder for this market, or bidders by setting."""
        ...


class OwnRule(NamedTuple):
    """A rule that has been imported once and found to work."""

    path: str
    name: str  # of its arm
    digest: str  # of its source file


def load_rules(paths: Sequence[str]) -> list[OwnRule]:
    """Import each rule and try it on one decision. Raises ExtensionError naming path and remedy."""
    rules: list[OwnRule] = []
    for path in paths:
        bidders_of(path, MarketConfig())
        name = path.partition(":")[2]
        taken = {*SCRIPTED, POLICY, *(rule.name for rule in rules)}
        if name in taken:
            raise refused(KEY, path, f"there is another arm {name!r}", "rename the rule")
        rules.append(OwnRule(path, name, source_digest(path)))
    return rules


def bidders_of(path: str, market: MarketConfig) -> dict[str, Bidder]:
    """The bidders of a rule by setting, an empty name without settings; each one decides once."""
    make = imported(path, KEY)
    wanted = "give a function or class that takes a MarketConfig and returns a bidder"
    if not callable(make):
        raise refused(KEY, path, f"it is of type {type(make).__name__}", wanted)
    made: Any = _called(path, "calling it with the market", lambda: make(market))
    bidders: dict[str, Bidder] = dict(made) if isinstance(made, Mapping) else {"": made}
    if not bidders or not all(isinstance(setting, str) for setting in bidders):
        raise refused(KEY, path, "its settings are no names with bidders", wanted)
    for bidder in bidders.values():
        _try(path, bidder, wanted)
    return bidders


def tuned_rule(path: str, market: MarketConfig, validation: MarketVectorEnv) -> Tuned:
    """The rule for a market, with the settings that earn most on `validation` if it has any."""
    bidders = bidders_of(path, market)
    if len(bidders) == 1:
        ((setting, bidder),) = bidders.items()
        return Tuned(bidder, setting, 0)

    def score(bidder: Bidder) -> float:
        return float(iqm(play(bidder, validation, VALIDATION_SEED).profit_eth))

    return tune(score, bidders)


def _try(path: str, bidder: object, wanted: str) -> None:
    """One decision in markets where everything is allowed."""
    if not callable(bidder):
        kind = type(bidder).__name__
        raise refused(KEY, path, f"it gives an object of type {kind}, which cannot bid", wanted)
    observations = np.zeros((_TRIED_MARKETS, SIZE), np.float32)
    masks = np.ones((_TRIED_MARKETS, ACTIONS), np.bool_)
    actions = np.asarray(_called(path, "its bidder", lambda: bidder(observations, masks)))
    if actions.shape != (_TRIED_MARKETS,) or actions.dtype.kind not in "iu":
        found = f"{actions.dtype}{list(actions.shape)}"
        problem = f"its bidder gives {found} for {_TRIED_MARKETS} markets"
        raise refused(KEY, path, problem, "give an integer for each market")
    if actions.min() < 0 or actions.max() >= ACTIONS:
        problem = f"its bidder gives actions {actions.tolist()}"
        raise refused(KEY, path, problem, f"give 0 to {ACTIONS - 1}, indices into ACTION_TABLE")
    remembering: object = bidder
    if isinstance(remembering, Remembering):
        remembering.restart()


def _called(path: str, what: str, call: Callable[[], object]) -> object:
    try:
        return call()
    except Exception as error:  # whatever the rule does
        problem = f"{what} ends in {type(error).__name__}: {error}"
        raise refused(KEY, path, problem, "mend the rule") from error
