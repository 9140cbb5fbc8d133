"""Plans a command that was carried out before, without reading a clip, and so without the packages that this needs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vcorr.contract.errors import StoreError, UsageError
from vcorr.plugins.registry import Registry
from vcorr.runner.known_clip import FIRST_CLIP, outline_clip
from vcorr.runner.plan import Plan, make_plan
from vcorr.runner.spec import RunSpec
from vcorr.runner.stage_facts import storable
from vcorr.store import shards
from vcorr.store.fingerprint import plain
from vcorr.store.rundir import RECORD, RunDirectory
from vcorr.store.schema import TableName

_STAGES: Mapping[TableName, str] = {"predictions": "predict", "tracks": "track", "scores": "score"}
"""The stage that writes each table."""


def plan_again(spec: RunSpec, registry: Registry, out: Path) -> Plan | None:
    """Returns the plan of a finished run below `out` of the same spec; None if there is none.

    The first clip is as `run.json` describes it. Everything else is looked up as for any plan. The plan counts only if
    its fingerprints are the ones of the run, and of all its shards.

    Raises:
        UsageError, PluginError, MissingError: as `make_plan`.
    """
    for run, record in _find_finished(out, storable({"spec": plain(spec)})["spec"]):
        try:
            first = outline_clip(record[FIRST_CLIP])
        except (KeyError, TypeError, ValueError, UsageError):
            continue
        plan = make_plan(spec, registry, known=first)
        if plan.fingerprints() == record.get("fingerprints") and _is_whole(plan, run):
            return plan
    return None


def _find_finished(out: Path, spec: Mapping[str, Any]) -> Iterator[tuple[RunDirectory, dict[str, Any]]]:
    """Yields complete runs of this spec below `out`, with their records."""
    words = json.dumps(spec["model"], ensure_ascii=False)
    if not os.path.isdir(out):  # False too where the name is too long; making the run says that it cannot be written
        return
    for path in sorted(out.glob(f"*/{RECORD}")):
        # most records are of other commands: the text alone says so, and parsing and checking a record takes longer
        if words not in path.read_text(errors="replace"):
            continue
        run = RunDirectory(path.parent)
        try:
            record = run.record()
        except StoreError:
            continue
        if record.get("status") == "complete" and record.get("spec") == spec:
            yield run, record


def _is_whole(plan: Plan, run: RunDirectory) -> bool:
    """Returns whether the run has all shards of the plan, as far as their metadata say."""
    prints = plan.fingerprints()
    return all(
        shards.read_fingerprint(run.shard(table, clip_id)) == prints[stage]
        for clip_id in plan.selection.clips
        for table, stage in _STAGES.items()
    )
