"""Loads what a configuration names by import path, `module:name`: a rule, a forecaster, a network.

The module is looked for where Python looks, and in the folder in which the command was started.
"""

import hashlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any


class ExtensionError(ValueError):
    """An import path that leads nowhere, or to the wrong thing; names key, path and remedy."""


def refused(key: str, path: str, problem: str, remedy: str) -> ExtensionError:
    """The error of a path: what is wrong, and what to give instead."""
    return ExtensionError(f"{key}: {path!r}: {problem}; {remedy}")


def imported(path: str, key: str) -> Any:
    """What an import path names. `key` is the key of the configuration that holds it.

    Raises ExtensionError when the path has another form, the module does not import, or it has no
    such name.
    """
    module, colon, name = path.partition(":")
    form = "give MODULE:NAME, e.g. my_module:MyRule"
    if not (colon and module and name.isidentifier()):
        raise refused(key, path, "this is no import path", form)
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise refused(key, path, f"its module needs {error.name}", "install it") from error
        raise refused(
            key,
            path,
            f"there is no module {error.name} in {here} or among the installed packages",
            "start the command in the folder that holds it, or add that folder to PYTHONPATH",
        ) from error
    except Exception as error:  # whatever the module does when it is imported
        problem = f"importing {module} ends in {type(error).__name__}: {error}"
        raise refused(key, path, problem, "mend the module") from error
    if not hasattr(found, name):
        raise refused(key, path, f"{found.__file__} has no {name!r}", form)
    return getattr(found, name)


def source_digest(path: str) -> str:
    """A hash of the file of a loaded import path: results of an edited one are not taken up again.

    Files that it imports are not looked at.
    """
    file = sys.modules[path.partition(":")[0]].__file__
    return hashlib.sha256(Path(file).read_bytes() if file else b"").hexdigest()
