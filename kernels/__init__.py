"""Ground floor: compiled kernels on flat arrays. Importing it chooses the folder of Numba's cache.

Numba notices an edited function, but not an edited callee in another file: a caller would keep
running the old arithmetic. The folder is therefore named by a hash of all compiled sources.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

COMPILED_FOLDERS = ("kernels", "envs")
# Settings that change the machine code without changing a source line.
COMPILE_SETTINGS = (
    "MEVRL_DIVIDER",
    "MEVRL_BOUNDSCHECK",
    "NUMBA_BOUNDSCHECK",
    "NUMBA_OPT",
)
STALE_AFTER_S = 7 * 24 * 3600
_FOLDER_NAME = re.compile(r"mevrl-[0-9a-f]{20}")


def source_hash(root: Path, folders: tuple[str, ...] = COMPILED_FOLDERS) -> str:
    """Return 20 hex digits over every Python source in `folders` and the compile settings."""
    digest = hashlib.sha256()
    for setting in COMPILE_SETTINGS:
        digest.update(f"{setting}={os.environ.get(setting, '')}\0".encode())
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            source = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(source)}\0".encode())
            digest.update(source)
    return digest.hexdigest()[:20]


def _cache_parents() -> list[Path]:
    """Folders to try, best first: the user's own, the user cache, a private temporary folder."""
    parents = []
    if own := os.environ.get("NUMBA_CACHE_DIR"):
        # A child process inherits the folder chosen by its parent: take the folder above it.
        chosen = Path(own)
        parents.append(chosen.parent if _FOLDER_NAME.fullmatch(chosen.name) else chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    parents.append(Path(base) / "mevrl" / "numba")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    parents.append(Path(tempfile.gettempdir()) / f"mevrl-numba-{user}")
    return parents


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


def _remove_stale(parent: Path, keep: Path) -> None:
    """Delete caches of earlier sources that no process has used for a week."""
    oldest = time.time() - STALE_AFTER_S
    try:
        siblings = [path for path in parent.iterdir() if _FOLDER_NAME.fullmatch(path.name)]
    except OSError:
        return
    for path in siblings:
        try:
            stale = path != keep and not path.is_symlink() and path.stat().st_mtime < oldest
        except OSError:
            continue
        if stale:
            shutil.rmtree(path, ignore_errors=True)


def _choose_cache() -> Path | None:
    """Point Numba at the cache of the present sources; None when no folder can be written."""
    name = f"mevrl-{source_hash(Path(__file__).resolve().parent.parent)}"
    for parent in _cache_parents():
        folder = parent / name
        if not (_usable(parent) and _usable(folder)):
            continue
        try:
            os.utime(folder)
        except OSError:
            continue
        _remove_stale(parent, folder)
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
        # Numba reads the variable when it is imported; it may have been imported already.
        if (config := sys.modules.get("numba.core.config")) is not None:
            config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
        return folder
    return None


CACHE_FOLDER = _choose_cache()
