"""Executes the runs of a sweep one after the other; a run that fails does not end the others."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vcorr.analysis.run_findings import read_findings
from vcorr.contract.errors import VcorrError, first_line
from vcorr.runner.coordinator import Outcome, Reuse, execute
from vcorr.runner.events import Events
from vcorr.runner.plan import Plan
from vcorr.stats.summary import Findings
from vcorr.store.atomic_files import make_folder
from vcorr.sweeps.expansion import SweepRun
from vcorr.sweeps.sweep_plans import PlannedRun, model_key

Watch = Callable[[SweepRun, Plan], AbstractContextManager[Events]]
"""Returns what receives the events of a run."""


@dataclass(frozen=True)
class RunFailure:
    """Why a run ended early, in words alone: an exception would hold the model, by the frames of its traceback.

    trace: the traceback of what is no error of vcorr, and so a bug; else "".
    """

    message: str
    hint: str = ""
    trace: str = ""

    @classmethod
    def of(cls, error: Exception) -> RunFailure:
        """Returns the failure for an error."""
        if isinstance(error, VcorrError):
            return cls(error.message, error.hint)
        trace = "".join(traceback.format_exception(error))
        return cls(f"{type(error).__name__}: {first_line(error)}.", trace=trace)

    @property
    def text(self) -> str:
        """The message and the hint."""
        return f"{self.message}\n{self.hint}".strip()


@dataclass(frozen=True)
class SweepResult:
    """How a run of a sweep ended.

    model, data: the names in its rows. outcome, findings: None if the run ended with an error. failure: that error.
    """

    run: SweepRun
    model: str
    data: str
    outcome: Outcome | None = None
    findings: Findings | None = None
    failure: RunFailure | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every clip of the run succeeded."""
        return self.outcome is not None and not self.outcome.failed


@dataclass
class SweepExecution:
    """What is shared by the runs of a sweep. out: the folder of runs. command: the command line, for `run.json`."""

    out: Path
    watch: Watch
    reuse: Reuse = Reuse.MATCHING
    command: Sequence[str] = ()

    def run_each(self, planned: list[PlannedRun]) -> Iterator[SweepResult]:
        """Yields a result per run, in order. Empties the list, so that no plan keeps the weights of an earlier model.

        In one process, a model stays loaded for the runs that follow and have the same model.

        Raises:
            StoreError: the folder of runs cannot be made.
            InterruptedRunError: the user interrupted a run.
        """
        if self.reuse is not Reuse.ONLY:
            make_folder(self.out)
        loaded: Plan | None = None
        while planned:
            one = planned.pop(0)
            if loaded is None or not _share_model(one.plan, loaded):
                loaded = None
                gc.collect()  # a network may hold itself in a circle
            else:
                one = replace(one, plan=one.plan.with_model_of(loaded))
            result = self._run(one.run, one.plan)
            loaded = one.plan if result.failure is None else None
            del one
            yield result

    def _run(self, one: SweepRun, plan: Plan) -> SweepResult:
        named: dict[str, Any] = {"run": one, "model": plan.parts.model.entry.name, "data": plan.dataset}
        try:
            with self.watch(one, plan) as events:
                outcome = execute(plan, self.out, reuse=self.reuse, events=events, command=self.command)
            read = read_findings(plan, outcome.run)
            if plan.spec.save_videos:
                from vcorr.analysis.track_overlays import draw_best

                draw_best(plan, outcome.run, read.found, read.lower)
            return SweepResult(**named, outcome=outcome, findings=read.found)
        except Exception as error:  # whatever ends one run must not end the others
            return SweepResult(**named, failure=RunFailure.of(error))


def _share_model(plan: Plan, loaded: Plan) -> bool:
    key = model_key(plan)
    return key is not None and key == model_key(loaded)
