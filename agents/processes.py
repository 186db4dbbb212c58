"""Independent jobs in processes of their own, whose results come as they finish."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")

_common: tuple[Any, ...] = ()  # in a process of the pool: first arguments of all jobs


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_finished(
    function: Callable[..., Result],
    jobs: Mapping[Name, tuple[Any, ...]],
    workers: int,
    common: tuple[Any, ...] = (),
    then: Callable[[Name, Result], Mapping[Name, tuple[Any, ...]]] = lambda name, result: {},
) -> Iterator[tuple[Name, Result]]:
    """(name, function(*common, *arguments)) of every job as it finishes; with one worker here.

    `common` is sent once to each process. `then` names jobs that can begin once a result is there.
    Where `function` is not of the program itself (`__main__`), neither may the arguments be.
    Whoever stops listening ends the processes at once; so does the end of this one, even a kill.
    """
    if workers == 1 or not jobs:
        waiting = deque(jobs.items())
        while waiting:
            name, arguments = waiting.popleft()
            result = function(*common, *arguments)
            waiting.extendleft(then(name, result).items())
            yield name, result
        return
    context = multiprocessing.get_context("spawn")
    listening, open_ = context.Pipe(duplex=False)
    with ProcessPoolExecutor(workers, context, _begin, (listening, common)) as pool:
        names: dict[Future[Result], Name] = {}

        def submit(more: Mapping[Name, tuple[Any, ...]]) -> None:
            for name, arguments in more.items():
                names[pool.submit(_call, function, arguments)] = name

        try:
            with _main_hidden(function.__module__ != "__main__"):
                submit(jobs)
            while names:
                for future in wait(names, return_when=FIRST_COMPLETED).done:
                    name, result = names.pop(future), future.result()
                    submit(then(name, result))
                    yield name, result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            open_.close()
            raise


@contextmanager
def _main_hidden(hidden: bool) -> Iterator[None]:
    """Processes that start meanwhile do not import the program, which takes train.py 9 s."""
    main = sys.modules["__main__"]
    if hidden:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin(listening: Connection, common: tuple[Any, ...]) -> None:
    """First call in a process of the pool. Ctrl-C is the business of who listens to it."""
    global _common
    _common = common
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(listening,), daemon=True).start()


def _end_with(listening: Connection) -> None:
    """Nothing is ever sent: the other end is closed, by its owner or by the owner's death."""
    listening.poll(None)
    os._exit(1)


def _call(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    return function(*_common, *arguments)
