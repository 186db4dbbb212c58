"""Scripted bidders: what searchers do without learning, on the same observations and actions.

The fixed rules are those in use by public searchers (docs/environment.md): 80 % of profit, 90 %,
and gross / 1.25 with a decay over the opportunity's age. All bid on the most profitable one.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from envs.market.config import MarketConfig
from kernels.market.action import BID_PPM, BIDS, PASS, PPM
from kernels.market.observation import AGE_SCALE, BASE_FEE_CENTRE, FIELDS, VALUE_CENTRE, VALUE_SCALE
from models.frozen import Network, OnnxNetwork, Player, compile_network

Observations = NDArray[np.float32]
Masks = NDArray[np.bool_]
Actions = NDArray[np.int64]
Bidder = Callable[[Observations, Masks], Actions]


@runtime_checkable
class Remembering(Protocol):
    """A bidder with a state per market, to be forgotten before other episodes."""

    def restart(self) -> None:
        """All markets begin anew."""
        ...


FRACTIONS: NDArray[np.float64] = BID_PPM / PPM
GROSS_DIVISOR = 1.25
AGE_DECAY = 0.25

_NAMES = [field.name for field in FIELDS]
_BASE_FEE = _NAMES.index("base_fee")
_OWN_TIP = _NAMES.index("own_tip")
NET = _NAMES.index("opportunity0_net")  # column of the best opportunity's net profit
_GAS_SHARE = _NAMES.index("opportunity0_gas_share")
_AGE = _NAMES.index("opportunity0_age")
_FIRST_BID = 1  # action of the lowest bid on the best opportunity


def nearest_bid(fraction: float | NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into the bid grid of the fraction nearest to the wanted one."""
    wanted = np.asarray(fraction, np.float64)[..., None]
    return np.abs(FRACTIONS - wanted).argmin(axis=-1)


def no_op(observations: Observations, masks: Masks) -> Actions:
    """Never bids."""
    return np.full(len(observations), PASS, np.int64)


def bid_on_best(bids: NDArray[np.int64] | int, masks: Masks) -> Actions:
    """Actions that bid grid entries `bids` on the most profitable opportunity, or pass."""
    return np.where(masks[:, _FIRST_BID], _FIRST_BID + bids, PASS).astype(np.int64)


def static(bid: int) -> Bidder:
    """Always bids entry `bid` of the grid on the most profitable opportunity."""
    if not 0 <= bid < BIDS:
        raise ValueError(f"bid {bid} is outside 0 .. {BIDS - 1}: it is an index into BID_PPM")

    def decide(observations: Observations, masks: Masks) -> Actions:
        return bid_on_best(bid, masks)

    return decide


def greedy(fraction: float) -> Bidder:
    """Always bids the grid fraction nearest to `fraction` on the most profitable opportunity."""
    return static(int(nearest_bid(fraction)))


def gross_rule(market: MarketConfig) -> Bidder:
    """Bids gross / 1.25 / (1 + age / 4) as a priority fee clamped to [p10 + 1, p50 + 1] gwei.

    The third rule of envs.market.rivals with nothing hidden from it, to the nearest bid of the
    grid. The clamp comes from the market's fee history; it makes the rule bid little on large
    profits.
    """
    low, high = market.rivals.clamp_gwei

    def decide(observations: Observations, masks: Masks) -> Actions:
        seen = observations.astype(np.float64)
        net_eth = np.exp(seen[:, NET] * VALUE_SCALE + VALUE_CENTRE)
        gas_share = np.clip(seen[:, _GAS_SHARE], 0.0, 1.0 - 1e-6)
        gross_eth = net_eth / (1.0 - gas_share)
        base_fee_gwei = np.exp(seen[:, _BASE_FEE] + BASE_FEE_CENTRE)
        price_gwei = base_fee_gwei / (1.0 - seen[:, _OWN_TIP])
        gas_gwei = np.maximum(gross_eth * gas_share / price_gwei, 1e-18)  # gas units, in ETH
        age_slots = seen[:, _AGE] * AGE_SCALE
        fee_gwei = gross_eth / (GROSS_DIVISOR * (1.0 + AGE_DECAY * age_slots)) / gas_gwei
        bids = nearest_bid(np.clip(fee_gwei, low, high) * gas_gwei / net_eth)
        return bid_on_best(bids, masks)

    return decide


def network_bidder(network: Network | OnnxNetwork) -> Player:
    """Argmax of a network, run as the server runs it: as the frozen policy will decide."""
    return Player(compile_network(network))
