"""Typed settings: a dataclass whose annotations say what a value may be, wherever it comes from.

A range stands in the annotation, `rate: Positive`, and holds for a YAML file, an argument and a
constructor alike; `--help` shows it.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from inspect import get_annotations
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from jsonargparse.typing import extend_base_type


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names key, value and what is wanted."""


class RefusedValueError(ConfigError):
    """One value that cannot be used. Key, value and remedy are its arguments."""

    def __init__(self, key: str, value: object, wanted: str) -> None:
        super().__init__(key, value, wanted)
        self.key, self.value, self.wanted = key, value, wanted

    def __str__(self) -> str:
        return f"{self.key} is {self.value!r}: give {self.wanted}"

    def under(self, group: str) -> "RefusedValueError":
        """The same with the key seen from outside its group."""
        return RefusedValueError(
            f"{group}.{self.key}" if group else self.key, self.value, self.wanted
        )


@dataclass(frozen=True)
class Range:
    """What a number may be; every number is finite besides."""

    least: float = -math.inf
    """smallest value"""
    most: float = math.inf
    """largest value"""
    above: float = -math.inf
    """the value is larger than this"""
    below: float = math.inf
    """the value is smaller than this"""

    def holds(self, value: float) -> bool:
        """Whether the value lies inside; NaN lies nowhere."""
        inside = self.least <= value <= self.most and self.above < value < self.below
        return inside and math.isfinite(value)

    def words(self, kind: type) -> str:
        """For example "number from 0 to below 0.9"."""
        lower = f"from {self.least:g}" if math.isfinite(self.least) else ""
        lower = f"above {self.above:g}" if math.isfinite(self.above) else lower
        upper = f"to {self.most:g}" if math.isfinite(self.most) else ""
        upper = f"below {self.below:g}" if math.isfinite(self.below) else upper
        if lower and upper.startswith("below"):
            upper = f"to {upper}"
        elif upper.startswith("to") and not lower:
            upper = f"up {upper}"
        noun = "whole number" if kind is int else "number"
        return " ".join(part for part in (noun, lower, upper) if part)


Positive = Annotated[float, Range(above=0.0)]
NonNegative = Annotated[float, Range(0.0)]
Share = Annotated[float, Range(0.0, 1.0)]
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]

MAPPING = "a mapping"

Check = Callable[[Any], Any]  # the value in its own type; ValueError where it has none


def _number(kind: type, limits: Range, value: Any) -> Any:
    numeric: Any = Integral if kind is int else Real
    if isinstance(value, bool) or not isinstance(value, numeric) or not limits.holds(value):
        raise ValueError
    return kind(value)


def _one_of(kinds: tuple[type, ...], value: Any) -> Any:
    if not isinstance(value, kinds):
        raise ValueError
    return value


def _choice(choices: tuple[Any, ...], value: Any) -> Any:
    if value not in choices:
        raise ValueError
    return value


def _many(check: Check, value: Any) -> Any:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ValueError
    return tuple(check(one) for one in value)


def _each(checks: tuple[Check, ...], value: Any) -> Any:
    values = _many(lambda one: one, value)
    if len(values) != len(checks):
        raise ValueError
    return tuple(check(one) for check, one in zip(checks, values))


def _path(value: Any) -> Path:
    return Path(_one_of((str, Path), value))


def _of_hint(hint: Any) -> tuple[Check, str, Any]:
    """What an annotation means: the check, the words for it, and the parser's type."""
    limits = Range()
    if get_origin(hint) is Annotated:
        hint, limits = get_args(hint)
    if hint in (int, float):
        words = limits.words(hint)
        return partial(_number, hint, limits), f"a {words}", _parsed_number(hint, limits, words)
    if get_origin(hint) is tuple:
        return _of_tuple(get_args(hint))
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return partial(_choice, choices), f"one of {', '.join(map(str, choices))}", hint
    if get_origin(hint) in (Union, types.UnionType):
        kinds = tuple(kind for kind in get_args(hint))
        return partial(_one_of, kinds), " or ".join(kind.__name__ for kind in kinds), hint
    if hint is Path:
        return _path, "a path", hint
    if get_origin(hint) is dict:
        return partial(_one_of, (dict,)), MAPPING, hint
    words = {str: "a text", bool: "true or false", dict: MAPPING}.get(hint, f"a {hint.__name__}")
    return partial(_one_of, (hint,)), words, hint


def _of_tuple(inner: tuple[Any, ...]) -> tuple[Check, str, Any]:
    if inner[-1] is Ellipsis:
        check, words, parsed = _of_hint(inner[0])
        return partial(_many, check), f"a list, each {words}", tuple[parsed, ...]
    checks, words, parsed = zip(*map(_of_hint, inner))
    return partial(_each, checks), f"a list of {', '.join(words)}", tuple[parsed]


def _parsed_number(kind: type, limits: Range, words: str) -> Any:
    """The number as the parser knows it: named by its range, which `--help` then shows."""

    def validate(_: type, value: Any) -> None:
        try:
            number = kind(value)
        except (TypeError, ValueError):
            raise ValueError(f"{value!r}: give a {words}") from None
        if isinstance(value, bool) or number != float(value) or not limits.holds(number):
            raise ValueError(f"{value!r}: give a {words}")

    return extend_base_type(words, kind, validate, register_key=(words, kind))


@dataclass(frozen=True)
class Settings:
    """Base of a frozen dataclass of settings; `check` adds what one annotation cannot say."""

    _checks: ClassVar[dict[str, tuple[Check, str]]] = {}

    def __init_subclass__(cls) -> None:
        own = {}
        for name, hint in get_annotations(cls, eval_str=True).items():
            check, words, cls.__annotations__[name] = _of_hint(hint)
            own[name] = check, words
        cls._checks = cls._checks | own

    def __post_init__(self) -> None:
        """Refuse what the annotations or `check` do not allow. Raises RefusedValueError."""
        for name, (check, wanted) in self._checks.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, check(value))
            except ValueError:
                raise RefusedValueError(name, value, wanted) from None
        self.check()

    def check(self) -> None:
        """Relations between fields, by `require`."""

    @classmethod
    def preset(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Dotted settings that some of those `given` stand for; given ones override them."""
        return {}

    def require(self, true: bool, key: str, wanted: str) -> None:
        """Raises RefusedValueError for the field `key` (dotted inside groups) unless `true`."""
        if not true:
            value: Any = self
            for part in key.split("."):
                value = getattr(value, part)
            raise RefusedValueError(key, value, wanted)

    def require_entries(self, key: str, count: int, why: str) -> None:
        """Raises RefusedValueError unless the list `key` has `count` entries."""
        self.require(len(getattr(self, key)) == count, key, f"{count} entries, {why}")

    def require_rising(self, key: str) -> None:
        """Raises RefusedValueError when the list `key` falls anywhere."""
        values = getattr(self, key)
        rises = all(low <= high for low, high in pairwise(values))
        self.require(rises, key, "entries that do not fall")

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """A copy with other values; keys are dotted, as on the command line: {"users.rate": 4.0}.

        Raises ConfigError for an unknown key and RefusedValueError for a value.
        """
        own: dict[str, Any] = {}
        groups: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            if key not in _keys_and_groups(type(self)):
                raise ConfigError(unknown_key(key, keys_of(type(self))))
            group, _, rest = key.partition(".")
            if rest:
                groups.setdefault(group, {})[rest] = value
            else:
                own[group] = value
        for group, inner in groups.items():
            try:
                own[group] = own.get(group, getattr(self, group)).changed(inner)
            except RefusedValueError as error:
                raise error.under(group) from None
        return dataclasses.replace(self, **own)  # type: ignore[type-var]


def names_of(kind: type[Settings]) -> tuple[str, ...]:
    """The fields of a settings class, groups included."""
    return tuple(kind._checks)


def groups_of(kind: type[Settings]) -> dict[str, type[Settings]]:
    """The fields of a settings class that are settings themselves."""
    return {
        name: hint
        for name, hint in get_annotations(kind).items()
        if isinstance(hint, type) and issubclass(hint, Settings)
    }


def keys_of(kind: type[Settings], prefix: str = "") -> list[str]:
    """Every dotted key of a settings class, groups left out."""
    groups = groups_of(kind)
    keys: list[str] = []
    for name in names_of(kind):
        key = prefix + name
        keys += keys_of(groups[name], key + ".") if name in groups else [key]
    return keys


@cache
def _keys_and_groups(kind: type[Settings]) -> frozenset[str]:
    keys = keys_of(kind)
    groups = (key.split(".")[:depth] for key in keys for depth in range(1, key.count(".") + 1))
    return frozenset(keys) | {".".join(group) for group in groups}


def presets_of(kind: type[Settings], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What the presets of a settings class and of its groups say, by dotted key."""
    own = {
        key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)
    }
    found = {prefix + key: value for key, value in kind.preset(own).items()}
    for name, group in groups_of(kind).items():
        found |= presets_of(group, given, f"{prefix}{name}.")
    return found


def words_of(kind: type[Settings], key: str) -> str:
    """What the field of a dotted key wants."""
    group, _, rest = key.partition(".")
    if rest:
        return words_of(groups_of(kind)[group], rest)
    return kind._checks[key][1]


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The message for a key that does not exist, with the keys that it resembles."""
    known = list(known)
    last = key.rpartition(".")[2]
    close = [name for name in known if name.rpartition(".")[2] == last]
    close = close or difflib.get_close_matches(key, known, n=2, cutoff=0.75)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{key} is no key of the configuration{meant}"
