"""What studies of ordinary runs share: the names in their folder, how a run is made, and their record.

The folder of a study holds its runs in `runs/`, `measured.json` (`vcorr.studies.measured_values`), and `study.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vcorr.contract.errors import InterruptedRunError
from vcorr.runner.coordinator import Outcome, execute
from vcorr.runner.events import Events
from vcorr.runner.plan import Plan
from vcorr.store.atomic_files import write_text

RECORD, RUNS = "study.json", "runs"

Watch = Callable[[Plan, str], AbstractContextManager[Events]]
"""Returns what shows the events of a run. Its second argument says in words which run it is."""


GOES_ON = "The same command goes on from there."


@contextmanager
def say_kept(describe: Callable[[], str]) -> Iterator[None]:
    """Says what a study keeps when its user interrupts the block.

    describe: returns a sentence on what is finished, and where it is kept. What an interrupted run says follows it.

    Raises:
        InterruptedRunError: in the place of a KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        of_run = error.message if isinstance(error, InterruptedRunError) else GOES_ON
        raise InterruptedRunError(f"{describe()} {of_run}") from error


def say_arms(done: int, total: int, folder: Path) -> str:
    """Says how many arms of a study are finished."""
    return f"{done} of {total} arms are finished and kept in {folder}."


@dataclass(frozen=True)
class StudyRuns:
    """Makes the runs of a study. folder: of the study. watch: shows their events. command: the command line."""

    folder: Path
    watch: Watch
    command: Sequence[str]

    def make(self, plan: Plan, title: str) -> Outcome:
        """Makes a run, or what is missing of it, in this process, which keeps the model loaded from run to run.

        title: says in words which run it is.

        Raises:
            StoreError, PluginError, MissingError, UsageError, InterruptedRunError: as `execute`.
        """
        plan = replace(plan, hardware=replace(plan.hardware, shared=()))
        with self.watch(plan, title) as events:
            return execute(plan, self.folder / RUNS, events=events, command=self.command)

    def write_record(self, facts: Mapping[str, Any]) -> None:
        """Writes `study.json`; atomic.

        Raises:
            StoreError: it cannot be written.
        """
        write_text(self.folder / RECORD, json.dumps(facts, indent=1) + "\n")
