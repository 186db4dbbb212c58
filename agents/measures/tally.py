"""What happened to a searcher, added up per market: money, auctions, and why bids lost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.market.block import OUTCOMES, PASSED, WON
from kernels.checked_arrays import check_indices
from kernels.market.observation import FIELDS, VALUE_CENTRE, VALUE_SCALE

Sums = NDArray[np.float64]

_FIRST_REASON = 2
REASONS = OUTCOMES[_FIRST_REASON:]  # why bids lose
ROUNDING_ETH = 1e-12  # marked rewards of a slot add up to what the block pays up to rounding
_NET = [field.name for field in FIELDS].index("opportunity0_net")


def best_net_eth(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> Sums:
    """Net profit in ETH of the best opportunity on offer, 0 where there is none."""
    log_net = observations[:, _NET].astype(np.float64) * VALUE_SCALE + VALUE_CENTRE
    return np.where(masks[:, 1], np.exp(log_net), 0.0)


class Tally:
    """Sums over slots for each of N markets, float64[N]; money in ETH."""

    def __init__(self, num_envs: int) -> None:
        self.slots = 0
        self.profit_eth = np.zeros(num_envs)
        self.best_response_eth = np.zeros(num_envs)
        self.available_eth = np.zeros(num_envs)
        self.offered = np.zeros(num_envs)  # slots with an opportunity
        self.bids = np.zeros(num_envs)
        self.taken = np.zeros(num_envs)  # bids in slots with an opportunity
        self.outcomes = np.zeros((len(OUTCOMES), num_envs))  # slots by what became of the bid
        self.outcomes_eth = np.zeros((len(OUTCOMES), num_envs))  # net profit bid on by the same
        self.paid_eth = np.zeros(num_envs)  # bids of what was won
        self.passed_eth = np.zeros(num_envs)  # on offer where no bid stood
        self.negative = np.zeros(num_envs)  # slots that cost money
        self.harm_eth = np.zeros(num_envs)  # users' losses to sandwiches, set by who plays
        self._slot_eth = np.zeros(num_envs)  # rewards of the slot so far
        self.bid_on_eth = np.zeros(num_envs)  # net profit of what was bid on
        self.bid_eth = np.zeros(num_envs)

    @property
    def won(self) -> Sums:
        """Bids that won."""
        return self.outcomes[WON]

    @property
    def lost(self) -> dict[str, Sums]:
        """Bids that lost, by reason."""
        return dict(zip(REASONS, self.outcomes[_FIRST_REASON:], strict=True))

    @property
    def lost_eth(self) -> dict[str, Sums]:
        """Net profit of the bids that lost, by reason."""
        return dict(zip(REASONS, self.outcomes_eth[_FIRST_REASON:], strict=True))

    def add(self, available_eth: Sums, rewards: Sums, infos: dict[str, Any]) -> None:
        """Add one decision: what was on offer before it, its rewards and its infos.

        Money counts at every decision, auctions at the last one of a slot, which settles it.
        """
        self.profit_eth += rewards
        self._slot_eth += rewards
        if not infos["settled"].all():
            return
        net, markets = infos["net"], self.profit_eth.size
        outcome = check_indices("outcome", infos["outcome"], markets, len(OUTCOMES), "OUTCOMES")
        self.slots += 1
        self.best_response_eth += infos["best_response"]
        self.available_eth += available_eth
        offered, bid = available_eth > 0.0, outcome != PASSED
        self.offered += offered
        self.bids += bid
        self.taken += bid & offered
        cell = outcome * outcome.size + np.arange(outcome.size)  # each once, so += adds to all
        self.outcomes.reshape(-1)[cell] += 1.0
        self.outcomes_eth.reshape(-1)[cell] += net
        bid_eth = net * infos["own_fraction"]
        self.paid_eth += bid_eth * (outcome == WON)
        self.passed_eth += available_eth * ~bid
        self.negative += self._slot_eth < -ROUNDING_ETH
        self._slot_eth[:] = 0.0
        self.bid_on_eth += net
        self.bid_eth += bid_eth

    def ratios(self) -> dict[str, float]:
        """Rates over all markets together; 0 where nothing was bid or offered."""
        return {
            "profit_per_slot_eth": _ratio(self.profit_eth, self.slots * self.profit_eth.size),
            "share_of_best_response": _ratio(self.profit_eth, self.best_response_eth),
            "share_of_available": _ratio(self.profit_eth, self.available_eth),
            "participation": _ratio(self.taken, self.offered),
            "win_rate": _ratio(self.won, self.bids),
            "bid_share": _ratio(self.bid_eth, self.bid_on_eth),
            "negative_rate": _ratio(self.negative, self.bids),
        } | {f"lost_{name}": _ratio(count, self.bids) for name, count in self.lost.items()}


def joined(tallies: Sequence[Tally]) -> Tally:
    """The markets of several tallies over equally many slots as one tally."""
    whole = Tally(sum(tally.profit_eth.size for tally in tallies))
    whole.slots = tallies[0].slots
    for name, value in vars(whole).items():
        if isinstance(value, np.ndarray):
            parts = [getattr(tally, name) for tally in tallies]
            setattr(whole, name, np.concatenate(parts, axis=-1))
    return whole


def _ratio(part: Sums, whole: Sums | float) -> float:
    total = float(np.sum(whole))
    return float(part.sum()) / total if total > 0.0 else 0.0
