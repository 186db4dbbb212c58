"""The border of compiled code: arrays that come from outside are checked here, once, by name.

Kernels read without bounds checks. A kernel that callers hand arrays of their own has an
`@entrance`; a class that calls a kernel in a loop checks its arrays when it is built, with
`check_array`; numbers that become an index go through `check_indices`.
"""

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")

Axis = int | str | None
INTEGERS = "iu"
FORMS_KEPT = 256  # of each entrance; a caller with ever new lengths must not fill the memory


class ArrayError(ValueError):
    """An array that a kernel must not read; the message names it, what came and what is wanted."""


class Wanted(NamedTuple):
    """Shape and type of an array. A letter is a length that the call decides, None any length."""

    shape: tuple[Axis, ...]
    dtype: Any
    """A NumPy type, or a string of NumPy's kind codes, `INTEGERS` for one."""


def wanted(dtype: Any, *shape: Axis) -> Wanted:
    """`Wanted` in the order that reads like float64[N, 2]."""
    return Wanted(shape, dtype)


def check_array(
    name: str,
    given: Any,
    shape: tuple[Axis, ...],
    dtype: Any,
    low: float | None = None,
    high: float | None = None,
) -> NDArray[Any]:
    """`given`, an array of that shape and type with values from `low` to `high`, both included.

    Axes and types as in `Wanted`. A bound also refuses NaN. Raises ArrayError.
    """
    _check_form(name, given, Wanted(shape, dtype), {})
    if given.size and (low is not None or high is not None):
        least = -np.inf if low is None else low
        most = np.inf if high is None else high
        inside = (given >= least) & (given <= most)
        if not inside.all():
            at = np.unravel_index(int(np.argmin(inside)), given.shape)
            place = ", ".join(str(int(i)) for i in at)
            raise ArrayError(f"{name}[{place}] is {given[at]}: give {_range(least, most)}")
    return given


def check_finite(
    name: str, given: Any, shape: tuple[Axis, ...], dtype: Any = np.float64
) -> NDArray[Any]:
    """`check_array` of numbers that must be known: neither NaN nor infinite."""
    limit = float(np.finfo(dtype).max)
    return check_array(name, given, shape, dtype, -limit, limit)


def as_floats(
    name: str,
    given: Any,
    shape: tuple[Axis, ...],
    low: float | None = None,
    high: float | None = None,
) -> NDArray[np.float64]:
    """Real numbers of any type, or a list of them, as a contiguous float64 array of that shape.

    Bounds as in `check_array`. Raises ArrayError, also for text and complex numbers.
    """
    array = np.asarray(given)
    if array.dtype.kind not in "fiu":
        raise ArrayError(f"{name} is {_came(array)}: give {_named(Wanted(shape, np.float64))}")
    return check_array(name, np.ascontiguousarray(array, np.float64), shape, np.float64, low, high)


def check_indices(name: str, given: Any, count: int, limit: int, of: str) -> NDArray[Any]:
    """`given` as an integer array [count] from 0 to limit - 1, places in a table called `of`.

    Raises ArrayError for other shapes, for numbers that are no integers, and for places outside.
    """
    array = np.asarray(given)
    if array.dtype.kind not in INTEGERS:
        raise ArrayError(f"{name} are {array.dtype}: give integers, indices into {of}")
    if array.shape != (count,):
        raise ArrayError(f"{name} have shape {array.shape}: give ({count},), one for each")
    outside = (array < 0) | (array >= limit)
    if outside.any():
        at = int(np.argmax(outside))
        raise ArrayError(f"{name}[{at}] is {array[at]}: give 0 to {limit - 1}, an index into {of}")
    return array


def _is_of(dtype: Any, wanted_dtype: Any) -> bool:
    if isinstance(wanted_dtype, str):
        return dtype.kind in wanted_dtype
    return bool(dtype == wanted_dtype)


def _named(want: Wanted) -> str:
    kinds = {"i": "int", "u": "uint", "f": "float", "b": "bool"}
    dtype = want.dtype
    known = isinstance(dtype, str)
    type_name = " or ".join(kinds[k] for k in dtype) if known else np.dtype(dtype).name
    return f"{type_name}[{', '.join('any' if axis is None else str(axis) for axis in want.shape)}]"


def _range(low: float, high: float) -> str:
    return "a finite number" if high == -low and high > 1e38 else f"{low:g} to {high:g}"


def _came(given: NDArray[Any]) -> str:
    return f"{given.dtype.name}{list(given.shape)}"


def _check_form(name: str, given: Any, want: Wanted, lengths: dict[str, tuple[int, str]]) -> None:
    """Shape and type; `lengths` keeps what each letter means and the array that said so."""
    if not isinstance(given, np.ndarray):
        raise ArrayError(f"{name} is {type(given).__name__}: give an array {_named(want)}")
    shape = given.shape
    if len(shape) != len(want.shape) or not _is_of(given.dtype, want.dtype):
        raise ArrayError(f"{name} is {_came(given)}: give {_named(want)}")
    if shape == want.shape:
        return
    for length, axis in zip(shape, want.shape):
        if isinstance(axis, str):
            meant, whose = lengths.setdefault(axis, (length, name))
            if length != meant:
                raise ArrayError(
                    f"{name} is {_came(given)}: give {_named(want)}, {axis} = {meant} as in {whose}"
                )
        elif axis is not None and length != axis:
            raise ArrayError(f"{name} is {_came(given)}: give {_named(want)}")


def check_together(arrays: Mapping[str, tuple[Any, Wanted]]) -> None:
    """Arrays of one call, whose letters stand for the same lengths. Raises ArrayError."""
    lengths: dict[str, tuple[int, str]] = {}
    for name, (given, want) in arrays.items():
        _check_form(name, given, want, lengths)


def entrance(
    **wants: Wanted | Mapping[str, Wanted],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a kernel that Python calls with the caller's arrays: they are checked at each call.

    Keywords name parameters; a mapping names fields of a NamedTuple. What is not named passes.
    Forms that passed are remembered: a call of a known form costs 0.3 us per array, a new one
    about 1 us. For batches, not for single quotes.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = list(inspect.signature(getattr(function, "py_func", function)).parameters)
        unknown = wants.keys() - set(names)
        if unknown:
            raise TypeError(f"entrance names {sorted(unknown)}, parameters are {names}")
        checked = [(place, name, wants[name]) for place, name in enumerate(names) if name in wants]
        form_of = _form_reader([(place, want) for place, _, want in checked])
        passed: set[object] = set()

        def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            lengths: dict[str, tuple[int, str]] = {}
            for place, name, want in checked:
                given: Any = args[place] if place < len(args) else kwargs.get(name)
                if isinstance(want, Wanted):
                    _check_form(name, given, want, lengths)
                    continue
                for part, form in want.items():
                    _check_form(f"{name}.{part}", getattr(given, part, None), form, lengths)

        @functools.wraps(function)
        def enter(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                form = form_of(args)
                known = form in passed
            except (AttributeError, IndexError, TypeError):  # no array, or given by keyword
                form, known = None, False
            if not known:
                check(args, kwargs)
                if form is not None:
                    if len(passed) >= FORMS_KEPT:
                        passed.clear()
                    passed.add(form)
            return function(*args, **kwargs)

        return enter

    return decorate


def _form_reader(places: list[tuple[int, Wanted | Mapping[str, Wanted]]]) -> Callable[[Any], Any]:
    """Reads type and shape of every array that is checked, from the positional arguments.

    Types of arrays other than NumPy's never equal a NumPy type, so they are never known.
    """
    parts = [
        (place, (lambda given: (given,)) if isinstance(want, Wanted) else _fields_reader(want))
        for place, want in places
    ]

    def read(args: Sequence[Any]) -> tuple[Any, ...]:
        arrays = [array for place, fields in parts for array in fields(args[place])]
        return tuple([(array.dtype, array.shape) for array in arrays])

    return read


def _fields_reader(want: Mapping[str, Wanted]) -> Callable[[Any], tuple[Any, ...]]:
    if len(want) > 1:
        return operator.attrgetter(*want)
    field = operator.attrgetter(*want)
    return lambda given: (field(given),)
