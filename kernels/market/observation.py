"""What the policy sees: the field list and the only code that computes it, live and simulated.

Scales are constants, so no running normaliser can differ between training and serving. Every field
is clipped to [-LIMIT, LIMIT]; an absent opportunity or auction is all zeros.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph.market_graph import MAX_HOPS
from kernels.market.action import mask
from kernels.market.amm import overlay
from kernels.market.lending import size_liquidations
from kernels.market.opportunities import find
from kernels.market.sizing import size_cycles
from kernels.market.tile import (
    BASE_FEE,
    BUNDLES_TAKEN,
    FORECAST,
    FOUND_AGE,
    FOUND_AMOUNT_IN,
    FOUND_CONCENTRATED,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_HALF_NET,
    FOUND_NET,
    FOUND_POOLS,
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
    LANES,
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
)
from kernels.numbers.elementary import ln
from kernels.numbers.lanes import (
    WIDTH,
    Floats,
    Masks,
    any_lane,
    choose,
    least,
    load,
    most,
    real,
    store_fields,
    whole,
    wide,
)

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


@inline
def _clip(x: Floats) -> Floats:
    """Into the box; what is not a number becomes 0."""
    return choose(x == x, least(most(x, -LIMIT), LIMIT), 0.0)


@inline
def _flag(mask: Masks) -> Floats:
    return choose(mask, 1.0, 0.0)


@inline
def _value(net_eth: Floats) -> Floats:
    return (ln(most(net_eth, TINY)) - VALUE_CENTRE) / VALUE_SCALE


@inline
def _gap(fraction: Floats) -> Floats:
    """Bid fraction on the scale of the bid grid: 0 -> 0, 0.5 -> 0.25, 0.99 -> 1.66."""
    return ln(1.0 - least(most(fraction, 0.0), MAX_FRACTION_SEEN)) / (-4.0 * _LN2)


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
def _encode_global(tile: np.ndarray, lane: int, like: Floats, out: np.ndarray) -> None:
    pending, found, standing_found = like, like, like
    for swap in range(PENDING):
        visible = load(tile, PENDING_VISIBLE + swap, lane, like) > 0.0
        present = load(tile, PENDING_AMOUNT_IN + swap, lane, like) > 0.0
        pending += _flag(visible & present)
    standing = load(tile, STANDING_CYCLE, lane, like)
    for k in range(OPPORTUNITIES):
        candidate = load(tile, FOUND_CYCLE + k, lane, like)
        exists = candidate >= 0.0
        found += _flag(exists)
        standing_found = choose(exists & (candidate == standing), 1.0, standing_found)
    stands = standing >= 0.0
    fee = most(load(tile, BASE_FEE, lane, like), TINY)
    tip = most(load(tile, OWN_TIP, lane, like), 0.0)
    forecast = FORECAST
    fields = (
        _clip(ln(fee) - BASE_FEE_CENTRE),
        _clip(load(tile, GAS_USED_RATIO, lane, like) - 1.0),
        _clip(tip / (fee + tip)),
        _clip((load(tile, forecast, lane, like) - FORECAST_CENTRE[0]) / FORECAST_SCALE),
        _clip((load(tile, forecast + 1, lane, like) - FORECAST_CENTRE[1]) / FORECAST_SCALE),
        _clip((load(tile, forecast + 2, lane, like) - FORECAST_CENTRE[2]) / FORECAST_SCALE),
        _clip(pending / PENDING),
        _clip(found / OPPORTUNITIES),
        _clip(load(tile, TICK, lane, like)),
        _clip(load(tile, BUNDLES_TAKEN, lane, like)),
        _flag(stands),
        choose(stands, _clip(_gap(load(tile, STANDING_FRACTION, lane, like))), 0.0),
        choose(stands, _clip(load(tile, STANDING_CHANNEL, lane, like)), 0.0),
        standing_found,
    )
    store_fields(out, lane, 0, like == 0.0, fields)


@inline
def _leave_out(lane: int, at: int, like: Floats, out: np.ndarray) -> None:
    """An opportunity that no lane has."""
    zeros = (like, like, like, like, like, like, like)
    store_fields(out, lane, at, like == 0.0, zeros + zeros)


@inline
def _encode_opportunity(tile: np.ndarray, lane: int, k: int, like: Floats, out: np.ndarray) -> None:
    at = OPPORTUNITY_START + k * OPPORTUNITY_STRIDE
    candidate = load(tile, FOUND_CYCLE + k, lane, like)
    exists = candidate >= 0.0
    if not any_lane(exists):
        _leave_out(lane, at, like, out)
        return
    net = load(tile, FOUND_NET + k, lane, like)
    gross = most(load(tile, FOUND_GROSS + k, lane, like), TINY)
    ln_amount = ln(most(load(tile, FOUND_AMOUNT_IN + k, lane, like), TINY))
    bits, targets = whole(load(tile, FOUND_TARGETS + k, lane, like)), whole(like)
    for swap in range(PENDING):
        targets += (bits >> swap) & 1
    pools = load(tile, FOUND_POOLS + k, lane, like)
    half = load(tile, FOUND_HALF_NET + k, lane, like) / most(net, TINY)
    standing = load(tile, STANDING_CYCLE, lane, like) == candidate
    fields = (
        _flag(exists),
        _clip(_value(net)),
        _clip((ln_amount - AMOUNT_CENTRE) / AMOUNT_SCALE),
        _clip((ln(gross) - ln_amount - EDGE_CENTRE) / EDGE_SCALE),
        _clip(1.0 - net / gross),
        _flag(pools == MAX_HOPS),
        _clip(0.25 * real(targets)),
        _clip(load(tile, FOUND_AGE + k, lane, like) / AGE_SCALE),
        _flag(pools == 1.0),
        _clip(load(tile, FOUND_CONCENTRATED + k, lane, like) / MAX_HOPS),
        _clip(half),
        _clip(load(tile, FOUND_REFUND + k, lane, like)),
        _clip(_gap(load(tile, FOUND_PUBLIC_BID + k, lane, like))),
        _flag(standing),
    )
    store_fields(out, lane, at, exists, fields)


@inline
def _encode_auction(
    tile: np.ndarray, lane: int, past: int, like: Floats
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    won = load(tile, HISTORY_WON + past, lane, like)
    slots = load(tile, SLOT, lane, like) - load(tile, HISTORY_SLOT + past, lane, like)
    return (
        _clip(load(tile, HISTORY_VALUE + past, lane, like)),
        _clip(load(tile, HISTORY_OWN + past, lane, like)),
        _clip(load(tile, HISTORY_CLEARING + past, lane, like)),
        _clip(won),
        _clip(won * won * slots / STALENESS_SCALE),
    )


@inline
def _encode_history(tile: np.ndarray, lane: int, like: Floats, out: np.ndarray) -> None:
    # Four at a time fill whole vectors of fields but for four.
    for past in range(0, HISTORY, 4):
        fields = (
            _encode_auction(tile, lane, past, like)
            + _encode_auction(tile, lane, past + 1, like)
            + _encode_auction(tile, lane, past + 2, like)
            + _encode_auction(tile, lane, past + 3, like)
        )
        store_fields(out, lane, HISTORY_START + past * HISTORY_STRIDE, like == 0.0, fields)


@inline
def _encode_lanes(tile: np.ndarray, lane: int, like: Floats, out: np.ndarray) -> None:
    _encode_global(tile, lane, like, out)
    for k in range(OPPORTUNITIES):
        _encode_opportunity(tile, lane, k, like, out)


@lean_kernel
def encode(tile: np.ndarray, out: np.ndarray) -> None:
    """Write float32[lanes, SIZE], the fields of FIELDS in order; opportunities.find ran before."""
    encode_slot(tile, out)
    _encode_past(tile, out)


@lean_kernel
def _encode_past(tile: np.ndarray, out: np.ndarray) -> None:
    """The fields of past auctions."""
    never_inline()
    if tile.shape[1] == LANES:
        for lane in range(0, LANES, WIDTH):
            _encode_history(tile, lane, wide(), out)
    else:
        for lane in range(tile.shape[1]):
            _encode_history(tile, lane, 0.0, out)


@lean_kernel
def encode_slot(tile: np.ndarray, out: np.ndarray) -> None:
    """`encode` of all that changes within a slot: what is known of past auctions stays in `out`."""
    never_inline()
    if tile.shape[1] == LANES:
        for lane in range(0, LANES, WIDTH):
            _encode_lanes(tile, lane, wide(), out)
    else:
        for lane in range(tile.shape[1]):
            _encode_lanes(tile, lane, 0.0, out)


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
    encode(tile, observation)
    mask(tile, actions)
