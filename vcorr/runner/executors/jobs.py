"""Works off the clips in jobs of a Slurm cluster, through submitit (`--executor submitit`)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from vcorr.runner.events import Events
from vcorr.runner.executors.crew import TRIES, ProcessDiedError
from vcorr.runner.executors.executor import Reports
from vcorr.runner.executors.job_options import JobOptions
from vcorr.runner.executors.messages import Broken
from vcorr.runner.executors.remote import Package, compute_clips, share_rest
from vcorr.runner.executors.table import PART, read_options
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report, find_predicted, give_up, work_off_each
from vcorr.store.run_names import LOGS
from vcorr.store.rundir import RunDirectory

MOST_FRUITLESS = 2 * TRIES
"""How many jobs are lost one after the other without finishing a clip until their clips are given up."""
SECONDS_TO_CANCEL = 30.0
"""How long the run waits for the end of jobs that it has cancelled."""
_PAUSE = {"slurm": 10.0, "local": 0.2}
"""Seconds between two looks at the jobs."""


def work_in_jobs(plan: Plan, run: RunDirectory, *, compute: bool, events: Events) -> Reports:
    """Works off every clip; see `Executor`. The clips are dealt out to the jobs before they start."""
    if not compute:
        yield from work_off_each(plan, run, plan.selection.clips, compute=False, events=events)
        return
    options: JobOptions = read_options("submitit", plan.spec.options.get(PART, {}))
    yield from share_rest(plan, run, events, _Jobs(plan, run, events, options).work_off)


@dataclass(frozen=True)
class _Part:
    """The clips of a job. fruitless: how many jobs before it were lost one after the other without finishing a clip."""

    clips: Sequence[str]
    fruitless: int = 0


class _Jobs:
    """The jobs of one run. What a lost job had not finished is tried again in another one.

    A job computes its clips in order, so a lost job costs its first unfinished clip alone one of its tries.
    """

    def __init__(self, plan: Plan, run: RunDirectory, events: Events, options: JobOptions) -> None:
        self._plan, self._run, self._events, self._options = plan, run, events, options
        self._jobs: dict[Any, _Part] = {}
        self._tries: Counter[str] = Counter()
        self._executor = _make_executor(run.path / LOGS, options)

    def work_off(self, package: Package, clips: Sequence[str]) -> Iterator[Report]:
        """Yields one report per clip, when its job has ended."""
        count = min(len(clips), self._plan.spec.workers or self._options.jobs)
        try:
            for number in range(count):
                self._submit(package, _Part(clips[number::count]))
            while self._jobs:
                for job in [job for job in self._jobs if job.done()]:
                    yield from self._read(package, job)
                time.sleep(_PAUSE[self._options.cluster])
        finally:
            self._cancel()

    def _cancel(self) -> None:
        """Cancels the jobs that are left, and waits a short time for their end, so that none writes after the run."""
        for job in self._jobs:
            job.cancel()
        until = time.monotonic() + SECONDS_TO_CANCEL
        while not all(job.done() for job in self._jobs) and time.monotonic() < until:
            time.sleep(_PAUSE[self._options.cluster])

    def _submit(self, package: Package, part: _Part) -> None:
        self._jobs[self._executor.submit(compute_clips, package, list(part.clips))] = part

    def _read(self, package: Package, job: Any) -> Iterator[Report]:
        """Yields the reports of a job that has ended."""
        part = self._jobs.pop(job)
        try:
            found = job.result()
        except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError):
            yield from self._try_again(package, job, part)
            return
        for one in found:
            if isinstance(one, Broken):
                one.raise_again()
            else:
                yield one.pass_on(self._events, self._run)

    def _try_again(self, package: Package, job: Any, part: _Part) -> Iterator[Report]:
        """Reads what a lost job has finished, and gives the rest to another job."""
        predicted = find_predicted(self._plan, self._run, part.clips)
        finished = [clip for clip in part.clips if clip in predicted]
        yield from work_off_each(self._plan, self._run, finished, events=self._events)
        left = [clip for clip in part.clips if clip not in predicted]
        self._events.note(
            f"Job {job.job_id} was lost with {len(left)} of its {len(part.clips)} clips. See {job.paths.stderr}"
        )
        fruitless = 0 if finished else part.fruitless + 1
        lost = self._find_lost(left, fruitless)
        again = [clip for clip in left if clip not in lost]
        if again:
            self._submit(package, _Part(again, fruitless))
        for clip in lost:
            error = ProcessDiedError(f"its job was lost in every try, {TRIES} times")
            yield give_up(self._plan, self._run, clip, error, self._events)

    def _find_lost(self, left: Sequence[str], fruitless: int) -> Sequence[str]:
        """Returns the clips to give up: one that was tried often enough, or all if no job gets anywhere."""
        if fruitless >= MOST_FRUITLESS:
            return left
        self._tries.update(left[:1])
        return [clip for clip in left[:1] if self._tries[clip] >= TRIES]


def _make_executor(folder: Path, options: JobOptions) -> submitit.AutoExecutor:
    """Returns submitit's executor. The plan has checked that jobs can be started here."""
    made = submitit.AutoExecutor(folder=folder, cluster=options.cluster)
    of_slurm = {"slurm_partition": options.partition} if options.partition and options.cluster == "slurm" else {}
    made.update_parameters(
        name="vcorr",
        timeout_min=max(1, round(options.hours * 60)),
        cpus_per_task=options.cpus,
        mem_gb=options.memory,
        gpus_per_node=options.gpus,
        **of_slurm,
    )
    return made
