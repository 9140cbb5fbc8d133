"""Runs tasks in several threads until a time limit: Triton's compiler lets other threads of Python run meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Result = TypeVar("Result")


class Deadline:
    """The end of a measurement, `seconds` from now; None for no end.

    Attributes:
        seconds: the time that there was at the beginning.
        cut_short: whether something was left out because the time was over.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.cut_short = False
        self._end = None if seconds is None else time.monotonic() + seconds

    def allows(self) -> bool:
        """Says whether there is time for one more piece of work; the caller leaves it out if not."""
        over = self._end is not None and time.monotonic() >= self._end
        self.cut_short |= over
        return not over


def run_tasks(tasks: Sequence[Callable[[], Result]], threads: int, deadline: Deadline) -> Iterator[Result]:
    """Yields the results in the order in which they come. No task begins after the deadline.

    One that has begun is waited for, so long tasks should look at the deadline themselves.
    """

    def attempt(task: Callable[[], Result]) -> tuple[Result] | None:
        return (task(),) if deadline.allows() else None

    if threads == 1:  # Triton's interpreter works in one thread alone
        yield from (found[0] for found in map(attempt, tasks) if found is not None)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for future in as_completed([pool.submit(attempt, task) for task in tasks]):
                found = future.result()
                if found is not None:
                    yield found[0]
        finally:
            pool.shutdown(cancel_futures=True)
