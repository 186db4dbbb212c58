"""A stand-in for recorded prices: stochastic-volatility 1-minute bars of ETH and BTC.

Log variance is a daily season plus three autoregressions (minutes, hours, days; Corsi 2009 reads
the same cascade from data), returns are Gaussian given it, with rare jumps. The constants were set
so that a log-HAR measured on these bars has R2 and QLIKE of the order of those on Binance bars of
2021-2025 (R2 0.43 / 0.54 / 0.56, QLIKE 0.52 / 0.36 / 0.26 at 5 / 15 / 60 minutes).
"""

import numpy as np

from history.prices import Bars, BarsError, SymbolBars, minute_of
from kernels.compile import kernel

SYMBOLS = ("BTCUSDT", "ETHUSDT")
FIRST_DAY = "2024-01-01"
START_PRICE = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0}
# Mean log variance per minute: daily deviations of about 2.4 % and 3.0 %.
LEVEL = {"BTCUSDT": -15.2, "ETHUSDT": -14.75}
HALF_LIVES_MINUTES = (10.0, 90.0, 2880.0)
LOG_VARIANCE_SD = (0.60, 0.65, 0.50)
COMMON_SHARE = 0.85  # of the variance of log variance that both assets share
RETURN_CORRELATION = 0.8
MINUTE_NOISE_SD = 0.75  # log variance that no past tells: thick tails of minute returns
SEASON_AMPLITUDE = 0.65  # log variance peaks at the opening of the American session
SEASON_PEAK_MINUTE = 14 * 60 + 30
WEEKEND_SHIFT = -0.5
JUMPS_PER_DAY = 3.0
JUMP_SD = 6.0  # in standard deviations of a minute
STEPS = 6  # of ten seconds, from which high and low are taken
VOLUME_PER_MINUTE = {"BTCUSDT": 15.0, "ETHUSDT": 250.0}


def stochastic_volatility_bars(seed: int, days: int, first_day: str = FIRST_DAY) -> Bars:
    """Gap-free 1-minute bars of `SYMBOLS` for whole days from `first_day` (UTC).

    Draws come from one counter-based stream per quantity, so the bars depend only on the seed and
    a shorter path is the beginning of a longer one. Raises BarsError for days < 1 or seed < 0.
    """
    if days < 1 or seed < 0:
        raise BarsError(f"stand-in bars: days {days}, seed {seed}; give days >= 1 and seed >= 0")
    n = days * 1440
    first = minute_of(first_day)
    minute = first + np.arange(n, dtype=np.int64)
    common = _log_variance(seed, 0, n)
    normals = [_normals(seed, 10 + a, (n, STEPS)) for a in range(len(SYMBOLS) + 1)]
    series = []
    for a, symbol in enumerate(SYMBOLS):
        own = _log_variance(seed, 1 + a, n)
        log_variance = LEVEL[symbol] + _season(minute)
        log_variance += np.sqrt(COMMON_SHARE) * common + np.sqrt(1.0 - COMMON_SHARE) * own
        tail = MINUTE_NOISE_SD * _normals(seed, 20 + a, (n,))
        sd = np.exp(0.5 * (log_variance + tail - 0.5 * MINUTE_NOISE_SD**2))
        shared = np.sqrt(RETURN_CORRELATION) * normals[0]
        steps = (shared + np.sqrt(1.0 - RETURN_CORRELATION) * normals[1 + a]) / np.sqrt(STEPS)
        steps *= sd[:, None]
        jump = _uniforms(seed, 30 + a, n) < JUMPS_PER_DAY / 1440.0
        steps[:, 0] += np.where(jump, JUMP_SD * np.exp(0.5 * log_variance), 0.0) * _normals(
            seed, 40 + a, (n,)
        )
        path = START_PRICE[symbol] * np.exp(np.cumsum(steps.ravel()))
        busy = 0.6 * (log_variance - LEVEL[symbol]) + 0.3 * tail
        volume = VOLUME_PER_MINUTE[symbol] * np.exp(busy + 0.4 * _normals(seed, 50 + a, (n,)))
        series.append(SymbolBars(symbol, minute, _bars(path, START_PRICE[symbol], volume)))
    return Bars(tuple(series), 1, f"stochastic-volatility stand-in, seed {seed}, {days} days")


def _bars(path: np.ndarray, start: float, volume: np.ndarray) -> np.ndarray:
    """Open, high, low, close, volume float64[n, 5] of a price path in steps, to the cent."""
    prices = np.round(path, 2).reshape(-1, STEPS)
    close = prices[:, -1]
    open_ = np.concatenate([[start], close[:-1]])
    high = np.maximum(prices.max(axis=1), open_)
    low = np.minimum(prices.min(axis=1), open_)
    return np.column_stack([open_, high, low, close, np.round(volume, 4)])


def _season(minute: np.ndarray) -> np.ndarray:
    """Time of day and weekend, in log variance."""
    angle = 2.0 * np.pi * ((minute % 1440) - SEASON_PEAK_MINUTE) / 1440.0
    weekend = (minute // 1440 + 3) % 7 >= 5
    season = SEASON_AMPLITUDE * (np.cos(angle) + 0.35 * np.cos(2.0 * angle))
    return season + WEEKEND_SHIFT * weekend


def expected_variances(
    seed: int, days: int, horizons_minutes: tuple[int, ...], first_day: str = FIRST_DAY
) -> dict[str, np.ndarray]:
    """The best forecast there is for the bars of the same arguments, float64[minutes, horizons].

    Expected sum of squared returns over the minutes after each bar's close for one who sees the
    hidden state at that close: no forecast from prices can have a lower expected QLIKE.
    """
    n = days * 1440
    minute = minute_of(first_day) + np.arange(n, dtype=np.int64)
    common = _components(seed, 0, n)
    decay = 0.5 ** (1.0 / np.array(HALF_LIVES_MINUTES))
    variance = np.array(LOG_VARIANCE_SD) ** 2
    jumps = 1.0 + JUMPS_PER_DAY / 1440.0 * JUMP_SD**2
    expected = {}
    for a, symbol in enumerate(SYMBOLS):
        own = _components(seed, 1 + a, n)
        state = np.sqrt(COMMON_SHARE) * common + np.sqrt(1.0 - COMMON_SHARE) * own
        out = np.zeros((n, len(horizons_minutes)))
        for ahead in range(1, max(horizons_minutes) + 1):
            faded = decay**ahead
            log_mean = state @ faded + 0.5 * float(variance @ (1.0 - faded**2))
            log_mean += LEVEL[symbol] + _season(minute + ahead)
            for j, horizon in enumerate(horizons_minutes):
                if ahead <= horizon:
                    out[:, j] += jumps * np.exp(log_mean)
        expected[symbol] = out
    return expected


def _log_variance(seed: int, stream: int, n: int) -> np.ndarray:
    """Sum of stationary autoregressions, float64[n]."""
    total = np.zeros(n)
    for component in _components(seed, stream, n).T:
        total += component
    return total


def _components(seed: int, stream: int, n: int) -> np.ndarray:
    """The autoregressions of minutes, hours and days, float64[n, 3], in log variance."""
    draws = _normals(seed, 100 + stream, (n, len(HALF_LIVES_MINUTES)))
    out = np.empty_like(draws)
    for k, half_life in enumerate(HALF_LIVES_MINUTES):
        out[:, k] = LOG_VARIANCE_SD[k] * _autoregression(draws[:, k], 0.5 ** (1.0 / half_life))
    return out


@kernel
def _autoregression(draws: np.ndarray, decay: float) -> np.ndarray:
    """x_t = decay x_{t-1} + sqrt(1 - decay^2) e_t with unit variance from the first term on."""
    out = np.empty(draws.size)
    scale = (1.0 - decay * decay) ** 0.5
    x = draws[0]
    out[0] = x
    for t in range(1, draws.size):
        x = decay * x + scale * draws[t]
        out[t] = x
    return out


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))


def _normals(seed: int, stream: int, shape: tuple[int, ...]) -> np.ndarray:
    return _generator(seed, stream).standard_normal(shape)


def _uniforms(seed: int, stream: int, n: int) -> np.ndarray:
    return _generator(seed, stream).random(n)
