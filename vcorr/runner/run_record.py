"""Collects what `run.json` says about a run: what was asked for, and how far the run came (docs/results-format.md)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vcorr.contract.errors import StoreError
from vcorr.runner.cost import COST_KEY, total_cost
from vcorr.runner.known_clip import FIRST_CLIP
from vcorr.runner.plan import Plan
from vcorr.runner.stage_facts import predict_facts, score_facts, storable, track_facts
from vcorr.runner.worker import Report
from vcorr.store import shards
from vcorr.store.fingerprint import plain
from vcorr.store.rundir import RunDirectory


def facts_of(plan: Plan, run: RunDirectory, command: Sequence[str]) -> dict[str, Any]:
    """Returns the facts that are known before the first clip. command: the command line.

    A run that goes on, or is read again, keeps the time at which it was started.
    """
    behind_predictions = predict_facts(plan)
    del behind_predictions["selected"]  # `clips` counts all clips of the run
    facts = {
        "command": list(command),
        "started": _earlier_record(run).get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
        **behind_predictions,
        **score_facts(plan.parts.metrics, plan.selection.variants, plan.spec.metric_names),
        **track_facts(plan),
        FIRST_CLIP: plain(plan.first),
        "notes": list(plan.notes),
        "fingerprints": plan.fingerprints(),
        "git": _git_revision(),
    }
    return storable(facts)


def _git_revision() -> str | None:
    """Returns the commit of the checkout that vcorr runs from; None for an installed package."""
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return None
    command = ["git", "-C", str(home), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


class Progress:
    """Adds up what workers report."""

    def __init__(self, plan: Plan, run: RunDirectory) -> None:
        self._clips, self._run, self._has_cost = plan.selection.clips, run, plan.task.at_one_site
        self._began = time.monotonic()
        self._earlier = _earlier_texts(run, "clip_notes")
        self._earlier_kernels = _earlier_texts(run, "kernels")
        self.report = Report()

    def add(self, report: Report) -> None:
        """Adds a report to the sum."""
        self.report += report

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def peak_memory(self) -> dict[str, float | None]:
        """Returns the peak in GiB, by "device" and "host"; None where it is unknown."""
        peaks = {"device": self.report.device_peak, "host": self.report.host_peak}
        return {name: None if gib is None else round(gib, 3) for name, gib in peaks.items()}

    def _cost(self) -> dict[str, Any]:
        """Returns what a tracker, or a model at one site, cost over all clips; nothing for another task."""
        return {COST_KEY: total_cost(self._run)} if self._has_cost else {}

    def describe_kernels(self) -> str:
        """Says that other kernels matched tokens in earlier commands; "" if they did not, or if it is not known."""
        earlier, now = sorted(self._earlier_kernels), sorted(self.report.kernels)
        if not earlier or not now or earlier == now:
            return ""
        return (
            f"Kernels that match tokens: {' and '.join(now)}, but {' and '.join(earlier)} in earlier commands of this "
            "run. Where tokens are equal up to rounding, they may choose differently (docs/performance.md)."
        )

    def facts(self) -> dict[str, Any]:
        """Returns what `run.json` says about clips, seconds and memory."""
        report = self.report
        there = {path.name for path in self._run.shard_paths("predictions")}
        wanted = {shards.shard_name(clip_id) for clip_id in self._clips}
        return {
            "clips": {
                "total": len(there | wanted),
                "done": len(there),
                "failed": len(report.failed),
                "reused": report.reused,
            },
            "seconds": {
                "total": round(self.seconds, 3),
                "per_computed_clip": round(report.model_seconds / report.computed, 3) if report.computed else None,
                "load": None if report.load_seconds is None else round(report.load_seconds, 3),
            },
            "peak_memory_gib": self.peak_memory(),
            "kernels": sorted({*self._earlier_kernels, *self.report.kernels}),
            **self._cost(),
            "clip_notes": list(dict.fromkeys([*self._earlier, *report.notes])),
        }


def _earlier_texts(run: RunDirectory, field: str) -> list[str]:
    """Returns a list of texts that earlier commands recorded; none if the record cannot be read, or lacks it."""
    found = _earlier_record(run).get(field)
    return [str(each) for each in found] if isinstance(found, list) else []


def _earlier_record(run: RunDirectory) -> dict[str, Any]:
    """Returns what an earlier command wrote into run.json; empty if there is none, or it cannot be read."""
    try:
        return run.record()
    except StoreError:
        return {}
