"""Arbitrage cycles and ordinary swaps out of mev-inspect swap tables, valued in ETH."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from history.tables import INTEGER, NUMBER, TEXT, Column, TableError, read_table

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
WBTC = "0x2260fac5e5542a773aa44fbcfedf7c193bc2c599"
# Dollar tokens (USDC, USDT, DAI) and their decimals.
DOLLARS = {
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48": 6,
    "0xdac17f958d2ee523a2206206994597c13d831ec7": 6,
    "0x6b175474e89094c44da98b954eedeac495271d0f": 18,
}
MAJOR, TAIL, OTHER = "major", "tail", "other"

INSPECTED = (
    Column(("transaction_hash",), TEXT),
    Column(("block_number",), INTEGER, low=0),
    Column(("contract_address",), TEXT),
    Column(("token_in_address",), TEXT),
    Column(("token_in_amount",), NUMBER, low=0.0, optional=True),
    Column(("token_out_address",), TEXT),
    Column(("token_out_amount",), NUMBER, low=0.0, optional=True),
    Column(("trace_address",), TEXT),
    Column(("error",), TEXT, nullable=True, optional=True),
)


class Inspected(NamedTuple):
    """What a table of swaps holds."""

    cycles: pl.DataFrame  # block_number, hops, gross_eth (null where the token has no price)
    swaps: pl.DataFrame  # block_number, pool, pair_class, size_eth (null likewise): all others


@dataclass(frozen=True)
class _Prices:
    """ETH per smallest unit, of the tokens that have a price in the table itself."""

    eth: dict[str, float]

    def value(self, token: str, amount: float | None) -> float | None:
        price = self.eth.get(token)
        return None if price is None or amount is None else price * amount


def load_inspected(path: str | Path) -> Inspected:
    """Arbitrage cycles and ordinary swaps of a mev-inspect swap table.

    A cycle is a maximal run of swaps of one transaction, in order of their trace addresses, in
    which each sells what the one before bought and the last buys what the first sold, every pool
    once. Its gross is what it gained of its first token. Swaps that failed are left out. Dollars
    and WBTC are counted at the median price of their swaps against WETH in the table; tokens
    without such swaps have none. Raises TableError.
    """
    rows = read_table(path, INSPECTED, "mev-inspect swaps: transaction_hash, token_in_address")
    rows = rows.filter(pl.col("error").is_null()).unique(maintain_order=True)
    prices = _prices(rows)
    cycles: list[tuple[int, int, float | None]] = []
    swaps: list[tuple[int, str, str, float | None]] = []
    for _, part in rows.group_by("transaction_hash", maintain_order=True):
        order = sorted(part.rows(named=True), key=lambda swap: _trace(swap["trace_address"]))
        found = _cycles(order)
        cycles += [_valued(cycle, prices) for cycle in found]
        if not found:
            swaps += [_swap(swap, prices) for swap in order]
    return Inspected(
        pl.DataFrame(
            cycles,
            schema={"block_number": pl.Int64, "hops": pl.Int64, "gross_eth": pl.Float64},
            orient="row",
        ).sort("block_number", "hops"),
        pl.DataFrame(
            swaps,
            schema={
                "block_number": pl.Int64,
                "pool": pl.String,
                "pair_class": pl.String,
                "size_eth": pl.Float64,
            },
            orient="row",
        ).sort("block_number", maintain_order=True),
    )


def cycle_lengths(path: str | Path) -> np.ndarray:
    """Hops int64[c] of the arbitrage cycles of a mev-inspect swap table. Raises TableError."""
    return np.sort(load_inspected(path).cycles["hops"].to_numpy())


def pair_class(one: str, other: str) -> str:
    """`major`: WETH against dollars or WBTC; `tail`: WETH against another token; else `other`."""
    if WETH not in (one, other):
        return OTHER
    rest = other if one == WETH else one
    return MAJOR if rest in DOLLARS or rest == WBTC else TAIL


def _prices(rows: pl.DataFrame) -> _Prices:
    eth = {WETH: 1e-18}
    for token in (*DOLLARS, WBTC):
        sold = rows.filter(pl.col("token_in_address") == WETH, pl.col("token_out_address") == token)
        bought = rows.filter(
            pl.col("token_in_address") == token, pl.col("token_out_address") == WETH
        )
        ratios = pl.concat(
            [
                sold["token_in_amount"] / sold["token_out_amount"],
                bought["token_out_amount"] / bought["token_in_amount"],
            ]
        ).drop_nulls()
        median = ratios.filter(ratios.is_finite()).median()
        if isinstance(median, float):
            eth[token] = 1e-18 * median
    return _Prices(eth)


def _valued(cycle: list[dict[str, Any]], prices: _Prices) -> tuple[int, int, float | None]:
    first, last = cycle[0], cycle[-1]
    gained = None
    if first["token_in_amount"] is not None and last["token_out_amount"] is not None:
        gained = last["token_out_amount"] - first["token_in_amount"]
    gross = prices.value(first["token_in_address"], gained)
    return first["block_number"], len(cycle), gross


def _swap(swap: dict[str, Any], prices: _Prices) -> tuple[int, str, str, float | None]:
    tokens = swap["token_in_address"], swap["token_out_address"]
    values = (
        prices.value(tokens[0], swap["token_in_amount"]),
        prices.value(tokens[1], swap["token_out_amount"]),
    )
    size = next((value for value in values if value is not None and value > 0.0), None)
    return swap["block_number"], swap["contract_address"], pair_class(*tokens), size


def _trace(address: str) -> list[int]:
    return [int(part) for part in address.strip("[]").split(",") if part.strip()]


def _cycles(swaps: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The cycles in one transaction's swaps."""
    found = []
    first = 0
    while first < len(swaps):
        pools = {swaps[first]["contract_address"]}
        last = first
        while (
            swaps[last]["token_out_address"] != swaps[first]["token_in_address"]
            and last + 1 < len(swaps)
            and swaps[last + 1]["token_in_address"] == swaps[last]["token_out_address"]
            and swaps[last + 1]["contract_address"] not in pools
        ):
            last += 1
            pools.add(swaps[last]["contract_address"])
        closed = swaps[last]["token_out_address"] == swaps[first]["token_in_address"]
        if closed and last > first:
            found.append(swaps[first : last + 1])
        first = last + 1
    return found


def inspected_blocks(path: str | Path) -> tuple[int, int]:
    """First and last block of a mev-inspect swap table, of which every one counts."""
    numbers = read_table(path, INSPECTED[1:2], "mev-inspect swaps: block_number")["block_number"]
    if not len(numbers):
        raise TableError(f"{path}: no swaps; export some blocks")
    return int(numbers.min()), int(numbers.max())  # type: ignore[arg-type]
