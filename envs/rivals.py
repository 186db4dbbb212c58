"""Other searchers: how many look at an opportunity and what they bid, by four fixed rules.

Their number, the mix of their rules and how much of the profit they can capture (efficiency)
depend on a hidden competition regime, so that past clearing bids tell about future ones.
"""

import numpy as np

from envs.market import RULES
from envs.physics import EFFICIENCY, Physics
from envs.randomness import draw, quantile, uniform
from kernels.compile import kernel
from kernels.market import FOUND_AGE, FOUND_GROSS, FOUND_NET
from kernels.observation import VALUE_CENTRE, VALUE_SCALE, ln

RIVALS_CHANNEL = 256  # of opportunity 0; the next opportunity is RIVALS_STRIDE further
RIVALS_STRIDE = 64
MAX_RIVALS = 32
MAX_LOG_RATE = 3.0  # at most 20 rivals on average, however large the value

SHARE_80 = 0
SHARE_90 = 1
CLAMPED = 2
TRUE_VALUE = 3

CLAMPED_SHARE = 1.25  # gross / 1.25
AGE_DECAY = 0.25  # divided by 1 + 0.25 * age
GWEI = 1e-9
# Dividing by a small count is what costs in the Poisson loop.
_RECIPROCAL = 1.0 / np.maximum(np.arange(MAX_RIVALS + 1), 1)
_EIGHT_BITS = 1.0 / 256.0
_TWENTY_FOUR_BITS = 1.0 / 16777216.0


@kernel
def rule_bid(
    rule: int, net: float, gross: float, gas: float, age: float, low_gwei: float, high_gwei: float
) -> float:
    """The bid in ETH of one fixed rule on what the rival believes: net and gross profit in ETH.

    80 % of net; 90 % of net; gross / 1.25, decayed by 1 / (1 + 0.25 age) and clamped as a priority
    fee over `gas` units to [low, high]; net itself. Nobody bids above the believed net.
    """
    if rule == SHARE_80:
        return 0.8 * net
    if rule == SHARE_90:
        return 0.9 * net
    if rule == CLAMPED:
        unit = gas * GWEI
        bid = gross / (CLAMPED_SHARE * (1.0 + AGE_DECAY * age))
        return min(min(max(bid, low_gwei * unit), high_gwei * unit), net)
    return net


@kernel
def rival_count(log_rate: float, u: float) -> int:
    """Poisson quantile at u for the mean exp(log_rate), at most MAX_RIVALS."""
    mean = np.exp(min(log_rate, MAX_LOG_RATE))
    term = np.exp(-mean)
    total = term
    count = 0
    while u >= total and count < MAX_RIVALS:
        count += 1
        term *= mean * _RECIPROCAL[count]
        total += term
    return count


@kernel
def rival_bids(
    physics: Physics,
    tile: np.ndarray,
    lane: int,
    regime: int,
    k: int,
    gas: float,
    key: np.uint64,
    bids: np.ndarray,
) -> int:
    """Draw the rivals of opportunity k; their bids in ETH go to bids[0 .. count - 1].

    The Poisson rate grows with the value: ln rate = A + slope (ln net + 3.32) / 1.6. A rival of
    efficiency e believes that net is e times what it is.
    """
    net, gross, age = (
        tile[FOUND_NET + k, lane],
        tile[FOUND_GROSS + k, lane],
        tile[FOUND_AGE + k, lane],
    )
    channel = RIVALS_CHANNEL + k * RIVALS_STRIDE
    z = (ln(net) - VALUE_CENTRE) / VALUE_SCALE
    log_rate = physics.rival_log_rate[regime] + physics.value_slope * z
    count = rival_count(log_rate, uniform(key, channel))
    low, high = physics.clamp_low, physics.clamp_high
    for rival in range(count):
        # 8 bits choose the rule, 24 the efficiency.
        bits = int(draw(key, channel + 1 + rival))
        u = (bits & 0xFF) * _EIGHT_BITS
        rule = 0
        while rule < RULES - 1 and u >= physics.rule_cdf[regime, rule]:
            rule += 1
        u = (bits >> 8) * _TWENTY_FOUR_BITS
        efficiency = quantile(physics.quantiles, EFFICIENCY + regime, u)
        bids[rival] = rule_bid(rule, efficiency * net, efficiency * gross, gas, age, low, high)
    return count
