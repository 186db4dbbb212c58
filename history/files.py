"""Files that are there whole or not at all: written under a temporary name, then renamed.

A reader sees the old file or the new one, never a part, whenever the writer is stopped.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

Content = str | bytes | Callable[[BinaryIO], object]


def write_atomically(path: str | Path, content: Content, durable: bool = False) -> None:
    """Write `content` as the file `path`, making its folder when there is none.

    Text is written as UTF-8; a function is handed the open binary file, e.g. of a figure or table.
    `durable` waits until the bytes are on the disk before the rename: for what an interrupted run
    continues from. A device or pipe, e.g. /dev/stdout, is written to and not replaced. Raises
    OSError, and whatever the function raises; the temporary file is then removed.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            _put(file, content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of its own for each process: two that write one file must not write into each other's.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            _put(file, content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _put(file: BinaryIO, content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)
