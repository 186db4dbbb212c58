"""Snapshots of many pools at one block, from Parquet: the nodes and edges of a real token graph.

Two public layouts are read: fastlane-bot's (Uniswap V2, Sushi and V3 state, integers as strings)
and the list of all Uniswap V2 pairs of 2020. Every pool that the kernels cannot represent is
refused by name; what a file cannot show (fee on transfer, rebasing, hooks) it cannot refuse.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.graph.token_graph import TokenGraph, build_token_graph, edge_quotes, hub_depth
from kernels.pools.uniswap_v3.forks import FORKS
from kernels.pools.uniswap_v3.tick_math import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    sqrt_ratio,
)

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
V2_KINDS = ("uniswap_v2", "sushiswap_v2")
V3_KIND = "uniswap_v3"
V2_FEE_PIPS = 3000
PIPS = 1_000_000
MAX_DECIMALS = 77
MAX_DIGITS = 78  # of a uint256
Q96 = 1 << 96

FASTLANE_COLUMNS = {
    "kind": "exchange_name",
    "address": "address",
    "token0": "tkn0_address",
    "token1": "tkn1_address",
    "decimals0": "tkn0_decimals",
    "decimals1": "tkn1_decimals",
    "fee": "fee",
    "block": "last_updated_block",
    "reserve0": "tkn0_balance",
    "reserve1": "tkn1_balance",
    "liquidity": "liquidity",
    "sqrt_price_x96": "sqrt_price_q96",
    "tick": "tick",
    "tick_spacing": "tick_spacing",
}
PAIRS_COLUMNS = {
    "address": "address",
    "token0": "token0",
    "token1": "token1",
    "decimals0": "dec0",
    "decimals1": "dec1",
    "reserve0": "reserve0",
    "reserve1": "reserve1",
}


class PoolFileError(ValueError):
    """A file that cannot be used; the message names file, column and remedy."""


class _RefusedError(ValueError):
    """A pool that cannot be represented; the message names field and value."""


@dataclass(frozen=True)
class MarketPool:
    """One pool. Amounts are in smallest units; V2 pools have reserves, V3 pools the other four."""

    kind: str  # one of V2_KINDS, or V3_KIND
    address: str  # lower case
    token0: int
    token1: int
    fee_pips: int
    block: int | None
    reserve0: int = 0
    reserve1: int = 0
    sqrt_price_x96: int = 0
    liquidity: int = 0
    tick: int = 0
    tick_spacing: int = 0

    def marginal_rate(self, sells_token0: bool) -> Fraction:
        """What the first unit sold buys after the fee, exactly."""
        if self.kind == V3_KIND:
            price = Fraction(self.sqrt_price_x96**2, Q96**2)
        else:
            price = Fraction(self.reserve1, self.reserve0)
        kept = Fraction(PIPS - self.fee_pips, PIPS)
        return kept * price if sells_token0 else kept / price

    def sqrt_range(self) -> tuple[int, int]:
        """V3: the root prices between which the liquidity is known to stay as it is."""
        lower = self.tick // self.tick_spacing * self.tick_spacing
        upper = min(lower + self.tick_spacing, MAX_TICK)
        low, high = int(sqrt_ratio(max(lower, MIN_TICK))), int(sqrt_ratio(upper))
        return min(low, self.sqrt_price_x96), max(high, self.sqrt_price_x96)


@dataclass(frozen=True)
class PoolMarket:
    """Pools over tokens (lower-case addresses with their decimals), and who was refused and why."""

    source: str
    tokens: tuple[str, ...]
    decimals: tuple[int, ...]
    pools: tuple[MarketPool, ...]
    refused: tuple[tuple[str, str], ...]  # (address, reason)

    def reserves(self) -> NDArray[np.float64]:
        """float64[P, 2] of tokens in the pool; V3: L / sqrt P and L sqrt P, as the range acts."""
        rows = []
        for pool in self.pools:
            if pool.kind == V3_KIND:
                root = pool.sqrt_price_x96 / Q96
                rows.append((pool.liquidity / root, pool.liquidity * root))
            else:
                rows.append((float(pool.reserve0), float(pool.reserve1)))
        return np.array(rows, np.float64).reshape(-1, 2)

    def keep(self) -> NDArray[np.float64]:
        """float64[P], what is left of an amount after the fee."""
        # Rounded once: 1 - fee would lose digits of a large fee.
        return np.array([PIPS - pool.fee_pips for pool in self.pools], np.float64) / PIPS

    def token(self, address: str) -> int:
        """Number of a token; PoolFileError when no pool trades it."""
        try:
            return self.tokens.index(address.lower())
        except ValueError:
            raise PoolFileError(f"{self.source}: no pool trades token {address}") from None

    def graph(self, hub: str = WETH) -> tuple[TokenGraph, NDArray[np.float64], NDArray[np.float64]]:
        """(token graph, edge_quotes, depth in smallest units of the hub) of all pools."""
        graph = build_token_graph(
            np.array([pool.token0 for pool in self.pools]),
            np.array([pool.token1 for pool in self.pools]),
            len(self.tokens),
            self.token(hub),
        )
        first, second = self.reserves().T
        kept = self.keep()
        quotes = edge_quotes(first, second, kept, kept)
        return graph, quotes, hub_depth(graph, first, second)

    def select(self, kept: NDArray[np.bool_]) -> PoolMarket:
        """The market of the pools that bool[P] keeps; tokens keep their numbers."""
        pools = tuple(pool for pool, keep in zip(self.pools, kept, strict=True) if keep)
        return PoolMarket(self.source, self.tokens, self.decimals, pools, self.refused)


def read_pools(path: Path) -> PoolMarket:
    """Read a snapshot. Raises PoolFileError for a file that is not one.

    Pools that cannot be represented are left out and listed in `refused`: unknown kinds, fees of
    100 % or that are not whole pips, empty pools, reserves beyond uint112, prices that do not
    belong to their tick, addresses or decimals that contradict each other, doubles.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PoolFileError(f"{path}: not a Parquet file: {error}") from error
    columns = _layout(path, frame.columns)
    market = _Collector()
    for row in frame.select(list(columns.values())).iter_rows():
        market.add(dict(zip(columns, row, strict=True)))
    if not market.pools:
        reasons = Counter(reason.split(" ", 1)[0] for _, reason in market.refused)
        raise PoolFileError(f"{path}: none of {frame.height} pools can be used: {dict(reasons)}")
    return PoolMarket(
        str(path),
        tuple(market.numbers),
        tuple(market.decimals),
        tuple(market.pools),
        tuple(market.refused),
    )


def _layout(path: Path, columns: list[str]) -> dict[str, str]:
    for layout in (FASTLANE_COLUMNS, PAIRS_COLUMNS):
        if set(layout.values()) <= set(columns):
            return layout
    if "cid" in columns and "constr" in columns:
        raise PoolFileError(
            f"{path}: curves as floats have lost the integers of their pools: use a pools snapshot"
        )
    missing = sorted(set(FASTLANE_COLUMNS.values()) - set(columns))
    raise PoolFileError(f"{path}: no columns {missing}: expected a fastlane pools snapshot")


class _Collector:
    """Tokens and pools in the order of the file."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.decimals: list[int] = []
        self.pools: list[MarketPool] = []
        self.refused: list[tuple[str, str]] = []
        self.seen: set[str] = set()

    def add(self, row: dict[str, Any]) -> None:
        """Take the pool of a row, or note why not."""
        address = str(row["address"]).lower()
        try:
            self.pools.append(self._pool(address, row))
        except _RefusedError as reason:
            self.refused.append((address, str(reason)))

    def _pool(self, address: str, row: dict[str, Any]) -> MarketPool:
        _address("address", address)
        if address in self.seen:
            raise _RefusedError("address is listed twice")
        self.seen.add(address)
        kind = row.get("kind", V2_KINDS[0])
        fee_pips = _fee_pips(row["fee"]) if "fee" in row else V2_FEE_PIPS
        state = self._state(kind, fee_pips, row)
        names = [_address(name, str(row[name]).lower()) for name in ("token0", "token1")]
        if not names[0] < names[1]:
            raise _RefusedError(f"token0 {names[0]} is not below token1 {names[1]}")
        decimals = [_integer(name, row[name]) for name in ("decimals0", "decimals1")]
        for name, value in zip(names, decimals, strict=True):
            if not 0 <= value <= MAX_DECIMALS:
                raise _RefusedError(f"decimals {value} of {name}: an ERC-20 has 0 to 77")
            known = self.numbers.get(name)
            if known is not None and self.decimals[known] != value:
                raise _RefusedError(f"decimals {value} of {name}: {self.decimals[known]} elsewhere")
        for name, value in zip(names, decimals, strict=True):
            if name not in self.numbers:
                self.numbers[name] = len(self.decimals)
                self.decimals.append(value)
        block = _integer("block", row["block"]) if row.get("block") is not None else None
        first, second = (self.numbers[name] for name in names)
        return MarketPool(kind, address, first, second, fee_pips, block, **state)

    def _state(self, kind: str, fee_pips: int, row: dict[str, Any]) -> dict[str, int]:
        if kind in V2_KINDS:
            names = ("reserve0", "reserve1")
            state = {name: _integer(name, row[name]) for name in names}
            for name, reserve in state.items():
                if not 0 < reserve < 1 << 112:
                    raise _RefusedError(
                        f"{name} = {reserve}: a pair that trades holds 1 to 2^112 - 1"
                    )
            return state
        if kind != V3_KIND:
            raise _RefusedError(f"kind {kind!r}: expected one of {(*V2_KINDS, V3_KIND)}")
        names = ("sqrt_price_x96", "liquidity", "tick")
        state = {name: _integer(name, row[name]) for name in names}
        spacing = row["tick_spacing"]
        tiers = FORKS[V3_KIND].fee_tiers
        if spacing is None and fee_pips not in tiers:
            raise _RefusedError(f"tick_spacing is missing and fee {fee_pips} is no tier of {tiers}")
        state["tick_spacing"] = tiers[fee_pips] if spacing is None else _integer("spacing", spacing)
        _check_v3(**state)
        return state


def _check_v3(sqrt_price_x96: int, liquidity: int, tick: int, tick_spacing: int) -> None:
    if not 0 < liquidity < 1 << 128:
        raise _RefusedError(f"liquidity = {liquidity}: a range that trades has 1 to 2^128 - 1")
    if not MIN_SQRT_RATIO <= sqrt_price_x96 < MAX_SQRT_RATIO:
        raise _RefusedError(f"sqrt_price_x96 = {sqrt_price_x96}: outside what TickMath allows")
    if not 0 < tick_spacing < 1 << 14:
        raise _RefusedError(f"tick_spacing = {tick_spacing}: expected 1 to 2^14 - 1")
    inside = MIN_TICK <= tick < MAX_TICK
    # A swap that stops on a tick it crossed downwards leaves the price at the tick above.
    if not (inside and int(sqrt_ratio(tick)) <= sqrt_price_x96 <= int(sqrt_ratio(tick + 1))):
        raise _RefusedError(f"tick = {tick}: the price {sqrt_price_x96} is not in it")


def _address(name: str, value: str) -> str:
    if (
        len(value) != 42
        or not value.startswith("0x")
        or not set(value[2:]) <= set("0123456789abcdef")
    ):
        raise _RefusedError(f"{name} {value!r}: expected 0x and 40 hexadecimal digits")
    return value


def _decimal(name: str, value: object) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    # The exponent first: an integer of a billion digits must not be built to be refused.
    if not number.is_finite() or abs(number.adjusted()) > MAX_DIGITS:
        raise _RefusedError(f"{name} = {value!r}: expected a number of at most {MAX_DIGITS} digits")
    return number


def _integer(name: str, value: object) -> int:
    """An integer; sources write small ones as floats ("-212137.0"), large ones must have digits."""
    number = _decimal(name, value)
    if number != number.to_integral_value() or ("." in str(value) and abs(number) >= 1 << 53):
        raise _RefusedError(f"{name} = {value!r}: expected an integer")
    return int(number)


def _fee_pips(value: object) -> int:
    """Sources write a fee as a fraction ("0.003") or in pips ("3000")."""
    number = _decimal("fee", value)
    pips = number * PIPS if number < 1 else number
    if pips != pips.to_integral_value() or not 0 <= pips < PIPS:
        raise _RefusedError(f"fee = {value!r}: expected whole pips below 100 %")
    return int(pips)
