"""docs/tile.md out of the declarations of a tile's rows: `python -m envs.market.tile_page`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from envs.market import block, flow, inclusion, mempool, rivals
from envs.market.physics import BOOK_ROWS, WORLD_ROWS
from kernels.market import across, amm
from kernels.market.declaration import Row
from kernels.market.tile import POOL_ROWS, ROWS, SPANS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tile.md"
SCRATCH_USERS = (amm, across, mempool, rivals, inclusion, block, flow)
_LINE = "|---|---|---|---|"


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "| row | first | unit | meaning |"
    yield _LINE
    for row in rows:
        last = row.first + row.count - 1
        place = f"{row.first}" if row.count == 1 else f"{row.first} to {last}"
        yield f"| {row.name} | {place} | {row.unit} | {row.meaning} |"


def _count(per_pool: int, per_candidate: int) -> str:
    return f"{per_pool} P" if per_pool else ("C + B" if per_candidate == 1 else "")


def _lines() -> Iterator[str]:
    yield "# Rows of a tile"
    yield ""
    yield "Written by `python -m envs.market.tile_page` from the declarations in"
    yield "`kernels/market/tile.py` and `envs/market/physics.py`; do not edit it by hand."
    yield "A tile is `float64[rows, lanes]`. P pools, V of them concentrated, C cycles, B loans,"
    yield "T tokens. Reserves and amounts are whole tokens."
    yield ""
    yield "## Every market (`kernels/market/tile.py`)"
    yield ""
    yield from _table(ROWS)
    yield ""
    yield "## By graph, behind those (`tile.Layout` holds the first row of each)"
    yield ""
    yield "A candidate is a cycle or a loan. Of 2 P rows, the first P belong to token0 of each"
    yield "pool, the others to token1."
    yield ""
    yield "| rows | how many | unit | meaning |"
    yield _LINE
    for span in SPANS:
        count = _count(span.per_pool, span.per_candidate)
        yield f"| {span.name} | {count} | {span.unit} | {span.meaning} |"
    yield ""
    yield "## By concentrated pool, V times, behind those (`Layout.concentrated`)"
    yield ""
    yield from _table(POOL_ROWS)
    yield ""
    yield "## Of the simulator, behind those (`envs/market/physics.py`, from `Physics.world_row`)"
    yield ""
    yield from _table(WORLD_ROWS)
    yield ""
    yield "Books, T rows each, behind those:"
    yield ""
    yield "| book | number | unit | meaning |"
    yield _LINE
    for number, (name, unit, meaning) in enumerate(BOOK_ROWS):
        yield f"| {name} | {number} | {unit} | {meaning} |"
    yield ""
    yield "## Scratch: what a kernel keeps between two of its loops"
    yield ""
    yield "Each file has all scratch rows to itself while its kernel runs."
    for module in SCRATCH_USERS:
        yield ""
        yield f"`{module.__name__.replace('.', '/')}.py`:"
        yield ""
        yield from _table(module.SCRATCH_USE.rows)


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


if __name__ == "__main__":
    written = PAGE.with_suffix(".part")
    written.write_text(page(), encoding="utf-8")
    written.replace(PAGE)
