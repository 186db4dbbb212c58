"""Cycles and ordinary swaps out of mev-inspect tables, and what they are worth."""

from pathlib import Path

import polars as pl
import pytest

from history.arbitrages import DOLLARS, MAJOR, TAIL, WETH, cycle_lengths, load_inspected, pair_class
from history.tables import TableError

USDC = next(iter(DOLLARS))
COLUMNS = ["transaction_hash", "contract_address", "token_in_address", "token_out_address"]


def test_cycles_are_found_in_a_swap_table(tmp_path: Path) -> None:
    hops = [  # transaction, pool, token in, token out, trace address
        ("0xa", "p", "weth", "dai", "[0, 2]"),
        ("0xa", "r", "usdc", "weth", "[0, 10]"),  # order is numeric: 10 comes after 9
        ("0xa", "q", "dai", "usdc", "[0, 9]"),
        ("0xb", "p", "weth", "dai", "[1]"),
        ("0xb", "p", "dai", "weth", "[2]"),  # the same pool twice: no arbitrage
        ("0xc", "p", "weth", "dai", "[]"),
        ("0xd", "p", "dai", "weth", "[0]"),
        ("0xd", "q", "weth", "dai", "[1]"),
        ("0xd", "r", "dai", "uni", "[2]"),
    ]
    table = pl.DataFrame(
        hops,
        schema=[
            "transaction_hash",
            "contract_address",
            "token_in_address",
            "token_out_address",
            "trace_address",
        ],
        orient="row",
    ).with_columns(block_number=pl.lit(1))
    path = tmp_path / "swaps.csv"
    table.write_csv(path)
    assert cycle_lengths(path).tolist() == [2, 3]


def _table(path: Path, rows: list[tuple[object, ...]]) -> Path:
    names = [*COLUMNS, "trace_address", "token_in_amount", "token_out_amount", "error"]
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(block_number=pl.lit(7))
    table.write_parquet(path)
    return path


def test_cycles_and_swaps_are_valued_in_eth(tmp_path: Path) -> None:
    eth, usd = 10**18, 10**6
    path = _table(
        tmp_path / "swaps.parquet",
        [
            ("0xa", "p", WETH, USDC, "[0]", 2.0 * eth, 4000.0 * usd, None),  # 2,000 dollars
            ("0xb", "q", USDC, WETH, "[0]", 2000.0 * usd, 1.0 * eth, None),
            # 10 ETH become 10.5 over an unknown token
            ("0xc", "r", WETH, "0xt", "[0]", 10.0 * eth, 5.0, None),
            ("0xc", "s", "0xt", WETH, "[1]", 5.0, 10.5 * eth, None),
            # in dollars: 2,000 become 2,100
            ("0xd", "r", USDC, "0xt", "[0]", 2000.0 * usd, 5.0, None),
            ("0xd", "s", "0xt", USDC, "[1]", 5.0, 2100.0 * usd, None),
            # of a token without a price
            ("0xe", "r", "0xt", "0xu", "[0]", 1.0, 1.0, None),
            ("0xe", "s", "0xu", "0xt", "[1]", 1.0, 2.0, None),
            ("0xf", "r", WETH, "0xt", "[0]", 10.0 * eth, 5.0, "Reverted"),
            ("0xf", "s", "0xt", WETH, "[1]", 5.0, 99.0 * eth, "Reverted"),
        ],
    )
    cycles, swaps = load_inspected(path)
    gross = cycles["gross_eth"].to_list()
    assert sorted(value for value in gross if value is not None) == pytest.approx([0.05, 0.5])
    assert gross.count(None) == 1
    assert swaps["size_eth"].to_list() == pytest.approx([2.0, 1.0])
    assert swaps["pair_class"].to_list() == [MAJOR, MAJOR]
    assert pair_class("0xt", WETH) == TAIL


def test_a_table_without_swaps_columns_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"transaction_hash": ["0xa"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(TableError, match="block_number"):
        load_inspected(tmp_path / "x.parquet")
