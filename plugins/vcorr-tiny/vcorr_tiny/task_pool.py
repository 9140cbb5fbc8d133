"""Runs the tasks of a measurement several at a time: long ones first, each after what it needs, and past failures.

What ended well is noted in `tasks.jsonl`, in the folder of the runs. The same work goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from vcorr import MissingError, VcorrError, unknown_name
from vcorr.cli.stopping import stop_in_order
from vcorr.diffusion import folder_identity
from vcorr_tiny.command_runs import Call, Command, Work
from vcorr_tiny.network_folder import SEEDS, find_networks

JOURNAL = "tasks.jsonl"
LEFT_OUT = -1
"""Exit code of a task that was left out, because what it needs failed or is not in reach."""
STOPPED = -2
"""Exit code of a task that was interrupted, or had not begun then."""


class UnfinishedError(VcorrError):
    """Time was up before all was measured; what was finished is kept."""

    exit_code = 1


@dataclass(frozen=True)
class Task:
    """One part of a measurement, in one process.

    name: in `--list` and `--only`. make: returns what runs; it may read what the tasks in `after` have stored, and is
    called when they ended well. seconds: about how long it takes on one core and, if it has a network, on a GPU; it
    decides the order alone.
    """

    name: str
    make: Callable[[], Command | Call]
    after: tuple[str, ...] = ()
    seconds: float = 1.0

    def inside(self, measurement: str) -> Task:
        """Returns the task with the name of its measurement before its own, as where several are measured at once."""
        after = tuple(f"{measurement}/{name}" for name in self.after)
        return replace(self, name=f"{measurement}/{self.name}", after=after)


def choose(tasks: Sequence[Task], only: Collection[str]) -> list[Task]:
    """Returns the tasks whose names begin with one of `only`, or all if it is empty.

    Raises:
        UsageError: no task begins with one of them.
    """
    for beginning in only:
        if not any(task.name.startswith(beginning) for task in tasks):
            raise unknown_name("task", beginning, [task.name for task in tasks], hint="--list prints all tasks.")
    return [task for task in tasks if not only or task.name.startswith(tuple(only))]


def sort_tasks(tasks: Iterable[Task]) -> list[Task]:
    """Returns the tasks with the one first that has the longest way to the end: its own time and of what needs it."""
    every = list(tasks)
    ways: dict[str, float] = {}

    def measure_way(task: Task) -> float:
        if task.name not in ways:
            rest = [measure_way(other) for other in every if task.name in other.after]
            ways[task.name] = task.seconds + max(rest, default=0.0)
        return ways[task.name]

    return sorted(every, key=measure_way, reverse=True)


def run_tasks(work: Work, tasks: Sequence[Task], ended: Callable[[Task], None] = lambda task: None) -> None:
    """Runs the tasks that `work.only` names, `work.jobs` at a time. All that can run do, whatever fails.

    A task that needs one which is not chosen counts on what is stored. At `work.deadline`, and if the user interrupts
    this, the tasks that run are interrupted and no others begin. ended: gets each task that ended well, at once.

    Raises:
        UsageError: no task has such a name.
        UnfinishedError: time was up; it names the tasks that are missing.
        VcorrError: tasks failed; it names them.
        KeyboardInterrupt: the user interrupted this; all tasks have ended.
    """
    chosen = sort_tasks(choose(tasks, work.only))
    with stop_in_order():
        codes = _Pool(work, list(chosen), ended).run()
    failed = [task.name for task in chosen if codes[task.name] > 0]
    missing = [task.name for task in chosen if codes[task.name] == STOPPED]
    said = [f"{len(failed)} of {len(chosen)} tasks failed: {', '.join(failed)}."] if failed else []
    if missing:
        said.append(f"Time is up, and {len(missing)} of {len(chosen)} tasks are missing: {', '.join(missing)}.")
    if said:
        kind = UnfinishedError if missing else VcorrError
        raise kind(" ".join(said), hint="Repeat the command: what ended well is not run again.")


# -------------------------------------------------------------------------------------------------------------- running


@dataclass
class _Pool:
    """The tasks that wait and those that run."""

    work: Work
    waiting: list[Task]
    ended: Callable[[Task], None]
    codes: dict[str, int] = field(default_factory=dict)
    running: dict[Future[int], Task] = field(default_factory=dict)

    def run(self) -> dict[str, int]:
        """Runs all tasks until the deadline; returns their exit codes by name."""
        journal = Journal(self.work.out, repeat=self.work.reuse == "never")
        chosen, total = frozenset(task.name for task in self.waiting), len(self.waiting)
        with ThreadPoolExecutor(self.work.jobs) as threads:
            try:
                while (self.waiting or self.running) and time.monotonic() < self.work.deadline:
                    self._leave_out()
                    for task in self._find_ready(chosen)[: self.work.jobs - len(self.running)]:
                        self.waiting.remove(task)
                        self.running[threads.submit(_run_task, self.work, task, journal)] = task
                    self._collect(total)
            finally:
                self._stop(total)
        return self.codes

    def _collect(self, total: int) -> None:
        """Waits until a task ends or time is up, and notes the tasks that have ended."""
        left = self.work.deadline - time.monotonic()
        done = wait(self.running, None if math.isinf(left) else max(left, 0.0), FIRST_COMPLETED).done
        for future in done:
            task, code = self.running.pop(future), future.result()
            self.codes[task.name] = STOPPED if code and self.work.processes.stopped else code
            _say(f"[{len(self.codes)}/{total}] {task.name}: {_describe(self.codes[task.name])}")
            if not code:
                self.ended(task)

    def _stop(self, total: int) -> None:
        """Interrupts the tasks that still run, and begins no others."""
        if not self.waiting and not self.running:
            return
        self.work.processes.stop()
        self.codes |= dict.fromkeys((task.name for task in self.waiting), STOPPED)
        self.waiting = []
        wait(self.running)
        self._collect(total)

    def _find_ready(self, chosen: frozenset[str]) -> list[Task]:
        return [
            task for task in self.waiting if all(self.codes.get(one) == 0 for one in chosen.intersection(task.after))
        ]

    def _leave_out(self) -> None:
        """Takes away the tasks that need one which did not end well, and those that need them."""
        while lost := [task for task in self.waiting if any(self.codes.get(name, 0) for name in task.after)]:
            for task in lost:
                needed = next(name for name in task.after if self.codes.get(name, 0))
                self.waiting.remove(task)
                self.codes[task.name] = LEFT_OUT if self.codes[needed] == LEFT_OUT else 1
                _say(f"{task.name}: not run, since {needed} did not end well")


def _describe(code: int) -> str:
    return {0: "done", LEFT_OUT: "left out", STOPPED: "interrupted"}.get(code, f"failed with exit code {code}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _run_task(work: Work, task: Task, journal: Journal) -> int:
    """Runs a task unless it ended well before; returns its exit code. An expected error is printed with its name."""
    started = time.monotonic()
    try:
        made = task.make()
        if journal.holds(task, made):
            return 0
        code = work.run_one(made)
    except VcorrError as error:
        _say(f"{task.name}: {error}")
        return error.exit_code
    except Exception as error:  # a fault in one task must not end the others
        _say(f"{task.name}: {type(error).__name__}: {error}")
        return 1
    if code == MissingError.exit_code and isinstance(made, Command) and made.optional:
        _say(f"Left out, since {made.model} is not in reach: vcorr {' '.join(made.words)}")
        return LEFT_OUT
    journal.add(task, made, code, time.monotonic() - started)
    return code


# -------------------------------------------------------------------------------------------------------------- journal


class Journal:
    """The tasks that ended well in a folder.

    A task counts only with what it ran then. If it runs a network, or needs another task, it also counts only with the
    networks of that time.
    """

    def __init__(self, folder: Path, *, repeat: bool = False) -> None:
        """Reads the journal. repeat: whether nothing in it counts."""
        self._path = folder / JOURNAL
        self._networks = _identify_networks()
        self._known = set() if repeat else {str(line.get("asked")) for line in _read(self._path) if not line["code"]}

    def holds(self, task: Task, made: Command | Call) -> bool:
        """Returns whether a task ended well."""
        return self._ask(task, made) in self._known

    def add(self, task: Task, made: Command | Call, code: int, seconds: float) -> None:
        """Notes how a task ended."""
        line = {"name": task.name, "code": code, "seconds": round(seconds, 1), "asked": self._ask(task, made)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _ask(self, task: Task, made: Command | Call) -> str:
        """Returns a hash of what decides the result of a task."""
        networks = self._networks if made.on_device or task.after else ()
        return hashlib.sha256(repr((task.name, made, networks)).encode()).hexdigest()[:16]


def _identify_networks() -> tuple[str, ...]:
    """Returns what identifies the networks of all seeds that are there."""
    networks = find_networks()
    folders = [networks.pipeline, *(networks.seeds / str(seed) for seed in SEEDS)]
    return tuple(folder_identity(folder) for folder in folders if folder.is_dir())


def _read(path: Path) -> list[Mapping[str, object]]:
    """Returns the lines of a journal; a line that was cut off, as by a power failure, is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [each for each in found if isinstance(each, dict) and "code" in each]
