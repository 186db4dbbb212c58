"""Pool snapshots: what is read, and everything that is refused by its name."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from history.pools import V3_KIND, PoolFileError, read_pools

A, B, C = (f"0x{digit * 40}" for digit in "abc")
V2_ROW: dict[str, Any] = {
    "exchange_name": "uniswap_v2",
    "address": "0x" + "1" * 40,
    "tkn0_address": A,
    "tkn1_address": B,
    "tkn0_decimals": 18.0,
    "tkn1_decimals": 6,
    "fee": "0.003",
    "last_updated_block": "18806161.0",
    "tkn0_balance": "758944822557430684227281",
    "tkn1_balance": "61895307937",
    "liquidity": None,
    "sqrt_price_q96": None,
    "tick": None,
    "tick_spacing": None,
}
# sqrt(1.0001^200000) and a little more
V3_ROW = V2_ROW | {
    "exchange_name": V3_KIND,
    "address": "0x" + "2" * 40,
    "fee": "500",
    "tkn0_balance": None,
    "tkn1_balance": None,
    "liquidity": "5000000000000000000",
    "sqrt_price_q96": str(1_744_244_129_640_337_381_386_292_603_617_838 + 10**20),
    "tick": "200000.0",
    "tick_spacing": 10.0,
}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "pools.parquet"
    pl.DataFrame(list(rows), infer_schema_length=None, strict=False).write_parquet(path)
    return path


def test_both_kinds_with_their_integers(tmp_path: Path) -> None:
    mixed_case = V2_ROW["address"].upper().replace("0X", "0x")
    market = read_pools(write(tmp_path, V2_ROW | {"address": mixed_case}, V3_ROW))
    assert market.refused == ()
    assert (market.tokens, market.decimals) == ((A, B), (18, 6))
    pair, pool = market.pools
    assert (pair.reserve0, pair.reserve1) == (758944822557430684227281, 61895307937)
    assert (pair.fee_pips, pair.block, pool.fee_pips, pool.tick) == (3000, 18806161, 500, 200000)
    assert pair.marginal_rate(True) == Fraction(997 * pair.reserve1, 1000 * pair.reserve0)
    assert pair.marginal_rate(True) * pair.marginal_rate(False) == Fraction(997, 1000) ** 2
    assert float(pool.marginal_rate(True)) == pytest.approx(0.9995 * 1.0001**200000)
    low, high = pool.sqrt_range()
    assert low <= pool.sqrt_price_x96 < high
    assert high / low == pytest.approx(1.0001**5)
    reserves = market.reserves()
    assert reserves[1, 1] / reserves[1, 0] == pytest.approx(1.0001**200000)
    assert np.sqrt(reserves[1].prod()) == pytest.approx(5e18)


def test_a_graph_of_the_hub(tmp_path: Path) -> None:
    other = V2_ROW | {"address": C, "tkn0_balance": str(10**24), "tkn1_balance": "61895307937"}
    graph, quotes, depth = read_pools(write(tmp_path, V2_ROW, other)).graph(B)
    assert graph.hub == 1
    assert quotes.shape == (2, 6)
    assert depth == pytest.approx([61895307937 * 758944822557430684227281 / 1e24, 61895307937])
    with pytest.raises(PoolFileError, match=C):
        read_pools(write(tmp_path, V2_ROW)).graph(C)


@pytest.mark.parametrize(
    ("row", "change", "named"),
    [
        (V2_ROW, {"exchange_name": "carbon_v1"}, "kind 'carbon_v1'"),
        (V2_ROW, {"exchange_name": "uniswap_v4"}, "kind 'uniswap_v4'"),
        (V2_ROW, {"address": "0x12"}, "address '0x12'"),
        (V2_ROW, {"address": "0x" + "g" * 40}, "address"),
        (V2_ROW, {"tkn0_address": B}, "is not below"),
        (V2_ROW, {"tkn0_address": C}, "is not below"),
        (V2_ROW, {"tkn1_address": "WETH"}, "token1 'weth'"),
        (V2_ROW, {"tkn0_decimals": 78.0}, "decimals 78"),
        (V2_ROW, {"tkn0_decimals": 17.5}, "decimals0 = 17.5"),
        (V2_ROW, {"fee": "1"}, None),  # one pip
        (V2_ROW, {"fee": "1000000"}, "fee = '1000000'"),
        (V2_ROW, {"fee": "-0.003"}, "fee"),
        (V2_ROW, {"fee": "0.0000001"}, "whole pips"),
        (V2_ROW, {"fee": "nan"}, "fee = 'nan'"),
        (V2_ROW, {"tkn0_balance": "0"}, "reserve0 = 0"),
        (V2_ROW, {"tkn1_balance": str(2**112)}, "reserve1"),
        (V2_ROW, {"tkn1_balance": str(2**112 - 1)}, None),
        (V2_ROW, {"tkn1_balance": "-5"}, "reserve1 = -5"),
        (V2_ROW, {"tkn1_balance": "1e30000000"}, "reserve1"),
        (V2_ROW, {"tkn1_balance": "7.5"}, "reserve1 = '7.5'"),
        (V2_ROW, {"tkn1_balance": "758944822557430684227281.0"}, "reserve1"),
        (V2_ROW, {"tkn1_balance": None}, "reserve1 = None"),
        (V3_ROW, {"liquidity": "0"}, "liquidity = 0"),
        (V3_ROW, {"liquidity": str(2**128)}, "liquidity"),
        (V3_ROW, {"sqrt_price_q96": "4295128738"}, "sqrt_price_x96 = 4295128738"),
        (V3_ROW, {"tick": "199990.0"}, "tick = 199990"),
        (V3_ROW, {"tick": "887272"}, "tick = 887272"),
        (V3_ROW, {"tick_spacing": 0.0}, "tick_spacing = 0"),
        (V3_ROW, {"tick_spacing": None}, None),
        (V3_ROW, {"tick_spacing": None, "fee": "600"}, "tick_spacing is missing"),
        (V3_ROW, {"fee": None}, "fee = None"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(
    tmp_path: Path, row: dict[str, Any], change: dict[str, Any], named: str | None
) -> None:
    good = V2_ROW | {"address": C}
    market = read_pools(write(tmp_path, row | change, good))
    assert len(market.pools) == (2 if named is None else 1)
    assert [reason for _, reason in market.refused if named is None or named not in reason] == []


def test_contradictions_between_pools(tmp_path: Path) -> None:
    again = V2_ROW | {"fee": "0.01"}
    other = V2_ROW | {"address": C, "tkn1_decimals": 8}
    market = read_pools(write(tmp_path, V2_ROW, again, other))
    assert [reason for _, reason in market.refused] == [
        "address is listed twice",
        f"decimals 8 of {B}: 6 elsewhere",
    ]


def test_files_that_are_no_snapshot(tmp_path: Path) -> None:
    text = tmp_path / "pools.txt"
    text.write_text("pools")
    with pytest.raises(PoolFileError, match=r"pools\.txt: not a Parquet file"):
        read_pools(text)
    with pytest.raises(PoolFileError, match=r"missing\.parquet"):
        read_pools(tmp_path / "missing.parquet")
    lacking = {name: value for name, value in V2_ROW.items() if name != "liquidity"}
    with pytest.raises(PoolFileError, match="'liquidity'"):
        read_pools(write(tmp_path, lacking))
    with pytest.raises(PoolFileError, match="curves as floats"):
        read_pools(write(tmp_path, {"cid": "1", "constr": "uv2", "k": 2.0}))
    with pytest.raises(PoolFileError, match="none of 1 pools"):
        read_pools(write(tmp_path, V2_ROW | {"exchange_name": "bancor_v3"}))
