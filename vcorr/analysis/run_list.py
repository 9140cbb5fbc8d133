"""Lists the runs of a folder, from their run.json alone. A run that cannot be read is listed with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vcorr.analysis.run_settings import name_differences
from vcorr.contract.errors import VcorrError
from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.store.record import probe_names
from vcorr.store.run_search import DEPTH, find_all_runs
from vcorr.store.rundir import RunDirectory

DAMAGED = "damaged"
"""Status of a run whose run.json cannot be read."""


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Returns one mapping of plain values per run in `folder` and in the folders below it (`DEPTH`).

    Keys: run, status, model, weights, probes, data, mode, task, clips and failed (numbers, None if unknown), started,
    settings (a mapping: those in which it differs from the listed runs of the same model), path, and reason: why the
    run cannot be read.
    """
    found = [(run, *_read(run)) for run in find_all_runs(folder, depth=DEPTH)]
    differences = name_differences([record for _, record, _ in found])
    rows = zip(found, differences, strict=True)
    return [_describe(run, record, reason, settings) for (run, record, reason), settings in rows]


def _read(run: RunDirectory) -> tuple[dict[str, Any], str]:
    """Returns the record of a run, and why it cannot be read; "" if it can."""
    try:
        return run.record(), ""
    except VcorrError as error:
        return {"status": DAMAGED}, error.message


def _describe(run: RunDirectory, record: dict[str, Any], reason: str, settings: dict[str, str]) -> dict[str, Any]:
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
        "settings": settings,
        "started": str(record.get("started", "")),
        "path": run.place,
        "reason": reason,
    }


def _mapping(record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}
