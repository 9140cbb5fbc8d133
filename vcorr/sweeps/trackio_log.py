"""Logs the runs of a sweep to trackio, a tracker of experiments with the interface of wandb (`--trackio PROJECT`)."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Mapping
from typing import Any

from vcorr.contract.errors import MissingError
from vcorr.contract.part_calls import describe
from vcorr.runner.events import Events
from vcorr.runner.plan import Plan
from vcorr.runner.stage_facts import storable
from vcorr.store.fingerprint import LENGTH, plain
from vcorr.sweeps.expansion import SweepRun
from vcorr.sweeps.sweep_execution import SweepResult

PACKAGE = "trackio"


class TrackioLog:
    """Logs every run of a sweep as a run of one project: its spec, each finished clip, and its best sites.

    A run that goes on is continued under its name, which holds the run id. If trackio fails, a note says so, and the
    sweep goes on without it.

    Raises:
        MissingError: trackio is not installed, or cannot be imported.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        try:
            self._trackio: Any = importlib.import_module(PACKAGE)
        except ModuleNotFoundError as error:
            raise MissingError(
                f"--trackio needs the package {error.name}, which is not installed.",
                hint=f"pip install 'vcorr[{PACKAGE}]', or leave --trackio out.",
            ) from error
        except (Exception, SystemExit) as error:  # of a damaged installation
            raise MissingError(
                f"--trackio needs the package {PACKAGE}, which cannot be imported: {describe(error)}.",
                hint="Install it again, or leave --trackio out.",
            ) from error
        self._events: Events | None = None

    def begin(self, one: SweepRun, plan: Plan, events: Events) -> Events:
        """Begins a run; returns what receives its events, and passes them on to `events`."""
        self._events = events
        name = f"{one.label} {plan.fingerprints()['predict'][:LENGTH]}"
        config = storable({"spec": plain(plan.spec)})["spec"]
        self._call("init", project=self._project, name=name, config=config, resume="allow")
        return _LoggedEvents(events, self.log)

    def log(self, values: Mapping[str, Any]) -> None:
        """Logs some numbers of the run that was begun last."""
        self._call("log", dict(values))

    def end(self, result: SweepResult) -> None:
        """Logs how a run ended, and ends it."""
        if result.outcome is not None:
            self.log({"clips": result.outcome.clips, "failed": len(result.outcome.failed)})
        for best in () if result.findings is None else result.findings.best:
            s = best.summary
            name = f"{s.metric}/{s.probe}" + ("" if s.variant == "corrected" else f"/{s.variant_text}")
            values = {f"{name}/value": s.value, f"{name}/skill": s.skill}
            self.log({key: value for key, value in values.items() if math.isfinite(value)})
        self.close()

    def close(self) -> None:
        """Ends the run that was begun last, if it has not ended."""
        if self._events is not None:
            self._call("finish")
        self._events = None

    def _call(self, function: str, *arguments: Any, **options: Any) -> None:
        """Calls trackio. After its first error it is not called any more."""
        if self._trackio is None:
            return
        try:
            getattr(self._trackio, function)(*arguments, **options)
        except (Exception, SystemExit) as error:  # a log must not end what it describes
            self._trackio = None
            if self._events is not None:
                self._events.note(f"trackio failed in {function}(): {describe(error)}. Nothing more is logged to it.")


class _LoggedEvents:
    """Passes the events of a run on, and logs each clip that is finished. log: logs numbers."""

    def __init__(self, events: Events, log: Any) -> None:
        self._events, self._log = events, log
        self._began = time.monotonic()
        self._done = self._failed = 0
        self.clip_started, self.step_done, self.note = events.clip_started, events.step_done, events.note

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """Counts a clip."""
        self._done += 1
        self._events.clip_done(clip_id, reused=reused)
        self._log_counts()

    def clip_failed(self, clip_id: str, error: str) -> None:
        """Counts a clip that failed."""
        self._failed += 1
        self._events.clip_failed(clip_id, error)
        self._log_counts()

    def _log_counts(self) -> None:
        seconds = time.monotonic() - self._began
        self._log({"clips_done": self._done, "clips_failed": self._failed, "seconds": round(seconds, 3)})
