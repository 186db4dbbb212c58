"""What was measured beside what is asked of it: facts for reports and tests."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """A measured value and the least and the most that is asked of it; None: nothing is."""

    measure: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the value is within its bounds; None where nothing is asked."""
        if self.least is None and self.most is None:
            return None
        value = float(self.value)  # a comparison of numpy's numbers is not a bool
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)


def near(measure: str, value: float, theory: float, within: float) -> Finding:
    """A value that is asked to be as theory says, within a tolerance."""
    return Finding(measure, float(value), theory - within, theory + within)


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Plain dictionaries with a key `holds`."""
    return [
        finding._replace(value=float(finding.value))._asdict() | {"holds": finding.holds}
        for finding in findings
    ]


def table(by_subject: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Markdown table of what `as_json` made, and how many of the bounds hold."""
    rows = [(subject, row) for subject, rows in by_subject.items() for row in rows]
    asked = [row["holds"] for _, row in rows if row["holds"] is not None]
    return [
        "| | measured | value | asked | holds |",
        "|---|---|---|---|---|",
        *(
            f"| {subject} | {row['measure']} | {row['value']:.4g} | {_asked(row)} | "
            f"{ {True: 'yes', False: '**no**', None: ''}[row['holds']] } |"
            for subject, row in rows
        ),
        "",
        f"{sum(asked)} of {len(asked)} bounds hold.",
    ]


def _asked(row: Mapping[str, Any]) -> str:
    least, most = row["least"], row["most"]
    if least is None:
        return "" if most is None else f"at most {most:.4g}"
    return f"at least {least:.4g}" if most is None else f"{least:.4g} to {most:.4g}"
