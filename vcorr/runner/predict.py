"""The predict stage: one clip through the model, its probes' answers as rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.errors import PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import LEAST_ROUND_TRIP
from vcorr.contract.protocols import Probe
from vcorr.contract.records import NO_SITE, Clip, Prediction, Reconstruction, RowsPrediction, Tracks
from vcorr.data.query_grids import query_grid
from vcorr.runner.clip_fit import fit_clip, resize_video
from vcorr.runner.content_hash import hash_of_prompt, hash_of_video
from vcorr.runner.plan import Plan
from vcorr.store.columns import NAN
from vcorr.store.schema import CORRESPONDENCE, PredictionRow, TrackRow

POSITIONS, ROWS = "positions", "rows"
"""Kinds of predictions: where points went, and where attention rows put their weight."""

DEFAULT_QUERY_SIDE = 20
"""Query points along one side of the grid laid over a generated video, when its dataset says nothing (as DiffTrack)."""

ROW_FIELDS = ("peak_self", "peak_text", "sum_cross", "sum_self", "sum_text")

STATUS_OK = "ok"
STATUS_FAILED = "failed"
STATUS_NOT_SCORED = "not_scored"


@dataclass(frozen=True)
class Prepared:
    """A clip as the model will read it, how its first site lies over it, and the hash of its content before that."""

    clip: Clip
    grid: TokenGrid
    data_hash: str


@dataclass(frozen=True)
class Predicted:
    """What the model made of a clip.

    clip: as the model read it, its video the generated one in generate mode. reconstruction: in invert mode.
    """

    clip: Clip
    answers: list[Prediction | RowsPrediction]
    data_hash: str
    reconstruction: Reconstruction | None = None


def predict_clip(
    plan: Plan, probes: dict[str, Probe], prepared: Prepared, on_step: Callable[[], None] = lambda: None
) -> Predicted:
    """Runs the model on one clip. `on_step` is called as each step ends."""
    from vcorr.capture.recorder import Recorder

    clip, grid, asked = prepared.clip, prepared.grid, plan.selection
    recorder = Recorder(probes, clip.queries, layers=asked.layers, on_step=on_step, variants=asked.readings)
    video = plan.live.adapter.run(clip, asked.settings, recorder)
    answers = recorder.answers
    _check_complete(plan, answers)
    if asked.mode.makes_video:
        clip = _take_video(plan, clip, video, grid)
    return Predicted(clip, answers, prepared.data_hash, recorder.reconstruction)


def sample_clip(plan: Plan, clip_id: str, on_step: Callable[[], None] = lambda: None) -> tuple[Clip, TokenGrid]:
    """Generates a clip's video and reads nothing on the way; also returns how the model's tokens lie over it."""
    from vcorr.capture.recorder import Recorder

    prepared = prepare_clip(plan, clip_id)
    clip, grid = prepared.clip, prepared.grid
    recorder = Recorder({}, clip.queries, layers=frozenset(), on_step=on_step)
    return _take_video(plan, clip, plan.live.adapter.run(clip, plan.selection.settings, recorder), grid), grid


def _take_video(plan: Plan, clip: Clip, video: NDArray[np.uint8] | None, grid: TokenGrid) -> Clip:
    return replace(clip, video=_check_video(plan, video, grid), tracks=None)


def prepare_clip(plan: Plan, clip_id: str) -> Prepared:
    """The clip as the model will read it.

    In generate mode a dataset's videos give their first frame to models that continue an image, and nothing to others.
    """
    adapter, asked = plan.live.adapter, plan.selection
    needs_image = bool(with_defaults(adapter, VideoModelBase).needs_image)
    clip = asked.mode.input_of(plan.live.dataset.clip(clip_id), needs_image=needs_image)
    grid = adapter.grid(asked.mode.size_source(clip), asked.sites[0] if asked.sites else None)
    if not asked.mode.makes_video:
        return Prepared(fit_clip(clip, grid), grid, hash_of_video(clip))
    height, width = round(grid.height), round(grid.width)
    if clip.video is not None:
        clip = replace(clip, video=resize_video(clip.video, height, width))
    clip = clip.with_queries(query_grid(clip.query_side or DEFAULT_QUERY_SIDE, height, width))
    return Prepared(clip, grid, hash_of_prompt(clip, asked.settings, grid))


def _check_video(plan: Plan, video: NDArray[np.uint8] | None, grid: TokenGrid) -> NDArray[np.uint8]:
    expected = (grid.video_frames, round(grid.height), round(grid.width), 3)
    if video is None or video.shape != expected or video.dtype != np.uint8:
        got = "nothing" if video is None else f"{video.dtype} {video.shape}"
        raise PluginError(f"{plan.parts.model.entry.label} must return its video as uint8 {expected}, got {got}.")
    return video


def _check_complete(plan: Plan, predictions: Sequence[Prediction | RowsPrediction]) -> None:
    """Every chosen site at every chosen step must have answered: a row that is missing would be a silent gap.

    Raises:
        PluginError: one did not.
    """
    found = {(p.layer, p.step) for p in predictions}
    expected = {(site.layer, step) for site in plan.selection.sites for step in plan.selection.settings.steps}
    missing = sorted((expected or {(NO_SITE, NO_SITE)}) - found)
    if missing:
        layer, step = missing[0]
        at = "" if step == NO_SITE else f" at step {step}"
        where = f"layer {layer}{at}" if layer >= 0 else "the clip"
        raise PluginError(
            f"{plan.parts.model.entry.label} made no prediction for {where} ({len(missing)} missing in all).",
            hint="Its adapter must run every step of settings.steps inside recorder.step(), or call recorder.answer().",
        )


def prediction_rows(
    run: str,
    clip: Clip,
    answers: Sequence[Prediction | RowsPrediction],
    *,
    reconstruction: Reconstruction | None = None,
    task: str = CORRESPONDENCE,
) -> list[PredictionRow]:
    """The rows of a clip's predictions shard."""
    round_trip = NAN if reconstruction is None else reconstruction.sampler
    return [
        PredictionRow(
            run=run,
            clip=clip.id,
            probe=p.probe,
            attention=p.attention,
            layer=p.layer,
            layer_name=p.layer_name,
            step=p.step,
            noise=p.noise,
            head=p.head,
            variant=p.variant.base,
            switches=p.variant.switches,
            grid=json.dumps(p.grid.to_dict()),
            latents=p.grid.frames,
            query_frames=clip.queries.t,
            noise_frames=_flat(p.noise_frames),
            round_trip=round_trip,
            task=task,
            **_kind_columns(p),
        )
        for p in answers
    ]


def round_trip_note(clip_id: str, made: Reconstruction) -> str:
    """What a run says about the round trip of mode `invert`."""
    note = (
        f"Clip {clip_id}: the round trip gives back {made.sampler:.1f} dB of what the autoencoder makes of the video "
        f"({made.video:.1f} dB of the video itself, of which the autoencoder keeps {made.autoencoder:.1f} dB)."
    )
    if made.sampler >= LEAST_ROUND_TRIP:
        return note
    return f"{note} Under {LEAST_ROUND_TRIP:g} dB it is not scored: more steps help, --set num_steps=50."


def _kind_columns(answer: Prediction | RowsPrediction) -> dict[str, Any]:
    if isinstance(answer, RowsPrediction):
        return {"kind": ROWS, "points": len(answer.sum_self), "rows": pack_rows(answer)}
    return {
        "kind": POSITIONS,
        "readout": answer.readout,
        "points": len(answer.xy),
        "xy": _flat(np.asarray(answer.xy, dtype=np.float32)),
        "visible": _flat(answer.visible),
        "confidence": _flat(answer.confidence),
    }


def _flat(values: NDArray[Any] | None) -> Any:
    return () if values is None else np.ascontiguousarray(values).ravel()


def pack_rows(rows: RowsPrediction) -> NDArray[np.float32]:
    """Attention rows as the column `rows` holds them: (N, F - 1 + 5) row-major.

    A point has the F - 1 peaks over later latents, then peak_self, peak_text, sum_cross, sum_self, sum_text.
    """
    single = [getattr(rows, name) for name in ROW_FIELDS]
    return np.concatenate([rows.peak_cross, np.stack(single, axis=1)], axis=1).astype(np.float32).ravel()


def failure_row(run: str, clip_id: str, error: BaseException, *, task: str = CORRESPONDENCE) -> PredictionRow:
    """The one row of a clip that could not be predicted."""
    return PredictionRow(run=run, clip=clip_id, task=task, status=STATUS_FAILED, error=error_code(error))


def track_row(run: str, plan: Plan, clip: Clip, tracks: Tracks, *, video: str, data_hash: str) -> TrackRow:
    """The row of a clip's tracks shard.

    video: hash of the generated video the tracks belong to, "" for data's own. data_hash: `Prepared.data_hash`.
    """
    assert clip.video is not None
    frames, height, width = clip.video.shape[:3]
    return TrackRow(
        run=run,
        clip=clip.id,
        dataset=plan.parts.data.entry.name,
        split=plan.selection.split,
        prompt=clip.prompt,
        tracker=tracks.tracker,
        tracker_version=tracks.version,
        licence=tracks.licence or plan.parts.licence,
        video=video,
        data_hash=data_hash,
        height=height,
        width=width,
        frames=frames,
        input_class=clip.input_class,
        points=len(clip.queries),
        query_mode=clip.query_mode,
        query_frames=clip.queries.t,
        queries=clip.queries.xy.ravel(),
        xy=tracks.xy.ravel(),
        visible=tracks.visible.ravel(),
        confidence=_flat(tracks.confidence),
        boundary=() if tracks.boundary is None else tracks.boundary,
    )


def error_code(error: BaseException) -> str:
    """What goes into an error column: the kind and the first line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
