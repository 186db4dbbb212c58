"""Rows of a tile, each declared once: its number, its unit and its line in docs/tile.md."""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple


class Row(NamedTuple):
    """Consecutive rows of one meaning."""

    name: str
    first: int
    count: int
    unit: str
    meaning: str


class Declaration:
    """Rows that follow one another from row `first` on, in the order of their declaration.

    Raises ValueError when a name is declared twice, a count is below 1, or the rows are more than
    `most`.
    """

    def __init__(self, first: int = 0, most: int | None = None) -> None:
        self._first, self._most = first, most
        self._declared: list[Row] = []

    def row(self, name: str, count: int, unit: str, meaning: str) -> int:
        """Declare the next `count` rows; the number of the first of them."""
        if any(row.name == name for row in self._declared):
            raise ValueError(f"row {name} is declared twice: give it another name")
        if count < 1:
            raise ValueError(f"row {name} has {count} rows: at least 1")
        first = self.end
        if self._most is not None and first + count > self._first + self._most:
            raise ValueError(
                f"row {name} needs {first + count - self._first} rows of {self._most}: "
                "allow more, or declare fewer"
            )
        self._declared.append(Row(name, first, count, unit, meaning))
        return first

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is declared so far."""
        return tuple(self._declared)

    @property
    def end(self) -> int:
        """The row after the last one declared."""
        last = self._declared[-1] if self._declared else None
        return self._first if last is None else last.first + last.count


def overlaps(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Names of the neighbours, in order of row number, that claim a row in common."""
    ordered = sorted(rows, key=lambda row: row.first)
    return [
        (one.name, other.name)
        for one, other in pairwise(ordered)
        if one.first + one.count > other.first
    ]
