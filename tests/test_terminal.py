"""How commands begin and end, as real processes: a line at once, the version, signals, errors."""

import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import mevrl
import terminal
from tests.support.programs import ROOT, end_of, line_of, program

COMMANDS = {
    "train.py": [ROOT / "train.py"],
    "serve.py": [ROOT / "serve.py"],
    "agents.evaluate": ["-m", "agents.evaluate"],
    "history.prices": ["-m", "history.prices"],
}
HEAVY = re.compile(r"import time:.*\| +(torch|ray|numba|numpy|rich|gymnasium)$", re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_version_is_told_without_an_import(command: str, tmp_path: Path) -> None:
    with program("-X", "importtime", *COMMANDS[command], "--version", cwd=tmp_path) as process:
        output, imports = process.communicate()
    assert process.returncode == 0
    assert output == f"mevrl {terminal.version()}\n"
    # agents.evaluate lies in a package, but that imports nothing
    assert HEAVY.search(imports) is None
    assert mevrl.__version__ == terminal.version()


def test_every_command_begins_and_ends_the_same_way() -> None:
    """Wherever a module of the project runs as a program, helpers of other programs apart."""
    for path in ROOT.rglob("*.py"):
        inside = path.relative_to(ROOT)
        text = path.read_text()
        command = f'prog="python -m {".".join(inside.with_suffix("").parts)}'.removesuffix(
            ".__main__"
        )
        if inside.parts[0] != "tests" and (command in text or inside.name == "__main__.py"):
            mevrl_itself = inside.parts[0] == "mevrl"
            assert mevrl_itself or ("    begin(" in text and "    ended(" in text), inside


@pytest.mark.parametrize("command", ["train.py", "serve.py", "agents.evaluate"])
def test_the_first_line_comes_before_the_imports(command: str, tmp_path: Path) -> None:
    wrong = "--no.such.key=1"
    with program("-X", "importtime", *COMMANDS[command], wrong, cwd=tmp_path) as process:
        code, errors = end_of(process)
    first_heavy = HEAVY.search(errors)
    assert first_heavy is not None
    assert (
        0 <= errors.find(f"mevrl {terminal.version()}: {command} is loading") < first_heavy.start()
    )
    assert code == 2
    assert "no.such.key" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("train.py", signal.SIGINT),
        ("train.py", signal.SIGTERM),
        ("serve.py", signal.SIGINT),
        ("serve.py", signal.SIGTERM),
        ("agents.evaluate", signal.SIGINT),
        ("history.prices", signal.SIGINT),
    ],
)
def test_a_signal_during_the_imports(command: str, number: signal.Signals, tmp_path: Path) -> None:
    with program(*COMMANDS[command], cwd=tmp_path) as process:
        line_of(process.stderr, "is loading")
        process.send_signal(number)
        code, errors = end_of(process)
    assert code == 128 + number
    assert errors == "Stopped: nothing had been started.\n"
    assert list(tmp_path.iterdir()) == []


def test_an_import_that_fails_is_a_message_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "numpy.py").write_text("import absent_library")
    paths = f"{tmp_path / 'without'}:{ROOT}"
    with program(
        ROOT / "train.py", cwd=tmp_path, PYTHONPATH=paths, TMPDIR=str(tmp_path)
    ) as process:
        code, errors = end_of(process)
    assert code == 1
    assert "train.py: ModuleNotFoundError: No module named 'absent_library'" in errors
    assert "pip install -e ." in errors
    assert "Traceback" not in errors
    (kept,) = tmp_path.glob("traceback-*.txt")
    assert str(kept) in errors
    assert "import absent_library" in kept.read_text()


PROGRAM = """
import sys, time
from terminal import begin, ended
begin("program")
def wait():
    print("waiting", flush=True)
    time.sleep(600)
def main():
    if "fail" in sys.argv:
        raise OSError(28, "No space left on device", "runs/one")
    try:
        wait()
    finally:
        print("ending", flush=True)
        if "slow" in sys.argv:
            wait()
    return 0
ended("program", main)
"""


def own(folder: Path, text: str = PROGRAM) -> Path:
    file = folder / "program.py"
    file.write_text(text)
    return file


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_a_program_end_what_it_started(
    number: signal.Signals, tmp_path: Path
) -> None:
    with program(own(tmp_path), cwd=tmp_path) as process:
        line_of(process.stdout, "waiting")
        process.send_signal(number)
        line_of(process.stdout, "ending")
        code, errors = end_of(process)
    assert code == 128 + number
    assert errors.splitlines()[1:] == ["Stopped."]


def test_more_signals_print_no_traceback(tmp_path: Path) -> None:
    with program(own(tmp_path), "slow", cwd=tmp_path) as process:
        line_of(process.stdout, "waiting")
        process.send_signal(signal.SIGINT)
        line_of(process.stdout, "waiting")
        process.send_signal(signal.SIGINT)
        line_of(process.stderr, "once more to leave at once")
        process.send_signal(signal.SIGINT)
        code, errors = end_of(process)
    assert code == 130
    assert errors == ""


def test_an_error_is_a_message_and_its_traceback_a_file(tmp_path: Path) -> None:
    with program(own(tmp_path), "fail", cwd=tmp_path, TMPDIR=str(tmp_path)) as process:
        code, errors = end_of(process)
    (kept,) = tmp_path.glob("traceback-*.txt")
    assert code == 1
    assert errors.splitlines()[1:] == [
        "program: runs/one: No space left on device",
        f"The traceback is in {kept}.",
        terminal.AGAIN,
    ]
    assert "OSError: [Errno 28]" in kept.read_text()


COMPILING = """
import os, signal, sys, time
from terminal import begin, ended
begin("program")
import numba
from numba.core import codegen
seen = codegen.CPUCodeLibrary._object_compiled_hook
def interrupted(*arguments):
    os.kill(os.getpid(), signal.SIGINT)
    return seen(*arguments)
codegen.CPUCodeLibrary._object_compiled_hook = staticmethod(interrupted)
def main():
    numba.njit(lambda: 1)()
    time.sleep(600)
    return 0
ended("program", main)
"""


def test_a_signal_in_a_callback_of_the_compiler_is_not_lost(tmp_path: Path) -> None:
    """An exception there would be printed as ignored, and the program would go on."""
    with program(own(tmp_path, COMPILING), cwd=tmp_path) as process:
        code, errors = end_of(process)
    assert code == 130
    assert errors.splitlines()[1:] == ["Stopped."]


@pytest.mark.parametrize("name", ["train", "serve"])
def test_a_command_inside_another_program_leaves_its_signals_alone(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run: Sequence[str] = ["--no.such.key=1"]
    assert getattr(mevrl, name)(run) == 2
    assert "no.such.key" in capsys.readouterr().err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert sys.excepthook is not terminal._end_of_imports
