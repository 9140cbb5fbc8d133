"""What an executor is: it has the clips of a plan worked off, here or elsewhere, and hands on what workers report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from vcorr.contract.entries import resolve
from vcorr.runner.events import Events
from vcorr.runner.executors.table import EXECUTORS, check_executor
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report
from vcorr.store.rundir import RunDirectory


class Executor(Protocol):
    """Has every clip of a plan worked off by `vcorr.runner.worker.work_off`, in one process or in many."""

    def __call__(self, plan: Plan, run: RunDirectory, *, compute: bool, events: Events) -> Iterator[Report]:
        """Yields reports as work comes back; together they cover every clip of the plan once.

        The caller holds the lock of the run and alone writes `run.json`; workers write shards and nothing else. Once
        the iterator has ended, been closed or raised, no worker goes on.

        Args:
            plan: what to do; it can be pickled.
            run: where the shards go.
            compute: False when nothing may be computed that needs the model.
            events: receives what happens, called from this process.

        Raises:
            StoreError, PluginError, MissingError: what ended a worker.
        """


def find_executor(name: str) -> Executor:
    """Returns the executor of a name.

    Raises:
        UsageError: there is none.
    """
    check_executor(name)
    found: Executor = resolve(EXECUTORS[name], f"executor {name!r}")
    return found
