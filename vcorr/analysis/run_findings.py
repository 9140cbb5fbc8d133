"""Reads the findings of a run that has just been made, over the clips of its plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from vcorr.contract.metric_columns import lower_is_better, ranking_columns
from vcorr.runner.plan import Plan
from vcorr.stats.series import Scores, gather
from vcorr.stats.summary import Findings
from vcorr.store.rundir import RunDirectory


@dataclass(frozen=True)
class RunFindings:
    """scores: of the clips of the plan. record: run.json. lower: the columns in which a lower value is better."""

    scores: Scores
    record: Mapping[str, Any]
    lower: Collection[str]
    found: Findings


def read_findings(plan: Plan, run: RunDirectory) -> RunFindings:
    """Returns the best sites of a run by its ranking columns, over the clips of the plan.

    Raises:
        StoreError: a shard cannot be read.
    """
    scores, record = gather(run.iter_shards("scores", plan.selection.clips)), run.record()
    lower = lower_is_better(record)
    probes = [probe.entry.name for probe in plan.parts.probes]
    return RunFindings(scores, record, lower, Findings.of(scores, ranking_columns(record), lower, probes))
