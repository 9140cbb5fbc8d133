"""Collects what `run.json` says about each stage of a run.

The shards of the stage say the same, so a `run.json` that was lost can be written again (docs/results-format.md).
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from vcorr.contract.metric_columns import ASKED_KEY, COLUMNS_KEY
from vcorr.contract.variants import NamedVariant
from vcorr.data.video_names import show_name
from vcorr.runner.identity import SCORING_VERSION
from vcorr.runner.metric_trial import check_columns
from vcorr.runner.parts import Part
from vcorr.runner.plan import Plan
from vcorr.store.fingerprint import plain


def predict_facts(plan: Plan) -> dict[str, Any]:
    """Returns what is behind the predictions. `selected` is the number of clips of the plan."""
    facts = {
        "spec": plain(plan.spec),
        "resolved": _resolve(plan),
        "row_context": common_columns(plan),
        "fitted": plan.selection.fitted,
        "card": plain(plan.live.card),
        "plugins": plan.parts.plugins(),
        "versions": {
            "vcorr": metadata.version("vcorr"),
            "python": platform.python_version(),
            **plan.identity.versions,
        },
        "device": {
            "name": plan.hardware.name,
            "dtype": plan.hardware.dtype,
            "machine": platform.machine(),
            "os": sys.platform,
        },
        "selected": len(plan.selection.clips),
    }
    if plan.origin is not None:
        facts["videos_of"] = plain(plan.origin.to_dict())
    return storable(facts)


def _resolve(plan: Plan) -> dict[str, Any]:
    """Returns what can change a prediction, with the options of the data that fingerprints leave out."""
    found, left_out = plan.predict_identity(), plan.parts.data.find_left_out()
    if left_out:
        found["data"] = {**found["data"], "config": {**found["data"]["config"], **left_out}}
    return found


def track_facts(plan: Plan) -> dict[str, Any]:
    """Returns what is behind the tracks: the tracker, None for the data's own tracks, and what the reference is."""
    parts = plan.parts
    tracker = {**(plan.tracker_identity() or {}), "licence": parts.licence} if parts.tracker else None
    return {"reference": plan.reference.to_dict(), "tracker": tracker}


def score_facts(metrics: Sequence[Part], variants: Sequence[NamedVariant], asked: Sequence[str]) -> dict[str, Any]:
    """Returns what is behind the scores, and what tables need to know. asked: the metrics that the user named."""
    return {
        "metrics": [metric.identity() for metric in metrics],
        COLUMNS_KEY: [one.to_dict() for one in check_columns(metrics)],
        ASKED_KEY: list(asked),
        "scoring": SCORING_VERSION,
        "variants": [variant.text for variant in variants],
    }


def common_columns(plan: Plan) -> dict[str, Any]:
    """Returns the columns that all score rows of a run share, except `run`."""
    settings = plan.selection.settings
    return {
        "model": plan.parts.model.entry.name,
        "weights": plan.identity.weights,
        "dataset": plan.dataset,
        "split": plan.split,
        "mode": plan.measured_mode,
        "seed": settings.seed,
        "task": plan.spec.task,
        "cfg": settings.cfg if plan.selection.mode.makes_video else None,
        **({} if plan.selection.guided is None else plan.selection.guided.columns()),
    }


def storable(facts: dict[str, Any]) -> dict[str, Any]:
    """Returns plain values with every text as it can be stored: the names of files may hold other bytes than UTF-8."""
    return {key: _to_text(value) for key, value in facts.items()}


def _to_text(value: Any) -> Any:
    if isinstance(value, str):
        return show_name(value)
    if isinstance(value, list):
        return [_to_text(item) for item in value]
    return storable(value) if isinstance(value, dict) else value
