"""The build backend: setuptools for `pip install -e .`, and a refusal of every other installation.

The project runs from its checkout, whose folders have names like `models` and `agents`. A wheel
would put them into site-packages, where they shadow, or are shadowed by, those of other projects.
"""

import sys
from typing import Any, NoReturn

from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

MESSAGE = """\
mevrl runs from its checkout and cannot be installed as a wheel or a source distribution: that
would put packages called `models` and `agents` into site-packages. Install the checkout itself:

    git clone URL mevrl && cd mevrl && pip install -e .
"""


def _refuse(*arguments: Any, **settings: Any) -> NoReturn:
    sys.exit(MESSAGE)


# pip and build ask for the requirements first: the refusal comes before anything is made.
get_requires_for_build_wheel = get_requires_for_build_sdist = _refuse
prepare_metadata_for_build_wheel = build_wheel = build_sdist = _refuse
