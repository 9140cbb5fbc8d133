"""Executes the runs of a sweep one after the other; a run that fails does not end the others."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.analysis.run_findings import read_findings
from vcorr.runner.coordinator import Outcome, Reuse, execute
from vcorr.runner.events import Events
from vcorr.runner.plan import Plan
from vcorr.stats.summary import Findings
from vcorr.sweeps.expansion import SweepRun
from vcorr.sweeps.sweep_plans import PlannedRun, model_key

Watch = Callable[[SweepRun, Plan], AbstractContextManager[Events]]
"""Returns what receives the events of a run."""


@dataclass(frozen=True)
class SweepResult:
    """How a run of a sweep ended.

    model, data: the names in its rows. outcome, findings: None if the run ended with an error. error: that error.
    """

    run: SweepRun
    model: str
    data: str
    outcome: Outcome | None = None
    findings: Findings | None = None
    error: Exception | None = None

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
            InterruptedRunError: the user interrupted a run.
        """
        loaded: Plan | None = None
        while planned:
            one = planned.pop(0)
            if loaded is not None and not _share_model(one.plan, loaded):
                loaded = None
                gc.collect()  # a network may hold itself in a circle
            plan = one.plan if loaded is None else one.plan.with_model_of(loaded)
            result = self._run(one.run, plan)
            loaded = plan if result.error is None else None
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
            return SweepResult(**named, error=error)


def _share_model(plan: Plan, loaded: Plan) -> bool:
    key = model_key(plan)
    return key is not None and key == model_key(loaded)
