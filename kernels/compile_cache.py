"""Where compiled kernels are kept: one folder per state of the sources that a kernel depends on.

Numba notices an edited function, but not an edited callee in another file: a cached caller would
keep running the old arithmetic. A kernel's folder is named by a hash of its file and of every file
of this checkout that it imports, directly or not, so that any edit below it leads elsewhere. Paths
and times are not part of the hash: a second clone finds what the first one compiled.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import llvmlite
import numba

from kernels.kernel_files import LOG

ROOT = Path(__file__).resolve().parent.parent
# Settings that change the machine code without changing a source line.
COMPILE_SETTINGS = (
    *("MEVRL_DIVIDER", "MEVRL_BOUNDSCHECK", "NUMBA_BOUNDSCHECK", "NUMBA_OPT", "NUMBA_DEBUGINFO"),
    *("NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE", "NUMBA_DISABLE_INTEL_SVML"),
)
_COMPILER = f"{sys.version_info[:2]} {numba.__version__} {llvmlite.__version__}"
STALE_AFTER_S = 7 * 24 * 3600
_FOLDER_NAME = re.compile(r"mevrl-[0-9a-f]{20}")
_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+import\s+(.*)|import\s+(.*))", re.MULTILINE)


@cache
def imported_files(path: Path) -> frozenset[Path]:
    """Files of this checkout that the Python file `path` imports itself.

    It reads lines, not syntax: an import that looks optional, or stands in a string, counts too.
    """
    names = set()
    for package, members, modules in _IMPORT.findall(path.read_text(encoding="utf-8")):
        if package.startswith("."):
            # Relative: take the whole folder instead of resolving it.
            if path.is_relative_to(ROOT):
                names.add(".".join(path.parent.relative_to(ROOT).parts))
        elif package:
            # Members may be modules. Those on further lines of a parenthesis are not seen, so that
            # importing from a package stands for all of it.
            names |= {package, *(f"{package}.{name}" for name in re.findall(r"\w+", members))}
        else:
            names |= set(re.findall(r"[\w.]+", modules))
    return frozenset(file for name in names for file in _files_of(name))


def _files_of(module: str) -> Iterator[Path]:
    """The files that stand for a dotted module name, none when it is not of this checkout."""
    if not module.strip("."):
        return
    place = ROOT.joinpath(*module.split("."))
    if place.with_suffix(".py").is_file():
        yield place.with_suffix(".py")
    elif (place / "__init__.py").is_file():
        yield from place.glob("*.py")


def source_files(path: Path) -> set[Path]:
    """`path` and all files of this checkout that it depends on."""
    found: set[Path] = set()
    waiting = {path}
    while waiting:
        file = waiting.pop()
        found.add(file)
        waiting |= imported_files(file) - found
    return found


@cache
def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _name_of(file: Path) -> str:
    """A file's name within the checkout; the whole path of one that lies elsewhere."""
    return file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else str(file)


def source_hash(path: Path, module: str) -> str:
    """20 hex digits over `path`, everything below it, the compiler and its settings.

    `module` is the name that the file goes by: cached code looks its globals up under that name,
    which is another one when the file is run with -m or collected by pytest.
    """
    digest = hashlib.sha256(f"{module}\0{_COMPILER}\0".encode())
    for setting in COMPILE_SETTINGS:
        digest.update(f"{setting}={os.environ.get(setting, '')}\0".encode())
    for name, file in sorted((_name_of(file), file) for file in source_files(path)):
        digest.update(f"{name}\0".encode() + _digest(file))
    return digest.hexdigest()[:20]


def _parents() -> Iterator[Path]:
    """Folders to try, best first: the user's own, the user cache, a private temporary folder."""
    if own := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    yield Path(base) / "mevrl" / "numba"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # no temporary folder can be written
        return
    yield Path(temporary) / f"mevrl-numba-{user}"


def _usable(folder: Path) -> bool:
    """Create `folder`; False when it cannot be written, or when another user could fill it.

    The cache holds pickles, which run code when they are read.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o002):
            return False
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@cache
def cache_parent() -> Path | None:
    """The folder of all our caches, None when nothing can be written; drops those long unused."""
    for parent in _parents():
        if _usable(parent):
            _remove_stale(parent)
            return parent
        if str(parent) == os.environ.get("NUMBA_CACHE_DIR"):
            LOG.warning(
                "NUMBA_CACHE_DIR=%s is not used for compiled kernels: it must be a folder of yours "
                "that you can write and not everybody else",
                parent,
            )
    LOG.warning(
        "no folder can be written for compiled kernels: every process compiles anew; "
        "set NUMBA_CACHE_DIR to a folder of yours"
    )
    return None


def _remove_stale(parent: Path) -> None:
    """Delete caches that no process has used for a week, most of them of earlier sources."""
    oldest = time.time() - STALE_AFTER_S
    for path in parent.iterdir():
        try:
            old = path.lstat().st_mtime < oldest
        except OSError:
            continue
        if old and _FOLDER_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


@cache
def _folder(path: Path, module: str) -> Path | None:
    parent = cache_parent()
    if parent is None:
        return None
    folder = parent / f"mevrl-{source_hash(path, module)}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(folder)
    except OSError:
        return None
    return folder


def cache_folder(function: Callable) -> Path | None:
    """The folder for the compiled `function`; None where it cannot or should not be cached.

    Functions without a source file (typed at a prompt) are not cached. A kernel that a closure
    captures needs no care: Numba identifies it by its process, and compiles anew each time.
    """
    path = Path(function.__code__.co_filename).resolve()
    return _folder(path, function.__module__) if path.is_file() else None
