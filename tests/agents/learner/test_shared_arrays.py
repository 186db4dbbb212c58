"""Arrays cross to another process without a copy, and a dead owner is noticed."""

import ast
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from agents.learner.shared_arrays import AVAILABLE, Arrays, Inbox, Outbox, Placed

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs memfd_create and /proc (Linux)")

OWNER = """
import sys
import numpy as np
from agents.learner.shared_arrays import Outbox
print(tuple(Outbox().place({"x": np.arange(5.0)})), flush=True)
sys.stdin.read()
"""


def some(seed: int, size: int = 7) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "bits": rng.integers(0, 2, (3, size)).astype(np.bool_),
        "one": np.array(seed, np.int64),
        "none": np.zeros((0, 4), np.float32),
        "numbers": rng.normal(size=(size, 2)).astype(np.float32)[:, :1],  # not contiguous
    }


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert (found[name] == array).all()


def test_arrays_stay_until_the_next_but_one() -> None:
    outbox, inbox = Outbox(), Inbox()
    first = inbox.read(outbox.place(some(1)))
    second = inbox.read(outbox.place(some(2)))
    assert_same(first, some(1))
    assert_same(second, some(2))
    inbox.read(outbox.place(some(3)))
    assert_same(second, some(2))


def test_memory_grows_and_what_was_read_stays() -> None:
    outbox, inbox = Outbox(), Inbox()
    small = inbox.read(outbox.place(some(1)))
    assert_same(inbox.read(outbox.place(some(2, size=5000))), some(2, size=5000))
    assert_same(small, some(1))


def test_a_reader_cannot_write() -> None:
    found = Inbox().read(Outbox().place(some(1)))
    with pytest.raises(ValueError, match="read-only"):
        found["bits"][0, 0] = True


def owner() -> tuple[subprocess.Popen[str], Placed]:
    """Another process and what it placed."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    values: tuple[Any, ...] = ast.literal_eval(process.stdout.readline())
    return process, Placed(*values)


def test_another_process_reads_also_after_the_owner_died() -> None:
    process, placed = owner()
    inbox = Inbox()
    found = inbox.read(placed)
    process.kill()
    process.communicate()
    assert found["x"].tolist() == list(range(5))
    assert inbox.read(placed)["x"].tolist() == list(range(5))
    with pytest.raises(FileNotFoundError):
        Inbox().read(placed)


def test_the_memory_of_somebody_else_is_not_read() -> None:
    placed = Outbox().place(some(1))
    with pytest.raises(FileNotFoundError, match="not the memory"):
        Inbox().read(placed._replace(token=b"0" * 16))
    with open(os.devnull) as other, pytest.raises(FileNotFoundError, match="not the memory"):
        Inbox().read(placed._replace(descriptor=other.fileno()))
