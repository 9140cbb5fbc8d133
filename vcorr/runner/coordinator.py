"""Coordinates a run: holds its lock, hands its plan to an executor, and is the only writer of `run.json`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from vcorr.contract.errors import InterruptedRunError, StoreError, UsageError
from vcorr.runner.events import Events, Silent
from vcorr.runner.executors.executor import find_executor
from vcorr.runner.plan import Plan
from vcorr.runner.run_record import Progress, facts_of
from vcorr.runner.score_shards import score_left_over
from vcorr.store.fingerprint import LENGTH
from vcorr.store.lock import NotWritableError
from vcorr.store.record import DamagedRecordError
from vcorr.store.record_form import Status
from vcorr.store.recovery import count_kept, set_aside_record
from vcorr.store.remote.addresses import place_of
from vcorr.store.remote.filesystems import RemoteStoreError
from vcorr.store.remote.working_copies import refresh
from vcorr.store.rundir import RECORD, RunDirectory, is_run


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

    def to_dict(self) -> dict[str, Any]:
        """Returns what commands print of it as JSON."""
        return {
            "run": self.run.run_id,
            "path": self.run.place,
            "status": self.status,
            "clips": self.clips,
            "reused": self.reused,
            "failed": list(self.failed),
            "seconds": round(self.seconds, 3),
            "peak_memory_gib": dict(self.peak_memory_gib),
        }


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
        InterruptedRunError: the user interrupted the run; `run.json` then has status "partial".
    """
    run = _directory(plan, out, reuse)
    begin = functools.partial(_Coordinator, plan, run, events or Silent(), command, reuse)
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(run.write_lock())
        except NotWritableError:
            if reuse is Reuse.ONLY:
                return begin().read()
            raise
        return begin().execute()


def _directory(plan: Plan, out: Path, reuse: Reuse) -> RunDirectory:
    fingerprint = plan.fingerprints()["predict"]
    if reuse is Reuse.ONLY:
        run = RunDirectory(out / fingerprint[:LENGTH])
        refresh(run.path)
        if not run.path.exists():
            raise UsageError(
                f"There is no such run in {place_of(out)}, and --reuse only computes nothing.",
                hint="Leave --reuse out to compute it.",
            )
        run.check(fingerprint)
        return run
    return RunDirectory.create(out, fingerprint, beside=reuse is Reuse.NEVER)


class _Coordinator:
    """One execution of a plan, under the lock of its run."""

    def __init__(self, plan: Plan, run: RunDirectory, events: Events, command: Sequence[str], reuse: Reuse) -> None:
        self._plan, self._run, self._events, self._reuse = plan, run, events, reuse
        self._progress = Progress(plan, run)
        self._facts = facts_of(plan, run, command)

    def execute(self) -> Outcome:
        """Lets the executor work off every clip, and writes `run.json` at the start and at the end."""
        self._run.check_names(self._plan.selection.clips)
        self._keep_damaged_record()
        try:
            self._write_record("started")
            self._run.upload()
            self._say_notes()
            self._work(compute=self._reuse is not Reuse.ONLY)
            for note in score_left_over(self._plan, self._run):
                self._events.note(note)
            outcome = self._outcome()
            self._write_record(outcome.status)
        except BaseException as error:
            self._end_early(error)
            raise
        return outcome

    def read(self) -> Outcome:
        """Reads the results of a run in a directory that cannot be written. Every clip must be whole."""
        self._events.note(f"{self._run.place} cannot be written. Its results are read as they are.")
        self._say_notes()
        self._work(compute=False)
        return self._outcome()

    def _end_early(self, error: BaseException) -> None:
        """Records that the run is not complete, and adds to the error what is kept.

        Raises:
            InterruptedRunError, StoreError: in the place of an error of that kind.
        """
        # the user must see the error that ended the run, not a second one from writing the record
        with contextlib.suppress(StoreError):
            self._write_record("partial")
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(self._describe_kept(self._run.place)) from error
        if isinstance(error, StoreError) and self._reuse is not Reuse.ONLY:
            # what could not be uploaded is in the working copy
            where = str(self._run.path) if isinstance(error, RemoteStoreError) else self._run.place
            raise StoreError(error.message, hint=f"{error.hint}\n{self._describe_kept(where)}".strip()) from error

    def _describe_kept(self, where: str) -> str:
        clips = self._plan.selection.clips
        tried_again = set(self._progress.report.failed)
        kept = count_kept(self._run, set(clips) - tried_again, self._plan.fingerprints()["predict"])
        how = "The same command goes on from there."
        if self._reuse is Reuse.NEVER:
            how = "With --reuse never, the same command starts another run."
        return f"{kept} of {len(clips)} clips are finished and kept in {where}. {how}"

    def _keep_damaged_record(self) -> None:
        """Keeps a damaged run.json under another name, and says so. The plan and the shards know all that it said."""
        print_ = self._plan.fingerprints()["predict"]
        self._run.check(print_)  # another process may have written the record before the lock was taken
        try:
            if is_run(self._run.path):
                self._run.record()
        except DamagedRecordError as error:
            aside = set_aside_record(self._run.path / RECORD)
            kept = count_kept(self._run, self._plan.selection.clips, print_)
            self._events.note(f"{error.message}{aside} It is written again; {kept} finished clips are kept.")

    def _work(self, *, compute: bool) -> None:
        executor = find_executor(self._plan.spec.executor)
        # closed also if this block ends early, so that no process writes shards after the run
        with contextlib.closing(executor(self._plan, self._run, compute=compute, events=self._events)) as reports:
            for report in reports:
                self._progress.add(report)
                self._run.upload()
        self._note(self._progress.describe_kernels())

    def _say_notes(self) -> None:
        for note in (*self._plan.notes, self._plan.parts.notice):
            self._note(note)

    def _note(self, note: str) -> None:
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
