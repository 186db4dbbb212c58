"""The decorators that compile every kernel, so that one place decides how kernels are compiled.

MEVRL_BOUNDSCHECK=1 compiles all of them with bounds checks (tests on hostile input).
"""

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from numba import njit

from kernels import CACHE_FOLDER

P = ParamSpec("P")
R = TypeVar("R")

_switch = os.environ.get("MEVRL_BOUNDSCHECK", "0")
if _switch not in ("", "0", "1"):
    raise ValueError(f"MEVRL_BOUNDSCHECK={_switch!r}: expected 0 or 1; unset it for fast kernels")
BOUNDSCHECK = _switch == "1"

# Division by zero gives inf or 0 instead of an exception, a branch that stops vectorisation;
# Numba refuses to decorate a cached function when no folder can be written.
_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": BOUNDSCHECK,
    "cache": CACHE_FOLDER is not None,
}
_compile: Any = njit


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile an exact kernel: no exceptions, no fastmath, GIL released, cached."""
    return _compile(**_OPTIONS)(function)


def filter_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a float filter that only ranks: `kernel` with fastmath.

    NaN tests are always False and sums are reordered in it, so nothing exact may be decided here.
    """
    return _compile(**_OPTIONS, fastmath=True)(function)


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small callee that LLVM always inlines; its code lives in its callers' caches."""
    return _compile(**(_OPTIONS | {"cache": False}), forceinline=True)(function)
