"""`python -m benchmarks [NAME ...] [--quick] [--json FILE] [--figures DIR]`: checks first, then
times.
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("benchmarks")  # before the heavy imports: they take seconds

import argparse
import importlib
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.harness import CheckFailedError, Measurement
from history.files import write_atomically

# What one name runs: modules of this package, each with run(quick).
PARTS = {
    "kernels": ("kernels", "uniswap_v3", "calldata", "graph"),
    "env": ("env", "env_growth"),
    "train": ("train", "forecast"),
    "serve": ("serve",),
}


def run(part: str, quick: bool) -> list[Measurement]:
    return importlib.import_module(f"benchmarks.{part}").run(quick)


def draw(part: str, rows: list[Measurement], folder: Path) -> None:
    """The figure of a part that has one, drawn from what was just measured."""
    module = importlib.import_module(f"benchmarks.{part}")
    if hasattr(module, "draw"):
        module.draw(rows, folder)


def print_table(console: Console, title: str, rows: list[Measurement]) -> None:
    """Every figure beside its target."""
    table = Table(title=title, title_justify="left")
    for column in ("measure", "value", "unit", "target", "note"):
        number = column in ("value", "unit")  # which a narrow terminal must not cut
        justify = "right" if column == "value" else "left"
        table.add_column(column, justify=justify, no_wrap=number)
    for row in rows:
        table.add_row(row.name, f"{row.value:,.4g}", row.unit, row.target, row.note)
    console.print(table)


def write_json(path: Path, results: dict[str, list[Measurement]]) -> None:
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    body = {"machine": machine, **{k: [asdict(r) for r in rows] for k, rows in results.items()}}
    write_atomically(path, json.dumps(body, indent=2) + "\n")


def main() -> int:
    """Exit status 0 when every check held, 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *PARTS], metavar="NAME", default=[])
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, seconds instead of minutes"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--figures", type=Path, help="also draw into this folder (env)")
    options = parser.parse_args()
    # the ratios compare single threads; a second thread would blur them
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console = Console()
    results: dict[str, list[Measurement]] = {}
    failed = False
    for name in options.names or PARTS:
        results[name] = []
        for part in PARTS[name]:
            try:
                rows = run(part, options.quick)
            except CheckFailedError as error:
                # the other parts still say what they are worth
                console.print(f"[red]{name}: {part}: check failed:[/] {error}")
                failed = True
                continue
            print_table(console, name if part == name else f"{name}: {part}", rows)
            results[name] += rows
            if options.figures:
                draw(part, rows, options.figures)
    if options.json:
        write_json(options.json, results)
    return 1 if failed else 0


if __name__ == "__main__":
    ended("benchmarks", main)
