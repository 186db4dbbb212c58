"""No array of a caller reaches compiled code unchecked: each entrance of `tests.support.entrances`
is tried with widths, types and numbers that it must not read, also with bounds checks compiled in.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.entrances import Entrance, environments, everything, hostile

# Axes of any length: a call decides them, so that another length is no fault.
FREE = {
    "decode_batch": {"data": (0,), "routers": (0,), "swaps": (0,)},
    "refine_batch": {"amounts": (1,)},
    "refine_mixed_batch": {"amounts": (1,)},
    "regime filter": {"x": (0,)},
    "forecaster": {"weights": (0,)},
    "moving average": {},
}
ALONG_FIRST = ("one more", "one less", "nothing")


def is_free(entrance: str, array: str, fault: str) -> bool:
    axes = FREE.get(entrance, {}).get(array, ())
    return 0 in axes and fault in ALONG_FIRST


def faults_taken(arrays_of: dict[str, Entrance]) -> list[str]:
    """Try every fault of every array; those that end in no clear error that names an array."""
    taken = []
    for name, (call, arrays, finite) in arrays_of.items():
        for array, good in arrays.items():
            for fault, wrong in hostile(good, array in finite):
                if is_free(name, array, fault):
                    continue
                given = {k: np.copy(v) for k, v in arrays.items()} | {array: wrong}
                answer = "no error"
                try:
                    call(**given)
                except Exception as error:  # judged below
                    answer = f"{type(error).__name__}: {error}"
                    # A length that two arrays share may be said of the other one.
                    named = any(re.search(rf"\b{k}\b", str(error)) for k in arrays)
                    if isinstance(error, ValueError) and named:
                        continue
                taken.append(f"{name}, {array}, {fault}: {answer}")
    return taken


def test_every_entrance_refuses_hostile_arrays_by_name() -> None:
    assert faults_taken(everything()) == []


def test_every_entrance_takes_what_fits() -> None:
    """The cheap ones to compile; the batches have tests of their own."""
    for name, (call, arrays, _) in environments().items():
        assert call(**{k: np.copy(v) for k, v in arrays.items()}) is not None, name


@pytest.mark.slow
def test_with_bounds_checks_no_entrance_ends_in_an_index_error() -> None:
    """A second interpreter, because bounds checks are compiled in."""
    code = "from tests.test_entrances import *; print(faults_taken(everything()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MEVRL_BOUNDSCHECK": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["auction step", "hidden step"])
@pytest.mark.parametrize("action", [-1, 64, 10**12])
def test_actions_outside_the_table_are_refused(name: str, action: int) -> None:
    """-1 bid the highest fraction."""
    call = environments()[name].call
    with pytest.raises(ValueError, match=rf"actions\[2\] is {action}: give 0 to \d+"):
        call(np.array([0, 1, action, 0]))


@pytest.mark.parametrize("fraction", [np.nan, 1.5, -2.0])
@pytest.mark.parametrize("name", ["auction fractions", "hidden fractions"])
def test_bids_outside_the_value_are_refused(name: str, fraction: float) -> None:
    call = environments()[name].call
    with pytest.raises(ValueError, match=r"fractions\[1\] is .*: give -?[01] to 1"):
        call(np.array([0.5, fraction, 0.5, 0.5]))
