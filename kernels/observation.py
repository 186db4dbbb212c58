"""What the policy sees: the field list and the only code that computes it, live and simulated.

Scales are constants, so no running normaliser can differ between training and serving. Every field
is clipped to [-LIMIT, LIMIT]; an absent opportunity or auction is all zeros.
"""

from typing import NamedTuple

import numpy as np

from kernels.action import mask
from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph import HOPS, MAX_HOPS, POOL
from kernels.lending import size_liquidations
from kernels.market import (
    BASE_FEE,
    BUNDLES_TAKEN,
    CONCENTRATED_FROM,
    FORECAST,
    FORECASTS,
    FOUND_AGE,
    FOUND_AMOUNT_IN,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_HALF_NET,
    FOUND_NET,
    FOUND_PUBLIC_BID,
    FOUND_REFUND,
    FOUND_TARGETS,
    GAS_USED_RATIO,
    HISTORY,
    HISTORY_CLEARING,
    HISTORY_COUNT,
    HISTORY_OWN,
    HISTORY_SLOT,
    HISTORY_VALUE,
    HISTORY_WON,
    OPPORTUNITIES,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_VISIBLE,
    SLOT,
    STANDING_CHANNEL,
    STANDING_CYCLE,
    STANDING_FRACTION,
    TICK,
    overlay,
)
from kernels.opportunities import find
from kernels.sizing_filter import size_cycles

LIMIT = 5.0

# ln(net ETH) of bundle payments in 2021 has mean -3.32 and deviation 1.59.
VALUE_CENTRE, VALUE_SCALE = -3.32, 1.6
BASE_FEE_CENTRE = 2.7  # ln(15 gwei)
EDGE_CENTRE, EDGE_SCALE = -5.5, 1.5  # ln(gross / amount in): 0.4 % is typical
AMOUNT_CENTRE, AMOUNT_SCALE = 1.5, 1.5  # ln(hub tokens in)
# ln realised variance of ETH over 5, 15 and 60 minutes: mean and deviation on 1-minute bars.
FORECAST_CENTRE = (-13.0, -11.9, -10.5)
FORECAST_SCALE = 1.3
AGE_SCALE, STALENESS_SCALE = 8.0, 32.0  # slots
MAX_FRACTION_SEEN = 0.999  # keeps the logarithm of 1 - fraction finite
TINY = 1e-12  # under every other logarithm


class Field(NamedTuple):
    """One entry of the observation."""

    name: str
    meaning: str
    unit: str
    scale: str


_GLOBAL_FIELDS = (
    Field("base_fee", "base fee of the block being built", "gwei", "ln(x) - 2.7"),
    Field("gas_used_ratio", "gas used / target of the last block", "1", "x - 1"),
    Field("own_tip", "share of our priority fee in our gas price", "1", "x"),
    Field("forecast_5m", "ln realised variance, next 5 min", "1", "(x + 13.0) / 1.3"),
    Field("forecast_15m", "ln realised variance, next 15 min", "1", "(x + 11.9) / 1.3"),
    Field("forecast_60m", "ln realised variance, next 60 min", "1", "(x + 10.5) / 1.3"),
    Field("pending", "visible pending swaps", "swaps", "x / 8"),
    Field("opportunities", "opportunities found", "candidates", "x / 4"),
    Field("tick", "share of the slot that has passed", "1", "x"),
    Field("bundles_taken", "1 when the proposer takes bundles, 0 when it builds alone", "0/1", "x"),
    Field("standing", "1 when a bid of ours stands in this slot", "0/1", "x"),
    Field("standing_fraction", "that bid / net when it was placed", "1", "-log2(1 - x) / 4"),
    Field("standing_public", "1 when it waits in the public mempool", "0/1", "x"),
    Field("standing_found", "1 when its opportunity is among those found", "0/1", "x"),
)
_OPPORTUNITY_FIELDS = (
    Field("exists", "1 when there is such an opportunity", "0/1", "x"),
    Field("net", "gross - gas", "ETH", "(ln(x) + 3.32) / 1.6"),
    Field("amount_in", "input", "ETH", "(ln(x) - 1.5) / 1.5"),
    Field("edge", "gross / amount in", "1", "(ln(x) + 5.5) / 1.5"),
    Field("gas_share", "gas / gross", "1", "x"),
    Field("three_hops", "1 for three pools", "0/1", "x"),
    Field("targets", "visible pending swaps in its pools", "swaps", "x / 4"),
    Field("age", "slots for which it has stood", "slots", "x / 8"),
    Field("liquidation", "1 when it liquidates a loan", "0/1", "x"),
    Field("concentrated", "hops through concentrated pools", "hops", "x / 3"),
    Field("half", "net at half of the size / net", "1", "x"),
    Field("refund", "1 when a target's back-run is sold by order-flow auction", "0/1", "x"),
    Field("public_bid", "highest rival bid seen in public / net", "1", "-log2(1 - x) / 4"),
    Field("standing", "1 when our standing bid is on it", "0/1", "x"),
)
_HISTORY_FIELDS = (
    Field("net", "net of the opportunity", "ETH", "(ln(x) + 3.32) / 1.6"),
    Field("own", "own bid / net", "1", "-log2(1 - x) / 4"),
    Field("clearing", "highest bid / net, own included", "1", "-log2(1 - x) / 4"),
    Field("won", "1 won, -1 lost, 0 no such auction", "1", "x"),
    Field("staleness", "slots since that auction", "slots", "x / 32"),
)

FIELDS: tuple[Field, ...] = (
    _GLOBAL_FIELDS
    + tuple(
        field._replace(name=f"opportunity{k}_{field.name}")
        for k in range(OPPORTUNITIES)
        for field in _OPPORTUNITY_FIELDS
    )
    + tuple(
        field._replace(name=f"auction{past}_{field.name}")
        for past in range(HISTORY)
        for field in _HISTORY_FIELDS
    )
)
SIZE = len(FIELDS)  # D
OPPORTUNITY_START = len(_GLOBAL_FIELDS)
OPPORTUNITY_STRIDE = len(_OPPORTUNITY_FIELDS)
HISTORY_START = OPPORTUNITY_START + OPPORTUNITIES * OPPORTUNITY_STRIDE
HISTORY_STRIDE = len(_HISTORY_FIELDS)

_LN2 = 0.6931471805599453
_SQRT2 = 1.4142135623730951
_EXPONENT_BIAS = 1023
_MANTISSA_BITS = 52
_ONE_BITS = 0x3FF0000000000000
_MANTISSA_MASK = 0x000FFFFFFFFFFFFF


@inline
def ln(x: float) -> float:
    """Natural logarithm of a positive normal float64, within 1e-9: plain arithmetic.

    libm's logarithm does not promise the same bits on every machine, and is slower.
    """
    bits = np.float64(x).view(np.int64)
    exponent = (bits >> _MANTISSA_BITS) - _EXPONENT_BIAS
    m = np.int64((bits & _MANTISSA_MASK) | _ONE_BITS).view(np.float64)
    upper = m > _SQRT2
    m = m * 0.5 if upper else m
    power = np.float64(exponent) + (1.0 if upper else 0.0)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    series = 1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0))))
    return power * _LN2 + 2.0 * s * series


@inline
def _clip(x: float) -> np.float32:
    """Into the box; what is not a number becomes 0."""
    return np.float32(min(max(x, -LIMIT), LIMIT)) if x == x else np.float32(0.0)


@inline
def _value(net_eth: float) -> float:
    return (ln(max(net_eth, TINY)) - VALUE_CENTRE) / VALUE_SCALE


@inline
def _gap(fraction: float) -> float:
    """Bid fraction on the scale of the bid grid: 0 -> 0, 0.5 -> 0.25, 0.99 -> 1.66."""
    return -ln(1.0 - min(max(fraction, 0.0), MAX_FRACTION_SEEN)) / (4.0 * _LN2)


def fraction_of(gap: np.ndarray) -> np.ndarray:
    """Bid fractions from the fields `own` and `clearing` of an observation: the inverse scale."""
    return 1.0 - np.exp2(-4.0 * gap)


@lean_kernel
def record_auction(
    tile: np.ndarray,
    lane: int,
    net_eth: float,
    own_fraction: float,
    clearing_fraction: float,
    won: bool,
) -> None:
    """Put one auction of this searcher at the front of the history of `lane`.

    `clearing_fraction` is the highest bid / net, our own included; a server that lost and cannot
    read the winner's payment passes its own fraction. The slot is taken from the tile.
    """
    never_inline()
    for row in (HISTORY_VALUE, HISTORY_OWN, HISTORY_CLEARING, HISTORY_WON, HISTORY_SLOT):
        for past in range(HISTORY - 1, 0, -1):
            tile[row + past, lane] = tile[row + past - 1, lane]
    tile[HISTORY_VALUE, lane] = _value(net_eth)
    tile[HISTORY_OWN, lane] = _gap(own_fraction)
    tile[HISTORY_CLEARING, lane] = _gap(clearing_fraction)
    tile[HISTORY_WON, lane] = 1.0 if won else -1.0
    tile[HISTORY_SLOT, lane] = tile[SLOT, lane]
    tile[HISTORY_COUNT, lane] += 1.0


@inline
def _encode_global(tile: np.ndarray, lane: int, row: np.ndarray) -> None:
    pending, found, standing_found = 0.0, 0.0, 0.0
    for swap in range(PENDING):
        visible = tile[PENDING_VISIBLE + swap, lane] > 0.0
        present = tile[PENDING_AMOUNT_IN + swap, lane] > 0.0
        pending += 1.0 if visible & present else 0.0
    standing = tile[STANDING_CYCLE, lane]
    for k in range(OPPORTUNITIES):
        candidate = tile[FOUND_CYCLE + k, lane]
        found += 1.0 if candidate >= 0.0 else 0.0
        standing_found = 1.0 if (candidate == standing) & (candidate >= 0.0) else standing_found
    tip = max(tile[OWN_TIP, lane], 0.0)
    row[0] = _clip(ln(max(tile[BASE_FEE, lane], TINY)) - BASE_FEE_CENTRE)
    row[1] = _clip(tile[GAS_USED_RATIO, lane] - 1.0)
    row[2] = _clip(tip / max(tile[BASE_FEE, lane] + tip, TINY))
    for horizon in range(FORECASTS):
        log_variance = tile[FORECAST + horizon, lane] - FORECAST_CENTRE[horizon]
        row[3 + horizon] = _clip(log_variance / FORECAST_SCALE)
    at = 3 + FORECASTS
    row[at] = _clip(pending / PENDING)
    row[at + 1] = _clip(found / OPPORTUNITIES)
    row[at + 2] = _clip(tile[TICK, lane])
    row[at + 3] = _clip(tile[BUNDLES_TAKEN, lane])
    stands = standing >= 0.0
    row[at + 4] = np.float32(1.0) if stands else np.float32(0.0)
    row[at + 5] = _clip(_gap(tile[STANDING_FRACTION, lane])) if stands else np.float32(0.0)
    row[at + 6] = _clip(tile[STANDING_CHANNEL, lane]) if stands else np.float32(0.0)
    row[at + 7] = np.float32(standing_found)


@inline
def _encode_opportunity(
    cycles: np.ndarray, tile: np.ndarray, lane: int, k: int, row: np.ndarray
) -> None:
    at = OPPORTUNITY_START + k * OPPORTUNITY_STRIDE
    candidate = int(tile[FOUND_CYCLE + k, lane])
    if candidate < 0:
        for field in range(OPPORTUNITY_STRIDE):
            row[at + field] = np.float32(0.0)
        return
    net, gross = tile[FOUND_NET + k, lane], max(tile[FOUND_GROSS + k, lane], TINY)
    ln_amount = ln(max(tile[FOUND_AMOUNT_IN + k, lane], TINY))
    bits, targets = int(tile[FOUND_TARGETS + k, lane]), 0
    for swap in range(PENDING):
        targets += (bits >> swap) & 1
    cycle = candidate < cycles.shape[0]
    three, concentrated = 0.0, 0.0
    if cycle:
        three = 1.0 if cycles[candidate, HOPS] == 3 else 0.0
        pools = int(tile[CONCENTRATED_FROM, lane])
        for hop in range(MAX_HOPS):
            concentrated += 1.0 if cycles[candidate, POOL + hop] >= pools else 0.0
    row[at] = np.float32(1.0)
    row[at + 1] = _clip(_value(net))
    row[at + 2] = _clip((ln_amount - AMOUNT_CENTRE) / AMOUNT_SCALE)
    row[at + 3] = _clip((ln(gross) - ln_amount - EDGE_CENTRE) / EDGE_SCALE)
    row[at + 4] = _clip(1.0 - net / gross)
    row[at + 5] = np.float32(three)
    row[at + 6] = _clip(0.25 * targets)
    row[at + 7] = _clip(tile[FOUND_AGE + k, lane] / AGE_SCALE)
    row[at + 8] = np.float32(0.0) if cycle else np.float32(1.0)
    row[at + 9] = _clip(concentrated / MAX_HOPS)
    row[at + 10] = _clip(tile[FOUND_HALF_NET + k, lane] / max(net, TINY))
    row[at + 11] = _clip(tile[FOUND_REFUND + k, lane])
    row[at + 12] = _clip(_gap(tile[FOUND_PUBLIC_BID + k, lane]))
    row[at + 13] = np.float32(1.0 if tile[STANDING_CYCLE, lane] == candidate else 0.0)


@inline
def _encode_history(tile: np.ndarray, lane: int, row: np.ndarray) -> None:
    now = tile[SLOT, lane]
    for past in range(HISTORY):
        at = HISTORY_START + past * HISTORY_STRIDE
        won = tile[HISTORY_WON + past, lane]
        slots = now - tile[HISTORY_SLOT + past, lane]
        row[at] = _clip(tile[HISTORY_VALUE + past, lane])
        row[at + 1] = _clip(tile[HISTORY_OWN + past, lane])
        row[at + 2] = _clip(tile[HISTORY_CLEARING + past, lane])
        row[at + 3] = _clip(won)
        row[at + 4] = _clip(abs(won) * slots / STALENESS_SCALE)


@lean_kernel
def encode(cycles: np.ndarray, tile: np.ndarray, out: np.ndarray) -> None:
    """Write float32[lanes, SIZE], the fields of FIELDS in order; opportunities.find ran before.

    `cycles` is that of the Graph.
    """
    never_inline()
    for lane in range(tile.shape[1]):
        row = out[lane]
        _encode_global(tile, lane, row)
        for k in range(OPPORTUNITIES):
            _encode_opportunity(cycles, tile, lane, k, row)
        _encode_history(tile, lane, row)


@lean_kernel
def search(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """From a changed tile to its opportunities: overlay, size, find."""
    never_inline()
    overlay(cycles, weights, tile)
    size_cycles(cycles, weights, tile)
    size_liquidations(cycles, weights, tile)
    find(cycles, weights, tile)


@lean_kernel
def observe(
    cycles: np.ndarray,
    weights: np.ndarray,
    tile: np.ndarray,
    observation: np.ndarray,
    actions: np.ndarray,
) -> None:
    """Everything between a changed tile and a decision: search, encode, mask.

    `cycles` and `weights` are those of the Graph; `observation` is float32[lanes, SIZE], `actions`
    bool[lanes, ACTIONS]; both are written whole.
    """
    search(cycles, weights, tile)
    encode(cycles, tile, observation)
    mask(tile, actions)
