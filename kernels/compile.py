"""The decorators that compile every kernel, and the cache that keeps what they compiled.

MEVRL_BOUNDSCHECK=1 compiles with bounds checks. NUMBA_CACHE_DIR chooses another cache folder.
"""

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from numba import njit, types
from numba.extending import intrinsic

from kernels.compile_cache import cache_folder
from kernels.kernel_files import attach_cache
from kernels.kernel_forms import INNER, called_and_inner

P = ParamSpec("P")
R = TypeVar("R")

_switch = os.environ.get("MEVRL_BOUNDSCHECK", "0")
if _switch not in ("", "0", "1"):
    raise ValueError(f"MEVRL_BOUNDSCHECK={_switch!r}: expected 0 or 1; unset it for fast kernels")
BOUNDSCHECK = _switch == "1"

# Division by zero gives inf or 0 instead of an exception, a branch that stops vectorisation.
# fastmath and forceinline are always given: a callee first compiled inside another kernel would
# otherwise inherit them, exact kernels the float filter's reordering among it. Nothing calls a
# kernel through a pointer, which takes another wrapper.
_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": BOUNDSCHECK,
    "fastmath": False,
    "forceinline": False,
    "no_cfunc_wrapper": True,
}
_compile: Any = njit


def _compile_cached(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    """Compile lazily, with a cache entry that an edit of any callee leaves behind."""
    folder = cache_folder(function)

    def cached(form: str, **more: Any) -> Any:
        compiled = _compile(**options, **more)(function)
        if folder is not None:
            attach_cache(compiled, function, folder, form)
        return compiled

    return called_and_inner(cached("called"), cached("inner", **INNER))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile an exact kernel: no exceptions, no fastmath, GIL released, cached."""
    return _compile_cached(function, **_OPTIONS)


def lean_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """`kernel` for what allocates no array and returns none: arrays are not reference-counted.

    Handing a tuple of arrays to a callee otherwise costs two atomic additions per array, which is
    more than the arithmetic of a quote.
    """
    return _compile_cached(function, **_OPTIONS, _nrt=False)


def filter_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a float filter that only ranks: `kernel` with fastmath.

    NaN tests are always False and sums are reordered in it, so nothing exact may be decided here.
    """
    return _compile_cached(function, **(_OPTIONS | {"fastmath": True}))


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small callee that LLVM always inlines; its code lives in its callers' caches."""
    options = _OPTIONS | {"forceinline": True}
    return called_and_inner(_compile(**options)(function), _compile(**options, **INNER)(function))


@intrinsic
def _never_inline(typingctx: Any) -> Any:
    """Mark the function whose body calls this, while it is lowered."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), lower


# Called first in a large or rare kernel: LLVM compiles it once per caller instead of once per call,
# which takes seconds off the compilation of whoever divides.
never_inline: Any = _never_inline
