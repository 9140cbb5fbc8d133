"""Lists the tasks of runs by the words that specs and tables hold."""

from __future__ import annotations

from vcorr.contract.entries import resolve
from vcorr.contract.errors import unknown_name
from vcorr.contract.tasks import CORRESPONDENCE, GENERATION, PROPAGATION, TRACKING
from vcorr.runner.run_tasks.run_task import RunTask

RUN_TASKS: dict[str, str] = {
    CORRESPONDENCE: f"{__package__}.correspondence_task:CorrespondenceTask",
    TRACKING: f"{__package__}.tracking_task:TrackingTask",
    PROPAGATION: f"{__package__}.propagation_task:PropagationTask",
    GENERATION: f"{__package__}.generation_task:GenerationTask",
}
"""Import strings of the classes by word; a task is imported only if a run has it."""


def find_task(name: str) -> RunTask:
    """Returns the task of this name.

    Raises:
        UsageError: there is no such task; the message suggests the nearest one.
    """
    if name not in RUN_TASKS:
        raise unknown_name("task", name, RUN_TASKS)
    task: RunTask = resolve(RUN_TASKS[name], f"task {name!r}")()
    return task
