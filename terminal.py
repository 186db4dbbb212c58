"""How a command begins and ends: a line at once, one message for whatever goes wrong, no traceback.

Only the standard library is imported here: the first line must not wait for torch.
"""

import os
import signal
import sys
import tempfile
import threading
import time
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

BAD_INPUT, UNEXPECTED, INTERRUPTED = 2, 1, 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)
RETRY_S = 0.05
AGAIN = "Run the command again; if it ends like this once more, report it with its traceback."

embedded = False
"""Whether the command runs inside another program, whose signals and errors are its own."""
_before: dict[int, Any] = {}  # signal handlers of who started the command
_asked_while_ending = 0
_retry: threading.Timer | None = None  # raises a signal again that came at a bad moment
_code: int | None = None  # of a program whose end has been told


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or the SIGTERM of whoever ends us; `code` is 128 + the signal, as shells say it."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.code = 128 + number


def version() -> str:
    """The version of this checkout; an editable installation does not follow it by itself."""
    project = Path(__file__).resolve().parent / "pyproject.toml"
    return str(tomllib.loads(project.read_text())["project"]["version"])


def begin(program: str) -> None:
    """Answer --version, or say that the program loads; called before the heavy imports.

    Until `ended` takes over nothing has been started: a signal ends the process at once, and an
    import that fails ends it with a message.
    """
    if "--version" in sys.argv[1:]:
        print(f"mevrl {version()}")
        sys.exit(0)
    if not embedded and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            _before[number] = signal.signal(number, _leave)
        sys.excepthook = _end_of_imports
    print(f"mevrl {version()}: {program} is loading", file=sys.stderr, flush=True)


def ended(program: str, main: Callable[[], int]) -> NoReturn:
    """Run the program and exit with its code; whatever it lets through becomes a message.

    From here on SIGINT and SIGTERM raise Stopped, so that the program can end what it started.
    """
    global _asked_while_ending, _code
    _asked_while_ending, _code = 0, None
    for number in _before:
        signal.signal(number, _stop)
    try:
        try:
            code = main()
        except (Exception, KeyboardInterrupt) as error:
            code = told(error, program)
        _flush(code)
    finally:
        if _retry is not None:
            _retry.cancel()
            _retry.join()
        if sys.excepthook is _end_of_imports:
            sys.excepthook = sys.__excepthook__
        for number in list(_before):
            signal.signal(number, _before.pop(number))
    sys.exit(code)


def told(
    error: BaseException, program: str, folder: Path | None = None, remedy: str = AGAIN
) -> int:
    """Say what ended the program and what to do about it; the exit code.

    The traceback goes into `folder`, or among the temporary files, and the message names it.
    """
    global _code
    if isinstance(error, KeyboardInterrupt):
        _code = code = getattr(error, "code", INTERRUPTED)
        words = "Stopped." if remedy == AGAIN else f"Stopped. {remedy}"
        print(words, file=sys.stderr, flush=True)
        return code
    if isinstance(error, ModuleNotFoundError) and remedy == AGAIN:
        remedy = "Install what the project needs: pip install -e ."
    place = _keep(error, folder)
    lines = [f"{program}: {_in_words(error)}"]
    lines += [f"The traceback is in {place}."] if place else traceback.format_exception(error)
    print(*lines, remedy, sep="\n", file=sys.stderr, flush=True)
    _code = UNEXPECTED
    return UNEXPECTED


def _leave(number: int, frame: FrameType | None) -> None:
    """During the imports an exception could be swallowed by whatever is being imported."""
    os.write(2, b"Stopped: nothing had been started.\n")
    os._exit(128 + number)


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise Stopped, unless one is already on its way out: then what was started is being ended.

    Asked twice while that lasts, the process leaves. A signal that comes in a callback of LLVM is
    raised again a moment later.
    """
    global _asked_while_ending, _retry
    if _code is not None:
        os._exit(_code)
    if _compiling(frame):
        if _retry is None or not _retry.is_alive():
            _retry = threading.Timer(RETRY_S, os.kill, (os.getpid(), number))
            _retry.daemon = True
            _retry.start()
        return
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    if error is None:
        raise Stopped(number)
    _asked_while_ending += 1
    if _asked_while_ending > 1:
        os._exit(128 + number)
    os.write(2, b"Ending what was started; once more to leave at once.\n")


def _compiling(frame: FrameType | None) -> bool:
    """Whether LLVM called back into Python: an exception would be printed there and lost."""
    while frame is not None:
        if "llvmlite" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def _end_of_imports(
    kind: type[BaseException], error: BaseException, at: TracebackType | None
) -> None:
    """What escapes before the program has begun; Python then exits with code 1."""
    told(error, Path(sys.argv[0]).name)


def _flush(code: int) -> None:
    """Hand over what was printed; a reader that is gone (`| head`) is no error of ours."""
    for number in _before:
        signal.signal(number, lambda *_: os._exit(code))
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _in_words(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "the memory is exhausted: close other programs, or give less work at once"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the system'}: {error.strerror}"
    text = str(error).strip() or "no further word"
    return f"{type(error).__name__}: {text.splitlines()[0]}"


def _keep(error: BaseException, folder: Path | None) -> Path | None:
    """Where the traceback was written; None where nothing can be."""
    text = "".join(traceback.format_exception(error))
    name = f"traceback-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for parent in (folder, *_temporary()):
        try:
            if parent is not None and parent.is_dir():
                path = parent / name
                path.write_text(text)
                return path
        except OSError:
            continue
    return None


def _temporary() -> list[Path]:
    try:
        return [Path(tempfile.gettempdir())]
    except FileNotFoundError:  # no temporary folder can be written
        return []
