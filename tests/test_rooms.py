"""The rooms of docs/architecture.md: their size, their order, the names in them, and how much a
function may be handed."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Rooms of a folder, ground first: a room imports itself and those before it. "" is the folder.
ROOMS = {
    "configs": ("",),
    "kernels": (
        "",
        "numbers",
        "chain",
        "graph",
        "pools/uniswap_v3",
        "pools",
        "sizing",
        "calldata",
        "market",
        "networks",
        "learning",
    ),
    "history": ("bars", ""),
    "envs": ("market", "auctions", "hidden_competition", "recorded", "", "calibration"),
    "models": ("frozen", "", "volatility", "policy", "patterns"),
    "agents": (
        "measures",
        "bidders",
        "",
        "learner",
        "training",
        "evaluate",
        "hidden_competition",
        "belief",
        "studies",
        "patterns",
        "report",
    ),
    "live": ("settings", "node", "market", "books", "deciding", ""),
    "devnet": ("",),
    "benchmarks": ("",),
}
FEWEST_FILES, MOST_FILES = 3, 16
MOST_LINES = 440
MOST_PARAMETERS, MOST_KERNEL_PARAMETERS = 8, 10
# Written behind a `def` that needs more parameters than that, with the reason after it.
EXCUSE = "# parameters:"


def files_of(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def every_file() -> list[Path]:
    return [*ROOT.glob("*.py"), *(file for folder in ROOMS for file in files_of(folder))]


def imports_of(path: Path) -> Iterator[Path]:
    """Files of this checkout that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name for name in members if _file_of(name)] or [node.module]
        yield from (file for name in names if (file := _file_of(name)))


def _file_of(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    if place.with_suffix(".py").is_file():
        return place.with_suffix(".py")
    package = place / "__init__.py"
    return package if package.is_file() else None


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_every_room_is_listed_and_holds_three_to_sixteen_files(folder: str) -> None:
    sizes = Counter(file.parent.relative_to(ROOT / folder).as_posix() for file in files_of(folder))
    rooms = {"" if room == "." else room: size for room, size in sizes.items()}
    assert set(rooms) == set(ROOMS[folder])
    wrong = {room: n for room, n in rooms.items() if not FEWEST_FILES <= n <= MOST_FILES}
    assert not wrong, f"files in a room of {folder}/: {wrong}"


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_rooms_import_one_way(folder: str) -> None:
    place = ROOT / folder
    order = {room: i for i, room in enumerate(ROOMS[folder])}

    def height(file: Path) -> int:
        room = file.parent.relative_to(place).as_posix()
        return order["" if room == "." else room]

    wrong = [
        f"{file.relative_to(ROOT)} imports {imported.relative_to(ROOT)}"
        for file in files_of(folder)
        for imported in imports_of(file)
        if imported.is_relative_to(place) and height(imported) > height(file)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_two_files_import_each_other() -> None:
    graph = {file: set(imports_of(file)) for file in every_file()}
    done: set[Path] = set()

    def visit(file: Path, way: list[Path]) -> None:
        if file in way:
            circle = [f.relative_to(ROOT).as_posix() for f in (*way[way.index(file) :], file)]
            raise AssertionError("a circle of imports: " + " -> ".join(circle))
        if file not in done:
            for imported in graph.get(file, ()):
                visit(imported, [*way, file])
            done.add(file)

    for file in graph:
        visit(file, [])


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_no_base_name_stands_twice_in_a_folder(folder: str) -> None:
    places = defaultdict(list)
    for file in files_of(folder):
        if not file.stem.startswith("__"):
            places[file.stem].append(file.relative_to(ROOT).as_posix())
    twice = [" and ".join(files) for files in places.values() if len(files) > 1]
    assert not twice, "\n".join(twice)


def test_no_function_is_handed_more_than_it_can_name() -> None:
    wrong = []
    for file in every_file():
        lines = file.read_text().splitlines()
        most = MOST_KERNEL_PARAMETERS if file.is_relative_to(ROOT / "kernels") else MOST_PARAMETERS
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            given = node.args
            names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            signature = lines[node.lineno - 1 : node.body[0].lineno]
            if count > most and not any(EXCUSE in line for line in signature):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name} ({count})")
    assert not wrong, "\n".join(wrong)


def test_files_stay_short() -> None:
    long = {
        file.relative_to(ROOT).as_posix(): lines
        for file in every_file()
        if (lines := file.read_text().count("\n")) > MOST_LINES
    }
    assert not long, f"longer than {MOST_LINES} lines: {long}"
