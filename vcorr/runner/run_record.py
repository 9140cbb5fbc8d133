"""Collects what `run.json` says about a run: what was asked for, and how far the run came (docs/results-format.md)."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vcorr.contract.errors import StoreError
from vcorr.contract.metric_columns import ASKED_KEY, COLUMNS_KEY
from vcorr.data.video_names import show_name
from vcorr.runner.identity import SCORING_VERSION
from vcorr.runner.metric_trial import check_columns
from vcorr.runner.parts import Part
from vcorr.runner.plan import Plan
from vcorr.runner.score_shards import common_columns
from vcorr.runner.spec import RunSpec
from vcorr.runner.worker import Report
from vcorr.store import shards
from vcorr.store.fingerprint import plain
from vcorr.store.rundir import RunDirectory


def facts_of(plan: Plan, command: Sequence[str]) -> dict[str, Any]:
    """Returns the facts that are known before the first clip. command: the command line."""
    parts = plan.parts
    facts = {
        "command": list(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": plain(plan.spec),
        "resolved": plan.predict_identity(),
        "metrics": [metric.identity() for metric in parts.metrics],
        **metric_facts(parts.metrics, plan.spec),
        "scoring": SCORING_VERSION,
        "variants": [variant.text for variant in plan.selection.variants],
        "row_context": common_columns(plan),
        "fitted": plan.selection.fitted,
        "notes": list(plan.notes),
        "reference": plan.reference.to_dict(),
        "card": plain(plan.live.card),
        "plugins": parts.plugins(),
        "tracker": {**(plan.tracker_identity() or {}), "licence": parts.licence} if parts.tracker else None,
        "fingerprints": plan.fingerprints(),
        "versions": {
            "vcorr": metadata.version("vcorr"),
            "python": platform.python_version(),
            **plan.identity.versions,
        },
        "git": _git_revision(),
        "device": {
            "name": plan.hardware.name,
            "dtype": plan.hardware.dtype,
            "machine": platform.machine(),
            "os": sys.platform,
        },
    }
    return {key: _to_text(value) for key, value in facts.items()}


def _to_text(value: Any) -> Any:
    """Returns plain values with every text as it can be stored: the names of files may hold other bytes than UTF-8."""
    if isinstance(value, str):
        return show_name(value)
    if isinstance(value, list):
        return [_to_text(item) for item in value]
    return {k: _to_text(v) for k, v in value.items()} if isinstance(value, dict) else value


def metric_facts(metrics: Sequence[Part], spec: RunSpec) -> dict[str, Any]:
    """Returns what tables need to know about the metrics: their columns, and which ones the user named."""
    columns = [one.to_dict() for one in check_columns(metrics)]
    return {COLUMNS_KEY: columns, ASKED_KEY: list(dict.fromkeys(spec.metric_names))}


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
        self._clips, self._run = plan.selection.clips, run
        self._began = time.monotonic()
        self._earlier = _earlier_notes(run)
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

    def facts(self) -> dict[str, Any]:
        """Returns what `run.json` says about clips, seconds and memory."""
        report = self.report
        there = {path.name for path in (self._run.path / "predictions").glob(f"*{shards.SUFFIX}")}
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
            "clip_notes": list(dict.fromkeys([*self._earlier, *report.notes])),
        }


def _earlier_notes(run: RunDirectory) -> list[str]:
    """Returns the notes on clips of earlier commands; none if the record cannot be read."""
    try:
        found = run.record().get("clip_notes")
    except StoreError:
        return []
    return [str(note) for note in found] if isinstance(found, list) else []
