"""Makes the small copies of measurements while they run: an interruption leaves copies of all that was finished."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from vcorr import VcorrError
from vcorr_tiny.command_runs import Work
from vcorr_tiny.measurements import Measurement
from vcorr_tiny.task_pool import Task


class SmallCopies:
    """The copies of several measurements, made in one thread next to the tasks.

    target: the folder of copies. works: the work of each measurement, by its name.
    """

    def __init__(self, target: Path, works: Mapping[str, tuple[Measurement, Work]]) -> None:
        self.target, self._works = target, works
        self._thread = ThreadPoolExecutor(1)
        self._asked: set[str] = set()
        self._lock = Lock()

    def drop_others(self) -> None:
        """Deletes copies of runs that are not there, such as of networks that were replaced."""
        for name, (one, work) in self._works.items():
            one.kept.drop_others(work.out, self.target / name)

    def ask(self, task: Task) -> None:
        """Asks for the copy of what a task stored. The name of its measurement is before its own."""
        name = task.name.partition("/")[0]
        with self._lock:
            if name in self._asked:
                return  # the copy that waits will hold this as well
            self._asked.add(name)
        self._thread.submit(self._copy, name)

    def finish(self) -> list[str]:
        """Makes the copies that are missing, also of studies that go on later. Says how large all are, and what failed.

        Returns what went wrong, a text per measurement.
        """
        self._thread.shutdown()
        failed = [text for name in self._works if (text := self._copy(name, unfinished=True))]
        size = sum(path.stat().st_size for path in self.target.rglob("*") if path.is_file())
        sys.stderr.write(f"Copies: {self.target}, {size / 1e6:.1f} MB\n")
        sys.stderr.write("".join(f"Not copied: {text}\n" for text in failed))
        return failed

    def _copy(self, name: str, *, unfinished: bool = False) -> str:
        """Copies what a measurement has stored; returns what went wrong, which later copies may make good."""
        with self._lock:
            self._asked.discard(name)
        one, work = self._works[name]
        if not work.out.is_dir():
            return ""
        try:
            one.kept.copy(work.out, self.target / name)
            if unfinished:
                one.kept.copy_unfinished(work.out, self.target / name)
        except (VcorrError, OSError) as error:
            return f"{name}: {error}"
        return ""
