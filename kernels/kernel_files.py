"""Numba's cache of one kernel, kept by content: neither the path of the checkout nor the time of a
file matters, and a damaged entry is compiled anew.

Numba keys its files by the path, time and size of the source. Here the folder, which
`kernels.compile_cache` names by a hash of all sources, says everything about them. Numba's own key
of an entry adds the argument types, the processor and its features.
"""

import hashlib
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

LOG = logging.getLogger("mevrl.kernels")
_DIGEST_BYTES = hashlib.sha256().digest_size

# Names that Numba does not promise. Their absence must not silently mean "no cache".
_NEEDED = ("CompileResultCacheImpl", "FunctionCache", "IndexDataCacheFile", "_CacheLocator")
if missing := [name for name in _NEEDED if not hasattr(caching, name)]:
    raise ImportError(
        f"numba {numba.__version__} has no numba.core.caching.{missing[0]}, which "
        "kernels/kernel_files.py builds on: install a numba that pyproject.toml allows"
    )
_FunctionCache: Any = caching.FunctionCache
_IndexDataCacheFile: Any = caching.IndexDataCacheFile


def attach_cache(dispatcher: Any, function: Callable[..., Any], folder: Path, form: str) -> None:
    """Let the compiled `dispatcher` of `function` load from and save into `folder`.

    Its other forms (see `kernels.kernel_forms`) have files of their own.
    """
    if not hasattr(dispatcher, "_cache"):
        raise ImportError(f"numba {numba.__version__} keeps no _cache: see kernels/kernel_files.py")
    dispatcher._cache = _KernelCache(function, folder, form)


class _KernelCache(_FunctionCache):
    """The cached overloads of one function. Whatever goes wrong with a file is a miss."""

    def __init__(self, function: Callable[..., Any], folder: Path, form: str) -> None:
        locator = _locator(folder, form)
        self._impl_class = type(
            "KernelCacheImpl", (caching.CompileResultCacheImpl,), {"_locator_classes": [locator]}
        )
        super().__init__(function)
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, "")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            LOG.debug("%s: unusable cache entry (%s): compiled anew", self._name, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            LOG.warning("compiled kernels are not kept: %s", error)


def _locator(folder: Path, form: str) -> type:
    """A cache locator of Numba that answers `folder` for every function."""

    class Locator(caching._CacheLocator):  # type: ignore[name-defined]
        def __init__(self, function: Callable[..., Any], file: str) -> None:
            self._py_file, self._line = file, function.__code__.co_firstlineno

        def get_cache_path(self) -> str:
            return os.fspath(folder)

        def get_source_stamp(self) -> str:
            return ""

        def get_disambiguator(self) -> str:
            return f"{self._line}-{form}"

        @classmethod
        def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "Locator":
            return cls(py_func, py_file)

    return Locator


class _CheckedFiles(_IndexDataCacheFile):
    """Index and data files whose damage is noticed before a byte of them is executed."""

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        """The entry of `key`, or None.

        Two processes that save two signatures at once can give both files one number. The key
        within the file says whose code it holds.
        """
        found = super().load(key)
        return found[1] if found is not None and found[0] == key else None

    def _load_index(self) -> dict[Any, str]:
        try:
            return super()._load_index()
        except Exception as error:  # unpickling damaged bytes can raise anything
            LOG.debug("%s: damaged index (%s)", self._index_path, error)
            return {}

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _load_data(self, name: str) -> Any:
        stored = Path(self._data_path(name)).read_bytes()
        digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise OSError(f"{name} is damaged")  # Numba takes an OSError for a missing entry
        return pickle.loads(content)
