"""The constants of an era that come from data, fitted on the fitted windows alone.

`configs.eras` and `envs.market.config` write them down; a test holds that they are these.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from scipy.signal import lfilter

from envs.calibration.recorded import (
    HEADERS,
    blocks_of,
    cexdex_payment,
    depth_table,
    priority_fees,
    user_sizes,
    within,
)
from envs.calibration.recorded import PAYMENTS as BLOCK_PAYMENTS
from envs.calibration.windows import (
    CEXDEX,
    FEES_2022,
    FEES_2023,
    INSPECTED,
    ORDINARY,
    SNAPSHOTS,
    TRANSACTIONS,
    Split,
)
from envs.calibration.windows import HEADERS as HEADER_SPLIT
from envs.market.config import GAS_PROBABILITIES, SHOWN_PROBABILITIES
from history.arbitrages import MAJOR, TAIL
from history.mev import load_block_payments
from history.tables import INTEGER, NUMBER, Column, read_table

LONDON_GAS_LIMIT = 15_000_000  # before it, and the target after it
TAIL_PAIRS = np.arange(1, 12, 2) / 12.0  # probabilities of six pairs
V3_QUANTILES = (0.25, 0.75)


def user_law(data: Path) -> dict[str, float]:
    """Median input of long-tail swaps (ETH), deviation of its ln, and the majors' factor."""
    tail, major = (user_sizes(data, INSPECTED.fitted, kind) for kind in (TAIL, MAJOR))
    quartiles = np.quantile(np.log(tail[tail > 0.0]), (0.25, 0.75))
    return {
        "median": float(np.median(tail)),
        # From the quartiles: dust swaps would widen the deviation, and move no price.
        "sigma": float((quartiles[1] - quartiles[0]) / 1.349),
        "major_scale": float(np.median(major) / np.median(tail)),
    }


def major_share(data: Path, least_eth: float, scale: float) -> float:
    """Swaps of majors among WETH swaps that reach the least size of their class."""
    tail, major = (user_sizes(data, INSPECTED.fitted, kind) for kind in (TAIL, MAJOR))
    large = np.count_nonzero(major >= scale * least_eth)
    return float(large / (large + np.count_nonzero(tail >= least_eth)))


def swaps_per_block(data: Path, least_eth: float, scale: float) -> float:
    """WETH swaps of all pools that reach the least size of their class, per block."""
    tail, major = (user_sizes(data, INSPECTED.fitted, kind) for kind in (TAIL, MAJOR))
    count = np.count_nonzero(tail >= least_eth) + np.count_nonzero(major >= scale * least_eth)
    first, past = INSPECTED.fitted[0]
    return float(count / (past - first))


def depths(data: Path) -> dict[str, tuple[float, ...]]:
    """Depth of one side by class, ETH, from the fitted snapshot; see configs.eras."""
    table = depth_table(data, SNAPSHOTS.fitted)
    plain = [depth for depth, kind, v3, _ in table if kind == MAJOR and not v3]
    ranged = [depth for depth, kind, v3, _ in table if kind == MAJOR and v3]
    by_token: dict[str, list[float]] = {}
    for depth, kind, _, token in table:
        if kind == TAIL:
            by_token.setdefault(token, []).append(depth)
    pairs = [sorted(found)[-2:] for found in by_token.values() if len(found) > 1]
    second, deeper = np.array(pairs).T
    return {
        "major_v2": (float(np.median(plain)),),
        "major_v3": tuple(np.quantile(ranged, V3_QUANTILES).tolist()),
        "tail_deeper": tuple(np.quantile(deeper, TAIL_PAIRS).tolist()),
        "tail_second": tuple(np.quantile(second, TAIL_PAIRS).tolist()),
    }


def informed_law(data: Path, pair_class: str) -> tuple[float, ...]:
    """5/25/50/75/95 % of informed payments, basis points of volume."""
    paid = cexdex_payment(data, CEXDEX.fitted, pair_class)
    return tuple(np.quantile(paid, SHOWN_PROBABILITIES).tolist())


def fee_law(data: Path, split: Split, memory: tuple[float, float]) -> dict[str, tuple[float, ...]]:
    """Demand response to ln base fee above its two exponential means, and residual quantiles.

    Least squares of gas used / target on both, as the simulator draws it, with responses that are
    not below 0; means restart with every run of blocks, at its first fee.
    """
    blocks = blocks_of(data, split.fitted)
    ratio = 2.0 * blocks.gas_used / blocks.gas_limit
    level = np.log(blocks.base_fee_wei)
    run = np.cumsum(np.diff(blocks.number, prepend=blocks.number[:1]) > 1)
    above = np.empty((level.size, 2))
    for part in np.unique(run):
        rows = run == part
        inner = level[rows] - level[rows][0]
        for column, horizon in enumerate(memory):
            keep = float(np.exp(-1.0 / horizon))
            mean, _ = lfilter([0.0, 1.0 - keep], [1.0, -keep], inner, zi=[0.0])
            above[rows, column] = inner - mean
    centre = above.mean(axis=0)
    found, _ = nnls(centre - above, ratio - ratio.mean())
    residual = ratio + above @ found
    return {
        "demand_response": tuple(found.tolist()),
        "used_ratio": tuple(np.quantile(residual, GAS_PROBABILITIES).tolist()),
    }


def base_fee_level(data: Path, era: str) -> float:
    """Median price of gas of an era, gwei: of ordinary fees before London, base fees, headers."""
    if era == "2021":
        paid = within(load_block_payments(data / BLOCK_PAYMENTS), ORDINARY.fitted)
        return float(1e9 * np.median(paid["ordinary_fees_eth"].to_numpy()) / LONDON_GAS_LIMIT)
    if era == "2022":
        return float(1e-9 * np.median(blocks_of(data, FEES_2022.fitted).base_fee_wei))
    columns = (
        Column(("block_number",), INTEGER),
        Column(("base_fee_gwei",), NUMBER, nullable=True),
    )
    headers = read_table(data / HEADERS, columns, "headers: block_number, base_fee_gwei")
    fees = within(headers, HEADER_SPLIT.fitted)["base_fee_gwei"].drop_nulls()
    return float(np.median(fees.to_numpy()))


def tip_law(data: Path) -> tuple[float, ...]:
    """5/25/50/75/95 % of priority fees, gwei."""
    tips = priority_fees(data, TRANSACTIONS.fitted)
    return tuple(np.quantile(tips, SHOWN_PROBABILITIES).tolist())


def gas_limit(data: Path, split: Split) -> int:
    """Median gas limit of the fitted blocks, as the base fees trace it."""
    return int(np.median(blocks_of(data, split.fitted).gas_limit))


def all_fits(data: Path) -> dict[str, object]:
    """Every fitted constant, for the report."""
    memory = (2.0, 100.0)
    return {
        "user_law": user_law(data),
        "depths": depths(data),
        "informed": {kind: informed_law(data, kind) for kind in (TAIL, MAJOR)},
        "tips": tip_law(data),
        "fees": {
            "2022": fee_law(data, FEES_2022, memory),
            "2023": fee_law(data, FEES_2023, memory),
        },
        "base_fee_level": {era: base_fee_level(data, era) for era in ("2021", "2022", "2023")},
        "gas_limit": {"2022": gas_limit(data, FEES_2022), "2023": gas_limit(data, FEES_2023)},
    }
