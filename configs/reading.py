"""Settings from YAML files and command lines: `--config FILE`, then `--any.field value`.

Whatever cannot be used ends in a ConfigError that names the key, the value, what is wanted and, for
a file, the file; a key that was renamed is answered with its new name.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jsonargparse

from configs.moved import MOVED
from configs.settings import (
    MAPPING,
    ConfigError,
    RefusedValueError,
    Settings,
    groups_of,
    keys_of,
    names_of,
    presets_of,
    unknown_key,
    words_of,
)

S = TypeVar("S", bound=Settings)
Source = str | os.PathLike[str]
ARGUMENTS = ""  # the source of a value that stood on the command line


class Parser(jsonargparse.ArgumentParser):
    """Raises ConfigError where argparse would exit, so that callers decide."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message)


def settings_parser(kind: type[Settings], prog: str, description: str | None) -> Parser:
    """A parser of `--config` and every field of `kind`; options of one's own may be added."""
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    # a misspelt key must not become another one: no abbreviations
    parser = Parser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument(
        "--config", action="config", help="YAML file, read before the other arguments"
    )
    parser.add_class_arguments(kind)
    return parser


def read_settings(parser: Parser, kind: type[S], arguments: Sequence[str]) -> S:
    """The settings that the arguments say, over those of the files that `--config` names.

    Presets that any of them name lie under all of them.
    """
    files, rest = _files(arguments)
    sources: dict[str, str] = {}
    values: dict[str, Any] = {}
    trees = [(file, dict(_flat(kind, read_yaml(file), file))) for file in files]
    named = {key: value for _, flat in trees for key, value in flat.items()} | dict(_given(rest))
    preset = presets_of(kind, named)
    parsed = parser.parse_object(_nested(preset)) if preset else None
    for file, flat in trees:
        try:
            parsed = parser.parse_object(_nested(flat), parsed)
        except ConfigError as error:
            raise _explained(error, kind, flat, dict.fromkeys(flat, file)) from None
        values |= flat
        sources |= dict.fromkeys(flat, file)
    _check_options(parser, kind, rest)
    given = dict(_given(rest))
    values |= given
    sources |= dict.fromkeys(given, ARGUMENTS)
    try:
        parsed = parser.parse_args(rest, namespace=parsed)
        return build(kind, parsed)
    except ConfigError as error:
        raise _explained(error, kind, values, sources) from None


def read_or_exit(kind: type[S], prog: str, arguments: Sequence[str], description: str | None) -> S:
    """The settings that a command was given; ends the program with code 2 when they are wrong."""
    try:
        return read_settings(settings_parser(kind, prog, description), kind, arguments)
    except ConfigError as error:
        name = prog.removeprefix("python ") if prog.endswith(".py") else prog
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def settings_from_dict(kind: type[S], tree: Mapping[str, Any], source: Source) -> S:
    """The settings that a YAML or JSON object holds; `source` names it in errors."""
    flat = dict(_flat(kind, tree, str(source)))
    parser = settings_parser(kind, "", None)
    try:
        return build(kind, parser.parse_object(_nested(presets_of(kind, flat) | flat)))
    except ConfigError as error:
        raise _explained(error, kind, flat, dict.fromkeys(flat, str(source))) from None


def read_file(kind: type[S], file: Source) -> S:
    """The settings in a YAML file."""
    return settings_from_dict(kind, read_yaml(os.fspath(file)), file)


def read_yaml(file: str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError naming the file."""
    try:
        tree = jsonargparse.get_loader("yaml")(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except Exception as error:  # the loader's own kinds of error
        raise ConfigError(f"{file} is no YAML: {error}") from None
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{file} holds {tree!r}: give keys with values, as in configs/train.yaml")
    return tree or {}


def build(kind: type[S], parsed: Any, group: str = "") -> S:
    """The settings that a parsed namespace holds, from the inner groups outwards."""
    groups = groups_of(kind)
    values = {
        name: build(groups[name], parsed[name], f"{group}{name}.")
        if name in groups
        else parsed[name]
        for name in names_of(kind)
    }
    try:
        return kind(**values)
    except RefusedValueError as error:
        raise error.under(group.removesuffix(".")) from None


def moved_keys(keys: Sequence[str]) -> str:
    """The message for keys that have new names, one a line."""
    lines = [f"{key} is now {MOVED[key]}" for key in keys]
    return lines[0] if len(lines) == 1 else "keys have new names:\n  " + "\n  ".join(lines)


def _files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files behind `--config`, and the other arguments."""
    files: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--config":
            file = next(words, None)
            if file is None:
                raise ConfigError("--config: name a YAML file behind it")
            files.append(file)
        elif word.startswith("--config="):
            files.append(word.partition("=")[2])
        else:
            rest.append(word)
    return files, rest


def _check_options(parser: Parser, kind: type[Settings], arguments: Sequence[str]) -> None:
    """Refuse options that the parser does not have, with what was meant."""
    mappings = [key for key in keys_of(kind) if words_of(kind, key) == MAPPING]
    for word in arguments:
        option = word.partition("=")[0]
        if not option.startswith("--") or option in parser._option_string_actions:
            continue
        key = option[2:].removesuffix("+")  # --any.list+ appends
        if key in MOVED:
            raise ConfigError("--" + moved_keys([key]).replace(" is now ", " is now --"))
        # an entry of a mapping, --ppo.network_arguments.width, is the parser's to judge
        entry = any(key.startswith(f"{name}.") for name in mappings)
        if not entry and f"--{key}" not in parser._option_string_actions:
            raise ConfigError("--" + unknown_key(key, keys_of(kind)))


def _given(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """(key, value) of every option, for the messages."""
    for place, word in enumerate(arguments):
        if word.startswith("--"):
            key, equals, text = word[2:].partition("=")
            if not equals and place + 1 < len(arguments):
                text = arguments[place + 1]
            try:
                yield key.removesuffix("+"), jsonargparse.get_loader("yaml")(text)
            except Exception:  # no YAML: as it stands
                yield key, text


def _flat(kind: type[Settings], tree: Mapping[str, Any], source: str) -> list[tuple[str, Any]]:
    """(dotted key, value) of a file's tree. Raises ConfigError for keys that `kind` lacks."""
    known, moved, found = keys_of(kind), [], []

    def walk(kind: type[Settings], tree: Mapping[str, Any], prefix: str) -> None:
        groups = groups_of(kind)
        for name, value in tree.items():
            key = f"{prefix}{name}"
            if name in groups and isinstance(value, Mapping):
                walk(groups[name], value, f"{key}.")
            elif name in groups and value is not None:
                inside = ", ".join(names_of(groups[name]))
                raise ConfigError(f"{source}: {key} is {value!r}: give keys below it ({inside})")
            elif name in groups:
                continue
            elif key in MOVED:
                moved.append(key)
            elif name not in names_of(kind):
                raise ConfigError(f"{source}: {unknown_key(key, known)}")
            else:
                found.append((key, value))

    walk(kind, tree, "")
    if moved:
        raise ConfigError(f"{source}: {moved_keys(moved)}")
    return found


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = value
    return tree


def _explained(
    error: ConfigError,
    kind: type[Settings],
    values: Mapping[str, Any],
    sources: Mapping[str, str],
) -> ConfigError:
    """The parser's error in the words of a refused value, with the file that holds it."""
    named = re.search(r'Parser key "([^"]+)"', str(error))
    key = error.key if isinstance(error, RefusedValueError) else named.group(1) if named else ""
    if not isinstance(error, RefusedValueError) and key in keys_of(kind):
        error = RefusedValueError(key, values.get(key), words_of(kind, key))
    source = sources.get(key, ARGUMENTS)
    return error if source == ARGUMENTS else ConfigError(f"{source}: {error}")
