"""The simulator's rows follow those of the tile, and docs/tile.md is what the declarations say."""

from types import ModuleType

import pytest

from envs.market import block, flow, inclusion, mempool, physics, rivals
from envs.market.config import MarketConfig
from envs.market.physics import BOOK_ROWS, BOOKS, PRICE, WORLD_ROWS, physics_of, world_rows
from envs.market.tile_page import PAGE, page
from kernels.market.declaration import Row, overlaps
from kernels.market.tile import ROWS, layout_of, layout_rows


def test_docs_are_the_declarations() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m envs.market.tile_page"


@pytest.mark.parametrize(
    ("module", "rows"),
    [
        (physics, WORLD_ROWS),
        *((each, each.SCRATCH_USE.rows) for each in (block, flow, inclusion, mempool, rivals)),
    ],
)
def test_every_constant_is_its_declared_row(module: ModuleType, rows: tuple[Row, ...]) -> None:
    assert {row.name: getattr(module, row.name) for row in rows} == {r.name: r.first for r in rows}


def test_books_stand_in_their_order() -> None:
    numbers = [getattr(physics, name) for name, _, _ in BOOK_ROWS[1:]]
    assert numbers == list(range(1, BOOKS))
    assert max(row.first + row.count for row in WORLD_ROWS) == PRICE


def test_rows_of_a_market_do_not_overlap() -> None:
    config = MarketConfig(era="rich")
    graph, tokens = config.graph, 4
    numbers = physics_of(config, graph)
    own = [row._replace(first=numbers.world_row + row.first) for row in WORLD_ROWS]
    books = [
        Row(name, numbers.world_row + PRICE + book * tokens, tokens, unit, meaning)
        for book, (name, unit, meaning) in enumerate(BOOK_ROWS)
    ]
    rows = [*ROWS, *layout_rows(layout_of(graph), config.pools.concentrated), *own, *books]
    assert overlaps(rows) == []
    assert sum(row.count for row in rows) == numbers.world_row + world_rows(tokens)
