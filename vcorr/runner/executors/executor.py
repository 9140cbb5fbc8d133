"""Defines what an executor is, and finds one by its name."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from vcorr.contract.entries import resolve
from vcorr.contract.errors import MissingError
from vcorr.runner.events import Events
from vcorr.runner.executors.table import EXECUTORS, check_executor
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report
from vcorr.store.rundir import RunDirectory

Reports = Generator[Report, None, None]


class Executor(Protocol):
    """Has `vcorr.runner.worker.work_off` work off every clip of a plan, in one process or in many."""

    def __call__(
        self, plan: Plan, run: RunDirectory, *, compute: bool, events: Events
    ) -> Generator[Report, None, None]:
        """Yields reports as clips are finished; together they cover every clip of the plan once.

        The caller holds the lock of the run and is the only writer of `run.json`. Workers write only shards. When the
        iterator has ended, was closed or has raised, no worker may still run.

        Args:
            plan: what to do; it can be pickled.
            run: where the shards go.
            compute: False if the model must not be run.
            events: receives what happens; called only in this process.

        Raises:
            StoreError, PluginError, MissingError: the error that ended a worker.
        """


def find_executor(name: str) -> Executor:
    """Returns the executor with this name.

    Raises:
        UsageError: there is no such executor.
        MissingError: its package is not installed.
    """
    check_executor(name)
    entry = EXECUTORS[name]
    try:
        found: Executor = resolve(entry.function, f"executor {name!r}")
    except MissingError as error:
        if not entry.extra:
            raise
        raise MissingError(error.message, hint=f"pip install 'vcorr[{entry.extra}]'") from error
    return found
