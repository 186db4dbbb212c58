"""`python docs/generate.py [--check]`: one page per family of kernels from the docstrings.

Sources are parsed, not imported, so that it takes no compiler and no second.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = "kernels"
PAGES = Path("docs") / "kernels"
INDEX = "README.md"
COMMAND = "python docs/generate.py"
HEADER = f"<!-- Written by `{COMMAND}` from the docstrings: edit those. -->"

DECORATORS = {
    "kernel": "kernel",
    "lean_kernel": "lean kernel",
    "filter_kernel": "float filter",
    "inline": "inline",
}
LEGEND = """\
A module's entry points come first, the functions that they are built from after them. Behind each
name stands how it runs. A *kernel* is compiled, exact and keeps the order of its operations; a
*lean kernel* is one that neither makes nor returns an array; an *inline* function is compiled into
its callers; a *float filter* may reorder sums and only ranks candidates; *LLVM* is an instruction
of the compiler; *Python* prepares arrays and is not for the hot path. Kernels do not raise: they
return status codes, and write their results into arrays that the caller brings."""


@dataclass(frozen=True)
class Family:
    """One page: its file name, title, what a newcomer should know first, and its modules.

    `modules` are shell patterns of dotted names below kernels/, shown in that order.
    """

    name: str
    title: str
    introduction: str
    modules: tuple[str, ...]


FAMILIES = (
    Family(
        "integers",
        "Wide integers",
        "Contracts count in 256 bits and round every division in a stated direction. These are "
        "the scalars that the exact kernels are written in, and the number formats beside them.",
        (
            "u256",
            "wide_integers",
            "division",
            "checked_math",
            "log_exp",
            "double_double",
            "elementary",
        ),
    ),
    Family(
        "uniswap_v2",
        "Uniswap V2 and its forks",
        "Two reserves whose product never falls. A fee is a numerator and a denominator per "
        "direction, which is all that the forks differ in.",
        ("uniswap_v2*",),
    ),
    Family(
        "uniswap_v3",
        "Uniswap V3 and its forks",
        "Liquidity per range of ticks: a swap is a walk over ticks, and each step rounds as the "
        "contract does. One file per library of v3-core.",
        ("uniswap_v3*", "pancake*"),
    ),
    Family(
        "other_pools",
        "Other pools",
        "Pools with a curve or a contract of their own, and what treats all kinds alike.",
        ("pools*", "pool_*", "uniswap_v4*", "stableswap*", "weighted*", "lending*"),
    ),
    Family(
        "graph_and_sizing",
        "Graph, cycles and sizing",
        "Which cycles of pools exist, which of them pay, how much to send round, and which of "
        "them do not stand in each other's way.",
        (
            "graph*",
            "token_graph*",
            "cycle*",
            "bellman_ford*",
            "sizing*",
            "float_filter*",
            "mixed_*",
            "routing*",
            "opportunities*",
        ),
    ),
    Family(
        "calldata",
        "Calldata",
        "What a pending transaction will swap, read from its bytes. They come from anybody, so "
        "nothing in them is believed before it is checked.",
        ("calldata*", "abi"),
    ),
    Family(
        "fees",
        "Gas, fees and auctions",
        "What inclusion costs: the base fee, the tip, the gas of a plan, and the bid.",
        ("fees*", "gas*", "auction*"),
    ),
    Family(
        "market",
        "Market, observation and action",
        "The state that simulator and server share, what a policy sees of it, and what its "
        "choices mean.",
        ("lanes", "market*", "mempool*", "observation*", "action", "regime*"),
    ),
    Family(
        "networks",
        "Features and networks",
        "Volatility features and the frozen networks that are evaluated in the hot path.",
        (
            "features*",
            "network*",
            "matrix_products",
            "action_masks",
            "perceptrons",
            "policy_*",
            "forecast*",
        ),
    ),
    Family(
        "compilation",
        "Compilation",
        "How kernels are compiled and where the machine code is kept.",
        ("compile", "compile_cache"),
    ),
)


class DocumentationError(Exception):
    """A module has no family, or more than one; the message names the remedy."""


def module_files(root: Path) -> dict[str, Path]:
    """Dotted name below kernels/ -> file, packages' own __init__ only when it says something."""
    folder = root / SOURCES
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
            if not parts or len(path.read_text(encoding="utf-8").splitlines()) < 4:
                continue
        found[".".join(parts)] = path
    return found


def modules_of_families(files: dict[str, Path]) -> dict[str, list[str]]:
    """Family name -> its modules, in the order of its patterns; every module has one family."""
    owners: dict[str, list[str]] = {name: [] for name in files}
    for family in FAMILIES:
        for name in files:
            if any(fnmatchcase(name, pattern) for pattern in family.modules):
                owners[name].append(family.name)
    for name, families in owners.items():
        if len(families) != 1:
            raise DocumentationError(
                f"{SOURCES}/{name.replace('.', '/')}.py belongs to {families or 'no family'}: "
                f"name it in exactly one entry of FAMILIES in docs/generate.py"
            )
    ordered = {}
    for family in FAMILIES:
        mine = [name for name in files if owners[name] == [family.name]]
        place = {
            name: next(i for i, p in enumerate(family.modules) if fnmatchcase(name, p))
            for name in mine
        }
        ordered[family.name] = sorted(mine, key=lambda name: (place[name], name))
    return ordered


def markdown(text: str) -> str:
    """Docstring text with what Markdown would take for markup escaped, code spans left alone."""
    pieces = re.split(r"(`+[^`]*`+)", text)
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(r"\*(?=\S)|(?<=\S)\*|<(?=[A-Za-z/!])|\|", r"\\\g<0>", pieces[i])
    return "".join(pieces)


def docstring(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    return markdown(ast.get_docstring(node) or "")


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, on one line."""
    line = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", line)[0]


def signature(node: ast.FunctionDef, lines: list[str]) -> str:
    """`def name(...) -> ...` as it stands in the source, without its body."""
    return "\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1]).rstrip().removesuffix(":")


def how_compiled(node: ast.FunctionDef) -> str:
    """What the decorator promises, empty for plain Python."""
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Name) and decorator.id in DECORATORS:
            return DECORATORS[decorator.id]
    return "Python"


def constants(tree: ast.Module, lines: list[str]) -> str:
    """Public one-line constants with the comments above and behind them."""
    kept: list[str] = []
    previous = -1
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(target, ast.Name) or not re.fullmatch(r"[A-Z][A-Z0-9_]*", target.id):
            continue
        if node.end_lineno != node.lineno:
            continue
        first = node.lineno - 1
        while first > 0 and lines[first - 1].startswith("#"):
            first -= 1
        if kept and first > previous + 1:
            kept.append("")
        kept += lines[first : node.lineno]
        previous = node.lineno - 1
    return "\n".join(kept)


def intrinsic_blocks(tree: ast.Module) -> Iterator[str]:
    """Public names that stand for LLVM code: `limb: Any = _limb`, `u256: Any = converter(U256)`."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        made = node.value.func if isinstance(node.value, ast.Call) else node.value
        origin = functions.get(made.id) if isinstance(made, ast.Name) else None
        if origin is None or node.target.id.startswith("_"):
            continue
        arguments = ", ".join(argument.arg for argument in origin.args.args[1:])
        if isinstance(node.value, ast.Call):
            arguments = ", ".join(ast.unparse(argument) for argument in node.value.args)
            yield f"### {node.target.id}\n"
            yield f"*`{origin.name}({arguments})`.* {docstring(origin)}\n"
        else:
            yield f"### {node.target.id}\n"
            yield f"```python\n{node.target.id}({arguments})\n```\n"
            yield f"*LLVM.* {docstring(origin)}\n"


def class_block(node: ast.ClassDef) -> Iterator[str]:
    """A public class: its docstring, its fields with what stands behind or below them."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    yield f"### `class {node.name}{f'({bases})' if bases else ''}`\n"
    yield docstring(node) + "\n"
    rows = []
    for i, field in enumerate(node.body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        below = node.body[i + 1] if i + 1 < len(node.body) else None
        meaning = ""
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            meaning = markdown(" ".join(str(below.value.value).split()))
        rows.append(f"| `{field.target.id}` | `{ast.unparse(field.annotation)}` | {meaning} |")
    if rows:
        yield "\n".join(["| field | type | meaning |", "|---|---|---|", *rows]) + "\n"


def reading_order(tree: ast.Module) -> list[ast.ClassDef | ast.FunctionDef]:
    """Public classes, then functions that no other one here uses, then those that are used."""
    nodes = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    used = {
        inner.id
        for node in nodes
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and inner.id != node.name
    }

    def rank(node: ast.ClassDef | ast.FunctionDef) -> int:
        return 0 if isinstance(node, ast.ClassDef) else 1 + (node.name in used)

    return sorted((node for node in nodes if not node.name.startswith("_")), key=rank)


def module_block(name: str, path: Path, root: Path) -> Iterator[str]:
    """One module of a page."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    tree = ast.parse(source)
    where = path.relative_to(root).as_posix()
    yield f"## {SOURCES}.{name}\n"
    yield f"[{where}](../../{where})\n"
    yield docstring(tree) + "\n"
    fixed = constants(tree, lines)
    if fixed:
        yield f"```python\n{fixed}\n```\n"
    for node in reading_order(tree):
        if isinstance(node, ast.ClassDef):
            yield from class_block(node)
        else:
            yield f"### {node.name}\n"
            yield f"```python\n{signature(node, lines)}\n```\n"
            yield f"*{how_compiled(node)}.* {docstring(node)}\n"
    yield from intrinsic_blocks(tree)


def pages(root: Path) -> dict[str, str]:
    """File name -> content of every page, the index among them."""
    files = module_files(root)
    by_family = modules_of_families(files)
    written = {}
    index = [HEADER, "", "# Kernels", ""]
    index.append(
        "Everything that decides about money or runs millions of times a second, by family. "
        "Formulas and their sources, shapes, units and rounding stand with each function."
    )
    index += ["", LEGEND]
    for family in FAMILIES:
        modules = by_family[family.name]
        if not modules:
            continue
        head = [HEADER, "", f"# {family.title}", "", family.introduction, ""]
        index += ["", f"## [{family.title}]({family.name}.md)", "", family.introduction, ""]
        for name in modules:
            tree = ast.parse(files[name].read_text(encoding="utf-8"))
            index.append(f"- `{SOURCES}.{name}`: {first_sentence(docstring(tree))}")
        body = [part for name in modules for part in module_block(name, files[name], root)]
        written[f"{family.name}.md"] = "\n".join(head + body).rstrip() + "\n"
    written[INDEX] = "\n".join(index) + "\n"
    return written


def stale_pages(root: Path) -> list[str]:
    """Names of the committed pages that differ from the sources, are missing, or are left over."""
    expected = pages(root)
    folder = root / PAGES
    present = {path.name for path in folder.glob("*.md")}
    return sorted(
        name
        for name in present | set(expected)
        if name not in expected
        or name not in present
        or (folder / name).read_text(encoding="utf-8") != expected[name]
    )


def write(root: Path) -> list[str]:
    """Bring the pages up to date; the names of those that changed."""
    changed = stale_pages(root)
    expected = pages(root)
    folder = root / PAGES
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name not in expected:
            (folder / name).unlink()
            continue
        temporary = folder / f"{name}.part"
        temporary.write_text(expected[name], encoding="utf-8")
        temporary.replace(folder / name)
    return changed


def main() -> int:
    """Exit status 1 when --check finds pages out of date or a module has no family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    options = parser.parse_args()
    try:
        names = stale_pages(options.root) if options.check else write(options.root)
    except DocumentationError as error:
        print(error, file=sys.stderr)
        return 1
    if options.check and names:
        print(f"out of date: {', '.join(names)}; run {COMMAND}", file=sys.stderr)
        return 1
    if names:
        print(f"written: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
