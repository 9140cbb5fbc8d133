"""Plans a command that was carried out before, without reading a clip, and so without the packages that this needs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

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

_Finished: TypeAlias = tuple[RunDirectory, dict[str, Any]]
_STAGES: Mapping[TableName, str] = {"predictions": "predict", "tracks": "track", "scores": "score"}
"""The stage that writes each table."""


class FinishedRuns:
    """The complete runs below a folder, read once: for many plans, where each would read the records of all runs."""

    def __init__(self, out: Path) -> None:
        self._out = out

    @cached_property
    def _by_spec(self) -> dict[str, list[_Finished]]:
        found: dict[str, list[_Finished]] = {}
        for run, record in _read_complete(self._out, ""):
            found.setdefault(_as_text(record.get("spec")), []).append((run, record))
        return found

    def find(self, spec: Mapping[str, Any]) -> Iterable[_Finished]:
        """Returns the runs of this spec, with their records."""
        return self._by_spec.get(_as_text(spec), ())


def plan_again(spec: RunSpec, registry: Registry, out: Path, finished: FinishedRuns | None = None) -> Plan | None:
    """Returns the plan of a finished run below `out` of the same spec; None if there is none.

    finished: the runs below `out`, if they were read already.

    The first clip is as `run.json` describes it. Everything else is looked up as for any plan. The plan counts only if
    its fingerprints are the ones of the run, and of all its shards.

    Raises:
        UsageError, PluginError, MissingError: as `make_plan`.
    """
    asked = storable({"spec": plain(spec)})["spec"]
    for run, record in _find_finished(out, asked) if finished is None else finished.find(asked):
        try:
            first = outline_clip(record[FIRST_CLIP])
        except (KeyError, TypeError, ValueError, UsageError):
            continue
        plan = make_plan(spec, registry, known=first)
        if plan.fingerprints() == record.get("fingerprints") and _is_whole(plan, run):
            return plan
    return None


def _find_finished(out: Path, spec: Mapping[str, Any]) -> Iterator[_Finished]:
    """Yields complete runs of this spec below `out`, with their records."""
    # most records are of other commands: the text alone says so, and parsing and checking a record takes longer
    words = json.dumps(spec["model"], ensure_ascii=False)
    return ((run, record) for run, record in _read_complete(out, words) if record.get("spec") == spec)


def _read_complete(out: Path, words: str) -> Iterator[_Finished]:
    """Yields the complete runs below `out` whose records have these words, with their records."""
    if not os.path.isdir(out):  # False too where the name is too long; making the run says that it cannot be written
        return
    for path in sorted(out.glob(f"*/{RECORD}")):
        run = RunDirectory(path.parent)
        try:
            if words and words not in path.read_text(errors="replace"):
                continue
            record = run.record()
        except (OSError, StoreError):
            continue
        if record.get("status") == "complete":
            yield run, record


def _as_text(spec: Any) -> str:
    return json.dumps(spec, sort_keys=True)


def _is_whole(plan: Plan, run: RunDirectory) -> bool:
    """Returns whether the run has all shards of the plan, as far as their metadata say."""
    prints = plan.fingerprints()
    return all(
        shards.read_fingerprint(run.shard(table, clip_id)) == prints[stage]
        for clip_id in plan.selection.clips
        for table, stage in _STAGES.items()
    )
