"""Works off the clips one after the other, in this process (`--executor local`)."""

from __future__ import annotations

from collections.abc import Iterator

from vcorr.runner.events import Events
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report, work_off_each
from vcorr.store.rundir import RunDirectory


def work_here(plan: Plan, run: RunDirectory, *, compute: bool, events: Events) -> Iterator[Report]:
    """Works off every clip; see `Executor`.

    There is one report per clip, so that the record of an interrupted run covers the clips it finished.
    """
    return work_off_each(plan, run, plan.selection.clips, compute=compute, events=events)
