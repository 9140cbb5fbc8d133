"""The predict stage: one clip through the model, its probes' answers as rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vcorr.errors import PluginError
from vcorr.protocols import Probe
from vcorr.records import NO_SITE, Clip, Prediction
from vcorr.stages.fit import fit_clip
from vcorr.stages.plan import Plan

Row = dict[str, Any]

STATUS_OK = "ok"
STATUS_FAILED = "failed"
STATUS_NOT_SCORED = "not_scored"


def predict_clip(
    plan: Plan, probes: dict[str, Probe], clip_id: str, on_step: Callable[[], None] = lambda: None
) -> tuple[Clip, list[Prediction]]:
    """Runs the model on one clip. `on_step` is called as each step ends.

    Returns:
        The clip at the size the model read it, and the predictions in the order they were made.
    """
    from vcorr.capture.recorder import Recorder

    clip = plan.dataset.clip(clip_id)
    first_site = plan.sites[0] if plan.sites else None
    clip = fit_clip(clip, plan.adapter.grid(clip, first_site))
    recorder = Recorder(probes, clip.queries, layers=plan.layers, on_step=on_step)
    plan.adapter.run(clip, plan.settings, recorder)
    predictions = recorder.predictions
    _check_complete(plan, predictions)
    return clip, predictions


def _check_complete(plan: Plan, predictions: Sequence[Prediction]) -> None:
    """Every chosen site at every chosen step must have answered: a row that is missing would be a silent gap.

    Raises:
        PluginError: one did not.
    """
    found = {(p.layer, p.step) for p in predictions}
    expected = {(site.layer, step) for site in plan.sites for step in plan.settings.steps}
    missing = sorted((expected or {(NO_SITE, NO_SITE)}) - found)
    if missing:
        layer, step = missing[0]
        where = f"layer {layer} at step {step}" if layer >= 0 else "the clip"
        raise PluginError(
            f"{plan.model.entry.label} made no prediction for {where} ({len(missing)} missing in all).",
            hint="Its adapter must run every step of settings.steps inside recorder.step(), or call recorder.answer().",
        )


def prediction_rows(run: str, clip_id: str, predictions: Sequence[Prediction]) -> list[Row]:
    """The rows of a clip's predictions shard."""
    return [
        {
            "run": run,
            "clip": clip_id,
            "probe": p.probe,
            "attention": p.attention,
            "layer": p.layer,
            "layer_name": p.layer_name,
            "step": p.step,
            "noise": p.noise,
            "head": p.head,
            "readout": p.readout,
            "grid": json.dumps(p.grid.to_dict()),
            "points": p.xy.shape[0],
            "latents": p.xy.shape[1],
            "xy": np.ascontiguousarray(p.xy, dtype=np.float32).ravel(),
            "status": STATUS_OK,
            "error": "",
        }
        for p in predictions
    ]


def failure_row(run: str, clip_id: str, error: BaseException) -> Row:
    """The one row of a clip that could not be predicted."""
    empty = np.zeros(0, dtype=np.float32)
    return {
        "run": run,
        "clip": clip_id,
        "probe": "",
        "attention": "",
        "layer": NO_SITE,
        "layer_name": "",
        "step": NO_SITE,
        "noise": float("nan"),
        "head": NO_SITE,
        "readout": "",
        "grid": "",
        "points": 0,
        "latents": 0,
        "xy": empty,
        "status": STATUS_FAILED,
        "error": error_code(error),
    }


def track_rows(run: str, plan: Plan, clip: Clip) -> list[Row]:
    """The row of a clip's tracks shard; a clip without tracks has none."""
    if clip.tracks is None or clip.video is None:
        return []
    frames, height, width = clip.video.shape[:3]
    return [
        {
            "run": run,
            "clip": clip.id,
            "dataset": plan.data.entry.name,
            "split": plan.dataset.split,
            "prompt": clip.prompt,
            "tracker": clip.tracks.tracker,
            "tracker_version": clip.tracks.version,
            "height": height,
            "width": width,
            "frames": frames,
            "points": len(clip.queries),
            "queries": clip.queries.ravel(),
            "xy": clip.tracks.xy.ravel(),
            "visible": clip.tracks.visible.ravel(),
        }
    ]


def error_code(error: BaseException) -> str:
    """What goes into an error column: the kind and the first line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
