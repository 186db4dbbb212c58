"""Rows of a tile are declared once: constants, layout and tables agree, and no two rows overlap."""

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.graph.market_graph import Graph, build_graph
from kernels.market import across, amm, tile
from kernels.market.declaration import Declaration, Row, overlaps
from kernels.market.tile import (
    BORROWERS,
    CONCENTRATED_ROWS,
    FIXED_ROWS,
    POOL_ROWS,
    RESERVES,
    ROWS,
    SCRATCH,
    SCRATCH_ROWS,
    SPANS,
    WORD,
    layout_of,
    layout_rows,
    tile_rows,
)
from tests.support.markets import two_venues


def constant(module: ModuleType, row: Row) -> int:
    """The constant that a module binds to a declared row, public or not."""
    bound = vars(module)
    return bound[row.name] if row.name in bound else bound[f"_{row.name}"]


@pytest.mark.parametrize(
    ("module", "rows"),
    [
        (tile, ROWS),
        (tile, POOL_ROWS),
        (amm, amm.SCRATCH_USE.rows),
        (across, across.SCRATCH_USE.rows),
    ],
)
def test_every_constant_is_its_declared_row(module: ModuleType, rows: tuple[Row, ...]) -> None:
    assert {row.name: constant(module, row) for row in rows} == {r.name: r.first for r in rows}


def test_fixed_rows_have_no_gap() -> None:
    taken = [number for row in ROWS for number in range(row.first, row.first + row.count)]
    assert taken == list(range(FIXED_ROWS))
    assert all(row.unit and row.meaning for row in (*ROWS, *POOL_ROWS))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A hub with two to seven pools around it, some pairs twice, so that there are cycles."""
    pools = draw(st.integers(2, 7))
    tokens = draw(st.lists(st.integers(1, 3), min_size=pools, max_size=pools))
    return build_graph(
        [0] * (pools + 1), [*tokens, tokens[0]], [997] * (pools + 1), [1000] * (pools + 1), [18] * 4
    )


@given(graphs(), st.integers(0, 3))
def test_layout_follows_the_declared_spans(graph: Graph, concentrated: int) -> None:
    """Fields of Layout against a count over SPANS; with the fixed rows they fill the tile."""
    pools, candidates = graph.token0.size, graph.cycle_hops.size + BORROWERS
    rows, first = layout_of(graph), FIXED_ROWS
    for span in SPANS:
        expected = RESERVES if span.name == "RESERVES" else getattr(rows, span.name, first)
        assert expected == first, span.name
        words = span.per_word * -(-graph.cycle_hops.size // WORD)
        first += span.per_pool * pools + span.per_candidate * candidates + words
    assert rows.concentrated == first
    assert first + CONCENTRATED_ROWS * concentrated == tile_rows(graph, concentrated)
    declared = [*ROWS, *layout_rows(rows, concentrated)]
    assert sum(row.count for row in declared) == tile_rows(graph, concentrated)
    assert overlaps(declared) == []


def test_an_overlap_is_found() -> None:
    rows = layout_rows(layout_of(two_venues()))
    moved = [row._replace(first=row.first - 1) if row.name == "net" else row for row in rows]
    assert overlaps(moved) == [("gross", "net")]


def test_declarations_that_cannot_be_are_refused() -> None:
    rows = Declaration(SCRATCH_ROWS, SCRATCH)
    assert rows.row("TIMES", SCRATCH - 1, "s", "of arrivals") == SCRATCH_ROWS
    with pytest.raises(ValueError, match="row TIMES is declared twice"):
        rows.row("TIMES", 1, "s", "of arrivals")
    with pytest.raises(ValueError, match="row COUNT has 0 rows: at least 1"):
        rows.row("COUNT", 0, "swaps", "none")
    with pytest.raises(ValueError, match=f"row COUNT needs {SCRATCH + 1} rows of {SCRATCH}"):
        rows.row("COUNT", 2, "swaps", "too many")
    assert rows.end == SCRATCH_ROWS + SCRATCH - 1
