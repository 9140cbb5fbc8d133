"""Works off the clips on this machine, in this process or in one process per device (`--executor local`)."""

from __future__ import annotations

from vcorr.runner.events import Events
from vcorr.runner.executors.crew import Crew
from vcorr.runner.executors.executor import Reports
from vcorr.runner.executors.team import Team
from vcorr.runner.plan import Plan
from vcorr.runner.worker import find_predicted, work_off_each
from vcorr.store.rundir import RunDirectory


def work_locally(plan: Plan, run: RunDirectory, *, compute: bool, events: Events) -> Reports:
    """Works off every clip; see `Executor`.

    There is one report per clip, so that the record of an interrupted run covers the clips it finished. Clips that are
    predicted already are refreshed in this process, so that a finished run starts no other.
    """
    clips = plan.selection.clips
    if not compute or len(plan.hardware.shared) < 2:
        yield from work_off_each(plan, run, clips, compute=compute, events=events)
        return
    predicted = find_predicted(plan, run, clips)
    yield from work_off_each(plan, run, [clip for clip in clips if clip in predicted], events=events)
    left = [clip for clip in clips if clip not in predicted]
    if plan.hardware.ranks > 1:
        with Team(plan, run, events, plan.hardware.shared) as team:
            yield from team.work_off(left)
        return
    if len(left) < 2:
        yield from work_off_each(plan, run, left, events=events)
        return
    with Crew(plan, run, events, plan.hardware.shared[: len(left)]) as crew:
        yield from crew.work_off(left)
