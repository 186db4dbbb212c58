"""Arrays that a process leaves for another of the same machine, in memory that both keep mapped.

An object of Ray's store lies in other pages than the one before it; to map those of a rollout
anew takes both sides longer than to copy it. The memory has no name in the file system: it is found
through its owner's descriptor in /proc, and gone with the last process that maps it.
"""

import mmap
import os
import secrets
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

AVAILABLE = hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()
"""Whether this system (Linux) has such memory."""

_ALIGNMENT = 64
_TOKEN = 16  # bytes at the beginning that tell the memory from any other


class Placed(NamedTuple):
    """Where arrays lie."""

    pid: int
    descriptor: int
    token: bytes
    size: int
    entries: list[tuple[str, str, tuple[int, ...], int]]
    """Name, dtype, shape and offset of each."""


class Outbox:
    """The owner's side. What is placed stays until the second `place` after it."""

    def __init__(self) -> None:
        self._descriptor, self._size, self._slot = -1, 0, 0
        self._token = b""
        self._memory: mmap.mmap | None = None

    def place(self, arrays: Arrays) -> Placed:
        """Copy arrays into the memory; it grows when they do.

        Raises OSError when the system has no memory left.
        """
        entries, need = [], 0
        for name, array in arrays.items():
            entries.append((name, array.dtype.str, array.shape, need))
            need += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        if self._memory is None or 2 * need + _ALIGNMENT > self._size:
            self._renew(2 * need + _ALIGNMENT)
        assert self._memory is not None
        begin = _ALIGNMENT + self._slot * ((self._size - _ALIGNMENT) // 2)
        entries = [(name, kind, shape, begin + at) for name, kind, shape, at in entries]
        for (_, kind, shape, at), array in zip(entries, arrays.values(), strict=True):
            _view(self._memory, kind, shape, at)[...] = array
        self._slot = 1 - self._slot
        return Placed(os.getpid(), self._descriptor, self._token, self._size, entries)

    def _renew(self, size: int) -> None:
        descriptor = os.memfd_create("mevrl-arrays", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, 0, size)  # now, not as a signal at the first write
            memory = mmap.mmap(descriptor, size)
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._token = secrets.token_bytes(_TOKEN)
        memory[:_TOKEN] = self._token
        self._descriptor, self._size, self._memory = descriptor, size, memory


class Inbox:
    """The reader's side of one owner at a time."""

    def __init__(self) -> None:
        self._token = b""
        self._memory: mmap.mmap | None = None

    def read(self, placed: Placed) -> Arrays:
        """Read-only views of what was placed.

        Raises FileNotFoundError when its owner died before this was first called.
        """
        if self._memory is None or placed.token != self._token:
            self._memory = self._mapped(placed)
            self._token = placed.token
        memory = self._memory
        return {name: _view(memory, kind, shape, at) for name, kind, shape, at in placed.entries}

    @staticmethod
    def _mapped(placed: Placed) -> mmap.mmap:
        path = f"/proc/{placed.pid}/fd/{placed.descriptor}"
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size < placed.size:
                raise FileNotFoundError(f"{path} is not the memory of process {placed.pid}")
            memory = mmap.mmap(descriptor, placed.size, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        if memory[:_TOKEN] != placed.token:
            raise FileNotFoundError(f"{path} is not the memory of process {placed.pid}")
        return memory


def _view(memory: mmap.mmap, kind: str, shape: tuple[int, ...], at: int) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, np.dtype(kind), count, at).reshape(shape)
