"""Independent jobs in processes of their own, whose results come as they finish."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

Result = TypeVar("Result")


def as_finished(
    function: Callable[..., Result], jobs: Mapping[str, tuple[Any, ...]], workers: int
) -> Iterator[tuple[str, Result]]:
    """(name, function(*arguments)) of every job as it finishes; with one worker here, in turn.

    Whoever stops listening also stops what has not begun.
    """
    if workers == 1 or len(jobs) < 2:
        for name, arguments in jobs.items():
            yield name, function(*arguments)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        futures = {pool.submit(function, *arguments): name for name, arguments in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
