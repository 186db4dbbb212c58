"""A kernel in two forms: called from Python, and inside other kernels.

What Python calls needs a wrapper that unpacks its arguments. For the market's eighty numbers and
arrays the wrapper takes ten times as long to compile as a small kernel, and most kernels are called
by kernels alone. Their form has none, so that it must never be called from Python.
"""

from typing import Any

import numba
from numba import types

INNER = {"no_cpython_wrapper": True}
"""Options of the form inside other kernels."""

# Names that Numba does not promise.
_NEEDED = ("get_call_template", "get_overload", "compile")


def called_and_inner(called: Any, inner: Any) -> Any:
    """The dispatcher `called`, in whose place other kernels find `inner`, of the same function.

    Numbers that a kernel writes out are no types of their own inside: Numba would compile a callee
    once for every number that it is given.
    """
    if missing := [name for name in _NEEDED if not hasattr(inner, name)]:
        raise ImportError(
            f"numba {numba.__version__} has no Dispatcher.{missing[0]}, which "
            "kernels/kernel_forms.py builds on: install a numba that pyproject.toml allows"
        )

    def get_call_template(arguments: Any, named: Any) -> Any:
        plain = {name: types.unliteral(one) for name, one in named.items()}
        return inner.get_call_template(tuple(map(types.unliteral, arguments)), plain)

    called.get_call_template = get_call_template
    called.get_overload = inner.get_overload
    called.inner_form = inner
    return called
