"""Lists the runs of a folder, from their run.json alone. A run that cannot be read is listed with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vcorr.analysis.overview import probe_names
from vcorr.contract.errors import VcorrError
from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.store.rundir import RunDirectory, find_runs

DAMAGED = "damaged"
"""Status of a run whose run.json cannot be read."""


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Returns one mapping of plain values per run directly below `folder`, sorted by name.

    Keys: run, status, model, weights, probes, data, mode, task, clips and failed (numbers, None if unknown), started,
    path, and reason: why the run cannot be read.
    """
    return [_describe(run) for run in find_runs(folder)]


def _describe(run: RunDirectory) -> dict[str, Any]:
    try:
        record, reason = run.record(), ""
    except VcorrError as error:
        record, reason = {"status": DAMAGED}, error.message
    context, clips = _mapping(record, "row_context"), _mapping(record, "clips")
    split = f", {context['split']}" if context.get("split") else ""
    return {
        "run": run.run_id,
        "status": str(record.get("status", "")),
        "model": str(context.get("model", "")),
        "weights": str(context.get("weights", "")),
        "probes": probe_names(record),
        "data": f"{context.get('dataset', '')}{split}",
        "mode": str(context.get("mode", "")),
        "task": str(context.get("task") or CORRESPONDENCE),
        "clips": clips.get("done"),
        "failed": clips.get("failed"),
        "started": str(record.get("started", "")),
        "path": str(run.path),
        "reason": reason,
    }


def _mapping(record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}
