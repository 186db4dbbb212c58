"""The inputs of the volatility forecast, one state array per asset updated bar by bar.

History and live feed call the same two kernels (`update_bar`, `encode_inputs`), so a forecast
served is the forecast trained. Estimators: Corsi (2009) HAR, Parkinson (1980) range,
Barndorff-Nielsen and Shephard (2004) bipower, Andersen, Dobrev and Schaumburg (2012) MedRV.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compile import inline, kernel, lean_kernel

BLOCK_MINUTES = 5  # one origin per closed 5-minute block of the UTC clock
DAY_BLOCKS = 1440 // BLOCK_MINUTES
WEEK_BLOCKS = 7 * DAY_BLOCKS
VARIANCE_FLOOR = (0.1e-4) ** 2  # (0.1 basis point)^2 per minute: BTC prints still bars
VOLUME_FLOOR = 1e-9

HALF_LIVES_MINUTES = (2.0, 10.0, 60.0, 360.0, 4320.0)
_HALF_LIVES = np.array(HALF_LIVES_MINUTES)
_PROFILE_BLOCKS = 13  # the diurnal profile is smoothed over 65 minutes
_DAILY_HARMONICS = 6
_WEEKEND_HARMONICS = 3
_EVENT_MINUTES = np.array([0, 480, 750, 810, 840])  # funding, European and US openings and news

OWN_FEATURES = [
    *("rv5", "rv15", "rv60", "rv240"),  # log realised variance, relative to the day's
    *("ew2", "ew10", "ew60", "ew360", "ew4320"),  # exponentially weighted, half-life in minutes
    *("pk1", "pk5", "pk15", "pk60", "pk1440"),  # Parkinson range; pk1 is the last bar
    *("vo5", "vo60"),  # log volume
    *("bipower60", "medrv60", "medrv1440"),  # jump-robust against realised variance
    *("return5", "return60", "return1440", "abs_return5"),
    *("downside60", "still60"),  # share of negative semivariance, share of zero returns
    "profile7",  # the previous days' variance at the target's time of day
]
SEASON_FEATURES = (
    [f"day_{f}{k}" for k in range(1, _DAILY_HARMONICS + 1) for f in ("sin", "cos")]
    + [f"weekend_{f}{k}" for k in range(1, _WEEKEND_HARMONICS + 1) for f in ("sin", "cos")]
    + ["weekend", "monday"]
    + [f"slot{k}" for k in range(11)]
    + [f"event{int(m) // 60:02d}{int(m) % 60:02d}" for m in _EVENT_MINUTES]
)
OTHER_FEATURES = ["other_known", "other_rv5", "other_rv60", "other_pk5", "other_vo5"]
FEATURES = tuple(OWN_FEATURES + SEASON_FEATURES + OTHER_FEATURES + ["is_eth", "level"])
N_FEATURES = len(FEATURES)
_N_OWN = len(OWN_FEATURES)
_N_SEASON = len(SEASON_FEATURES)

# Status of `update_bar`.
WARMING, ORIGIN, CLOSED, STALE, BAD_BAR = 0, 1, 2, 3, 4

# The state of one asset: scalars, then the open block, averages, own features, rings.
_END = 0  # minute at which the last bar closed, -1 before the first
_LOG_CLOSE = 1
_ABS_RETURN = 2  # |r| of the last bar, then of the one before
_RETURNS = 4  # returns since the last gap, capped at 3
_BARS = 5  # bars in the open block, -1 while waiting for a block boundary
_BLOCKS = 6  # complete blocks since the last gap
_ORIGIN_MINUTE = 7  # minute of the last origin, -1 before the first
_LAST_PK = 8
_EW = 9  # numerators, then denominators
_OPEN = _EW + 2 * len(HALF_LIVES_MINUTES)
# Columns of a block: sums over its bars, then the log variance per minute.
_R, _R2, _PK, _VO, _BV, _MED, _DOWN, _STILL, _LOG_RV = range(9)
_COLUMNS = 9
_OWN = _OPEN + _COLUMNS
_LEVEL = _OWN + _N_OWN
_VOLUME5 = _LEVEL + 1  # log volume of 5 minutes relative to the day, read by the other asset
_SUMS = _VOLUME5 + 1  # scratch: column sums of the last 1, 3, 12, 13, 48 and 288 blocks
_RING = _SUMS + 6 * _COLUMNS
_PROFILE = _RING + DAY_BLOCKS * _COLUMNS
STATE_SIZE = _PROFILE + WEEK_BLOCKS

_PARKINSON = 1.0 / (4.0 * math.log(2.0))
_BIPOWER = math.pi / 2.0
_MEDRV = math.pi / (6.0 - 4.0 * math.sqrt(3.0) + math.pi)


def new_states(n_assets: int) -> np.ndarray:
    """States of n assets before their first bar: float64[n, STATE_SIZE]."""
    states = np.zeros((n_assets, STATE_SIZE))
    states[:, _END] = -1.0
    states[:, _ORIGIN_MINUTE] = -1.0
    return states


@inline
def _start_window(state: np.ndarray, log_open: float) -> None:
    """Forget everything: a gap in the bars starts a new window with its own warm-up."""
    for k in range(STATE_SIZE):
        state[k] = 0.0
    state[_LOG_CLOSE] = log_open
    state[_BARS] = -1.0
    state[_ORIGIN_MINUTE] = -1.0


@inline
def _median3(a: float, b: float, c: float) -> float:
    return max(min(a, b), min(max(a, b), c))


@inline
def _log_floor(variance_per_minute: float) -> float:
    return math.log(max(variance_per_minute, VARIANCE_FLOOR))


@kernel
def update_bar(
    state: np.ndarray,
    bar_minutes: int,
    minute: int,
    open_: float,
    high: float,
    low: float,
    close: float,
    volume: float,
) -> int:
    """Add one closed bar to an asset's state; `minute` is its open, minutes since the epoch UTC.

    Returns ORIGIN when a block closed and a day of blocks is known (the row may be encoded),
    CLOSED when a block closed during the warm-up, WARMING inside a block. STALE (a bar not after
    the last one) and BAD_BAR (not finite, not positive, or OHLC out of order) leave the state
    as it was. A missing bar starts the warm-up again, in history as in live service. In one piece:
    every line reads or moves the same few numbers of the state.
    """
    if not math.isfinite(open_ + high + low + close + volume):
        return BAD_BAR
    if not (0.0 < low <= min(open_, close) and max(open_, close) <= high and volume >= 0.0):
        return BAD_BAR
    if state[_END] >= 0.0 and minute < state[_END]:
        return STALE
    if state[_END] != minute:
        _start_window(state, math.log(open_))
    log_close = math.log(close)
    r = log_close - state[_LOG_CLOSE]
    r2 = r * r
    range_ = math.log(high / low)
    pk = range_ * range_ * _PARKINSON
    if minute % BLOCK_MINUTES == 0:
        state[_BARS] = 0.0
        for c in range(_COLUMNS):
            state[_OPEN + c] = 0.0
    for k in range(_HALF_LIVES.size):
        decay = 0.5 ** (bar_minutes / _HALF_LIVES[k])
        state[_EW + k] = state[_EW + k] * decay + r2 / bar_minutes
        state[_EW + _HALF_LIVES.size + k] = state[_EW + _HALF_LIVES.size + k] * decay + 1.0
    if state[_BARS] >= 0.0:
        state[_OPEN + _R] += r
        state[_OPEN + _R2] += r2
        state[_OPEN + _PK] += pk
        state[_OPEN + _VO] += volume
        if state[_RETURNS] >= 1.0:
            state[_OPEN + _BV] += _BIPOWER * abs(r) * state[_ABS_RETURN]
        if state[_RETURNS] >= 2.0:
            median = _median3(abs(r), state[_ABS_RETURN], state[_ABS_RETURN + 1])
            state[_OPEN + _MED] += _MEDRV * median * median
        if r < 0.0:
            state[_OPEN + _DOWN] += r2
        if r == 0.0:
            state[_OPEN + _STILL] += 1.0
        state[_BARS] += 1.0
    state[_RETURNS] = min(state[_RETURNS] + 1.0, 3.0)
    state[_ABS_RETURN + 1] = state[_ABS_RETURN]
    state[_ABS_RETURN] = abs(r)
    state[_LOG_CLOSE] = log_close
    state[_LAST_PK] = pk
    state[_END] = minute + bar_minutes
    if state[_BARS] * bar_minutes != BLOCK_MINUTES:
        return WARMING
    state[_BARS] = -1.0
    return _close_block(state, bar_minutes)


@inline
def _block_sums(state: np.ndarray, blocks: int) -> None:
    """Column sums of the last 1, 3, 12, 13, 48 and 288 blocks (or all known), newest first.

    Added afresh at every origin: a running sum would carry the rounding of loud days into quiet
    ones and depend on when the state was started.
    """
    day = _SUMS + 5 * _COLUMNS
    for c in range(_COLUMNS):
        state[day + c] = 0.0
    at = _RING + ((blocks - 1) % DAY_BLOCKS) * _COLUMNS
    for k in range(min(blocks, DAY_BLOCKS)):
        for c in range(_COLUMNS):
            state[day + c] += state[at + c]
        at = at - _COLUMNS if at > _RING else _RING + (DAY_BLOCKS - 1) * _COLUMNS
        part = 0 if k == 0 else 1 if k == 2 else 2 if k == 11 else 3 if k == 12 else 4
        if part < 4 or k == 47:
            for c in range(_COLUMNS):
                state[_SUMS + part * _COLUMNS + c] = state[day + c]


@kernel
def _close_block(state: np.ndarray, bar_minutes: int) -> int:
    """Move the open block into the rings; compute the asset's own features when warm."""
    blocks = int(state[_BLOCKS])
    state[_OPEN + _LOG_RV] = _log_floor(state[_OPEN + _R2] / BLOCK_MINUTES)
    at = _RING + (blocks % DAY_BLOCKS) * _COLUMNS
    for c in range(_COLUMNS):
        state[at + c] = state[_OPEN + c]
    blocks += 1
    state[_BLOCKS] = blocks
    _block_sums(state, blocks)
    if blocks >= _PROFILE_BLOCKS:
        hour = state[_SUMS + 3 * _COLUMNS + _LOG_RV] / _PROFILE_BLOCKS
        day = state[_SUMS + 5 * _COLUMNS + _LOG_RV] / min(blocks, DAY_BLOCKS)
        state[_PROFILE + (blocks - 1) % WEEK_BLOCKS] = hour - day
    if blocks < DAY_BLOCKS:
        return CLOSED
    state[_ORIGIN_MINUTE] = state[_END]
    _own_features(state, bar_minutes)
    return ORIGIN


@inline
def _profile(state: np.ndarray, blocks: int) -> float:
    """Mean deviation from the day's log variance at the target's time, previous 1-7 days."""
    total = 0.0
    count = 0
    for k in range(1, 8):
        number = blocks - 1 - (k * DAY_BLOCKS - 7)  # its window ended 35 minutes later
        if number >= _PROFILE_BLOCKS - 1:
            total += state[_PROFILE + number % WEEK_BLOCKS]
            count += 1
    return total / max(count, 1)


@kernel
def _own_features(state: np.ndarray, bar_minutes: int) -> None:
    """Logs and ratios of the sums over the last 5 to 1440 minutes, in the order OWN_FEATURES."""
    blocks = int(state[_BLOCKS])
    sums = state[_SUMS : _SUMS + 6 * _COLUMNS]
    r5, r15, r60 = sums[:_COLUMNS], sums[_COLUMNS:], sums[2 * _COLUMNS :]
    r240, r1440 = sums[4 * _COLUMNS :], sums[5 * _COLUMNS :]
    level = _log_floor(r1440[_R2] / 1440.0)
    volume_level = math.log(r1440[_VO] / 1440.0 + VOLUME_FLOOR)
    log_rv60 = _log_floor(r60[_R2] / 60.0)
    sd = math.sqrt(math.exp(level))
    own = state[_OWN : _OWN + _N_OWN]
    own[0] = _log_floor(r5[_R2] / 5.0) - level
    own[1] = _log_floor(r15[_R2] / 15.0) - level
    own[2] = log_rv60 - level
    own[3] = _log_floor(r240[_R2] / 240.0) - level
    n = _HALF_LIVES.size
    for k in range(n):
        own[4 + k] = _log_floor(state[_EW + k] / state[_EW + n + k]) - level
    own[9] = _log_floor(state[_LAST_PK] / bar_minutes) - level
    own[10] = _log_floor(r5[_PK] / 5.0) - level
    own[11] = _log_floor(r15[_PK] / 15.0) - level
    own[12] = _log_floor(r60[_PK] / 60.0) - level
    own[13] = _log_floor(r1440[_PK] / 1440.0) - level
    own[14] = math.log(r5[_VO] / 5.0 + VOLUME_FLOOR) - volume_level
    own[15] = math.log(r60[_VO] / 60.0 + VOLUME_FLOOR) - volume_level
    own[16] = _log_floor(r60[_BV] / 60.0) - log_rv60
    own[17] = _log_floor(r60[_MED] / 60.0) - log_rv60
    own[18] = _log_floor(r1440[_MED] / 1440.0) - level
    standard5 = r5[_R] / (sd * math.sqrt(5.0))
    own[19] = math.tanh(standard5 / 3.0)
    own[20] = math.tanh(r60[_R] / (sd * math.sqrt(60.0)) / 3.0)
    own[21] = math.tanh(r1440[_R] / (sd * math.sqrt(1440.0)) / 3.0)
    own[22] = math.log(abs(standard5) + 0.1)
    own[23] = r60[_DOWN] / max(r60[_R2], 1e-12) - 0.5
    own[24] = r60[_STILL] * bar_minutes / 60.0
    own[25] = _profile(state, blocks)
    state[_LEVEL] = level
    state[_VOLUME5] = own[14]


@kernel
def _season(minute: int, out: np.ndarray) -> None:
    """Deterministic functions of the UTC clock at the origin; day 0 of the epoch is a Thursday."""
    time_of_day = minute % 1440
    weekday = (minute // 1440 + 3) % 7
    weekend = 1.0 if weekday >= 5 else 0.0
    angle = 2.0 * math.pi * time_of_day / 1440.0
    at = 0
    for k in range(1, _DAILY_HARMONICS + 1):
        out[at] = math.sin(k * angle)
        out[at + 1] = math.cos(k * angle)
        at += 2
    for k in range(2 * _WEEKEND_HARMONICS):
        out[at] = weekend * out[k]
        at += 1
    out[at] = weekend
    out[at + 1] = 1.0 if weekday == 0 else 0.0
    at += 2
    slot = (minute % 60) // BLOCK_MINUTES
    for k in range(11):
        out[at + k] = 1.0 if slot == k else 0.0
    at += 11
    for k in range(_EVENT_MINUTES.size):
        out[at + k] = 1.0 if time_of_day == _EVENT_MINUTES[k] else 0.0


@kernel
def encode_inputs(state: np.ndarray, other: np.ndarray, is_eth: float, out: np.ndarray) -> int:
    """Write the row float64[N_FEATURES] of the asset's last origin; returns its minute.

    `other` is the state of the asset watched beside it: its inputs count only when its last
    origin closed at the same minute, else they and `other_known` are 0 (pass the asset's own
    fresh `new_states` row when there is none). Returns -1, writing nothing, before the first
    origin.
    """
    minute = int(state[_ORIGIN_MINUTE])
    if minute < 0:
        return -1
    at = _N_OWN + _N_SEASON
    for k in range(_N_OWN):
        out[k] = state[_OWN + k]
    _season(minute, out[_N_OWN:at])
    if other[_ORIGIN_MINUTE] == minute:
        out[at] = 1.0
        out[at + 1] = other[_OWN]
        out[at + 2] = other[_OWN + 2]
        out[at + 3] = other[_OWN + 10]
        out[at + 4] = other[_VOLUME5]
    else:
        for k in range(5):
            out[at + k] = 0.0
    out[at + 5] = is_eth
    out[at + 6] = state[_LEVEL]
    return minute


class BarColumns(NamedTuple):
    """Closed bars of A assets, one asset behind the other: a's are start[a]:start[a + 1]."""

    minute: NDArray[np.int64]  # [B] open of the bar, minutes since the epoch UTC
    ohlcv: NDArray[np.float64]  # [B, 5]
    start: NDArray[np.int64]  # [A + 1]
    bar_minutes: int


class Assets(NamedTuple):
    """What is kept of each asset while its bars are replayed."""

    watched: NDArray[np.int64]  # [A] index of the asset beside it, -1 for none
    is_eth: NDArray[np.float64]  # [A]
    states: NDArray[np.float64]  # [A + 1, STATE_SIZE] of `new_states`; the last stands for "none"


class InputRows(NamedTuple):
    """Room for one row per asset and origin."""

    minute: NDArray[np.int64]  # [R] when the block closed
    asset: NDArray[np.int64]  # [R]
    variance: NDArray[np.float64]  # [R] realised in the block that closed, not floored
    inputs: NDArray[np.float64]  # [R, N_FEATURES]


def encode_history(bars: BarColumns, assets: Assets, rows: InputRows) -> int:
    """Replay the bars of all assets in clock order and write one row per asset and origin.

    Returns the number of rows, or -1 - bar for the first bar that is refused.
    """
    return _replay(bars, assets, rows, bars.start[:-1].copy(), np.zeros(len(bars.start) - 1, int))


@lean_kernel
def _replay(
    bars: BarColumns, assets: Assets, rows: InputRows, at: np.ndarray, status: np.ndarray
) -> int:
    """`encode_history`, with each asset's next bar and what its last one led to."""
    minute, ohlcv, start, bar_minutes = bars
    watched, is_eth, states = assets
    n_assets = at.size
    count = 0
    while True:
        now = np.int64(2**62)
        for a in range(n_assets):
            if at[a] < start[a + 1]:
                now = min(now, minute[at[a]])
        if now == 2**62:
            return count
        for a in range(n_assets):
            status[a] = WARMING
            if at[a] < start[a + 1] and minute[at[a]] == now:
                bar = ohlcv[at[a]]
                status[a] = update_bar(
                    states[a], bar_minutes, int(now), bar[0], bar[1], bar[2], bar[3], bar[4]
                )
                if status[a] >= STALE:
                    return -1 - at[a]
                at[a] += 1
        for a in range(n_assets):
            if status[a] == ORIGIN:
                other = states[watched[a]] if watched[a] >= 0 else states[n_assets]
                rows.minute[count] = encode_inputs(states[a], other, is_eth[a], rows.inputs[count])
                rows.asset[count] = a
                rows.variance[count] = states[a, _OPEN + _R2]
                count += 1
