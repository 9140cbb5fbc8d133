"""Coordinates a run: holds its lock, hands its plan to an executor, and is the only writer of `run.json`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from vcorr.contract.errors import StoreError, UsageError
from vcorr.runner.events import Events, Silent
from vcorr.runner.executors.executor import find_executor
from vcorr.runner.plan import Plan
from vcorr.runner.run_record import Progress, facts_of
from vcorr.runner.score_shards import score_left_over
from vcorr.store.fingerprint import LENGTH
from vcorr.store.record_form import Status
from vcorr.store.rundir import RunDirectory


class Reuse(Enum):
    """What to do with results of earlier commands."""

    MATCHING = "matching"
    """Keep the clips that are predicted already and compute the rest (the default)."""
    ONLY = "only"
    """Use the results and compute nothing; a missing clip is an error."""
    NEVER = "never"
    """Leave the results as they are and compute everything in a new directory next to them."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    peak_memory_gib: the most GiB allocated on the "device" and held by the process on the "host"; None if unknown.
    """

    run: RunDirectory
    status: Status
    clips: int
    reused: int
    failed: tuple[str, ...]
    seconds: float
    peak_memory_gib: Mapping[str, float | None]


def execute(
    plan: Plan, out: Path, *, reuse: Reuse = Reuse.MATCHING, events: Events | None = None, command: Sequence[str] = ()
) -> Outcome:
    """Runs a plan in a directory below `out`.

    The predictions, tracks and scores of a clip are on disk before the next clip begins. So if the process ends early,
    only the current clip is lost. A clip that fails becomes a row with its error. Plugin errors, missing weights and a
    full disk end the run; the same command then continues it.

    Args:
        plan: what to do; its spec names the executor.
        out: the folder of all runs.
        reuse: what to do with earlier results.
        events: receives what happens.
        command: the command line, for `run.json`.

    Raises:
        StoreError, PluginError, MissingError: see above; `run.json` then has status "partial". A StoreError also if
            another process is writing the run; then nothing is written.
        KeyboardInterrupt: the user interrupted the run; `run.json` then has status "partial".
    """
    run = _directory(plan, out, reuse)
    with run.write_lock():
        return _Coordinator(plan, run, events or Silent(), command).execute(compute=reuse is not Reuse.ONLY)


def _directory(plan: Plan, out: Path, reuse: Reuse) -> RunDirectory:
    fingerprint = plan.fingerprints()["predict"]
    if reuse is Reuse.ONLY and not (out / fingerprint[:LENGTH]).exists():
        raise UsageError(
            f"There is no such run in {out}, and --reuse only computes nothing.",
            hint="Leave --reuse out to compute it.",
        )
    return RunDirectory.create(out, fingerprint, beside=reuse is Reuse.NEVER)


class _Coordinator:
    """One execution of a plan, under the lock of its run."""

    def __init__(self, plan: Plan, run: RunDirectory, events: Events, command: Sequence[str]) -> None:
        self._plan, self._run, self._events = plan, run, events
        self._progress = Progress(plan, run)
        self._facts = facts_of(plan, command)

    def execute(self, *, compute: bool) -> Outcome:
        """Lets the executor work off every clip, and writes `run.json` at the start and at the end."""
        self._write_record("started")
        self._say_notes()
        try:
            self._work(compute=compute)
        except BaseException:
            # the user must see the error that ended the run, not a second one from writing the record
            with contextlib.suppress(StoreError):
                self._write_record("partial")
            raise
        outcome = self._outcome()
        self._write_record(outcome.status)
        return outcome

    def _work(self, *, compute: bool) -> None:
        executor = find_executor(self._plan.spec.executor)
        for report in executor(self._plan, self._run, compute=compute, events=self._events):
            self._progress.add(report)
        score_left_over(self._plan, self._run)

    def _say_notes(self) -> None:
        for note in (*self._plan.notes, self._plan.parts.notice):
            if note:
                self._events.note(note)

    def _outcome(self) -> Outcome:
        clips, report = len(self._plan.selection.clips), self._progress.report
        status = _status(clips, len(report.failed))
        return Outcome(
            self._run,
            status,
            clips,
            report.reused,
            report.failed,
            self._progress.seconds,
            self._progress.peak_memory(),
        )

    def _write_record(self, status: Status) -> None:
        self._run.write_record({**self._facts, **self._progress.facts()}, status)


def _status(total: int, failed: int) -> Status:
    if failed == total:
        return "failed"
    return "partial" if failed else "complete"


__all__ = ["Events", "Outcome", "Reuse", "Silent", "execute"]
