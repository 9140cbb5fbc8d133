"""The predict stage: runs the model on a clip, and makes table rows of the predictions of its probes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vcorr.capture.needs import reads_latents
from vcorr.contract.errors import PluginError, UsageError, VcorrError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import LEAST_ROUND_TRIP
from vcorr.contract.part_calls import PartFailureError, describe
from vcorr.contract.protocols import Probe
from vcorr.contract.records import NO_SITE, Clip, Prediction, Reconstruction, RowsPrediction, Tracks
from vcorr.contract.tasks import CORRESPONDENCE, PROPAGATION
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.data.fitting_notes import fit_notes
from vcorr.data.query_grids import query_grid
from vcorr.data.video_sizes import resize_video
from vcorr.metrics.stillness import stillness
from vcorr.runner.clip_fit import fit_clip
from vcorr.runner.content_hash import hash_of_prompt, hash_of_video
from vcorr.runner.plan import Plan
from vcorr.runner.preflight import usual_frames
from vcorr.runner.row_words import MASKS, POSITIONS, ROW_FIELDS, ROWS, STATUS_FAILED
from vcorr.runner.stored_masks import StoredMasks
from vcorr.store.columns import NAN
from vcorr.store.schema import PredictionRow, TrackRow
from vcorr.tracking.followed_site import SiteFacts

DEFAULT_QUERY_SIDE = 20
"""Query points along one side of the grid on a generated video, if its dataset names no number (as in DiffTrack)."""


@dataclass(frozen=True)
class MasksPrediction:
    """Says where masks that were carried through a clip come from. The masks are in a file of the run.

    grid: the clip in the tokens that take labels.
    """

    facts: SiteFacts
    grid: TokenGrid


AnyPrediction: TypeAlias = Prediction | RowsPrediction | MasksPrediction


@dataclass(frozen=True)
class ClipFacts:
    """Facts about a clip that do not depend on the size at which a model reads it.

    data_hash: the hash of its content. still: its zero-motion pck_8, NaN where it has none (`stillness`). video: the
    hash of its video, if another run generated it.
    """

    data_hash: str
    still: float = NAN
    video: str = ""


@dataclass(frozen=True)
class Prepared:
    """A clip as the model will read it.

    grid: the tokens of the first site. facts: about the clip as the dataset gives it. fitted: sentences on how it was
    brought to this size. masks: (T, H, W) labels, in propagation.
    """

    clip: Clip
    grid: TokenGrid
    facts: ClipFacts
    fitted: tuple[str, ...] = ()
    masks: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Predicted:
    """The predictions for a clip.

    clip: as the model read it; in generate mode with the generated video. grid: of the first site.
    reconstruction: None in all modes but invert. seconds: that the model took, until the predictions were on the CPU.
    masks: that were carried, in propagation.
    """

    clip: Clip
    predictions: Sequence[AnyPrediction]
    facts: ClipFacts
    grid: TokenGrid
    reconstruction: Reconstruction | None = None
    seconds: float = NAN
    masks: StoredMasks | None = None


def predict_clip(
    plan: Plan, probes: dict[str, Probe], prepared: Prepared, on_step: Callable[[], None] = lambda: None
) -> Predicted:
    """Runs the model on one clip and returns the predictions. on_step: called at the end of each step.

    Raises:
        PluginError: a prediction is missing, or the model returned no video of the right shape.
    """
    from vcorr.capture.recorder import Recorder

    clip, grid, asked = prepared.clip, prepared.grid, plan.selection
    names = {probe.entry.name: probe.name for probe in plan.parts.probes}
    read = probes if plan.task.asks_probes else {}  # a `TrackerModel` asks its probe by itself
    recorder = Recorder(read, clip.queries, layers=asked.layers, on_step=on_step, variants=asked.readings, names=names)
    began = time.monotonic()
    video = plan.live.adapter.run(clip, plan.settings_for(clip.id), recorder)
    predictions = recorder.answers
    seconds = time.monotonic() - began
    with plan.parts.model.name.calling("run()"):
        if plan.task.asks_probes:
            _check_complete(plan, _places_to_predict(plan, probes), predictions)
        if asked.mode.makes_video:
            clip = _take_video(plan, clip, video, grid)
    return Predicted(clip, predictions, prepared.facts, grid, recorder.reconstruction, seconds)


def sample_clip(plan: Plan, clip_id: str, on_step: Callable[[], None] = lambda: None) -> tuple[Clip, TokenGrid]:
    """Generates the video of a clip without reading any attention. Returns the clip and the model's grid."""
    from vcorr.capture.recorder import Recorder

    prepared = prepare_clip(plan, clip_id)
    clip, grid = prepared.clip, prepared.grid
    recorder = Recorder({}, clip.queries, layers=frozenset(), on_step=on_step)
    video = plan.live.adapter.run(clip, plan.settings_for(clip.id), recorder)
    with plan.parts.model.name.calling("run()"):
        return _take_video(plan, clip, video, grid), grid


def _take_video(plan: Plan, clip: Clip, video: NDArray[np.uint8] | None, grid: TokenGrid) -> Clip:
    return clip.with_video(_check_video(plan, video, grid))


def prepare_clip(plan: Plan, clip_id: str) -> Prepared:
    """Returns the clip as the model will read it.

    In generate mode, models that continue an image get the first frame of the dataset's video. Others get no video.
    """
    clip, fitted, grid = fit_to_model(plan, plan.live.dataset.clip(clip_id))
    if plan.selection.mode.makes_video:
        return Prepared(fitted, grid, ClipFacts(hash_of_prompt(fitted, plan.selection.settings, grid)))
    notes = fit_notes(clip, grid, usual_frames(plan.live.adapter, plan.selection.sites, clip))
    made = None if plan.origin is None else plan.origin.clips[clip_id]
    masks = plan.task.read_masks(plan.live.dataset, clip)
    facts = (
        ClipFacts(hash_of_video(clip, masks), stillness(clip, grid.video_frames))
        if made is None
        else ClipFacts(made.data_hash, made.still, made.video)
    )
    return Prepared(fitted, grid, facts, notes, masks)


def fit_to_model(plan: Plan, given: Clip) -> tuple[Clip, Clip, TokenGrid]:
    """Returns a clip of the data as the mode takes it, the same clip as the model reads it, and the model's grid.

    Only sizes and query points of the result depend on the plan, and no value of a pixel changes them.
    """
    adapter, asked = plan.live.adapter, plan.selection
    clip = asked.mode.input_of(given, needs_image=adapter.needs_image)
    grid = adapter.grid(asked.mode.size_source(clip), asked.sites[0] if asked.sites else None)
    if not asked.mode.makes_video:
        with plan.parts.data.name.calling("clip()"):
            _check_queries(clip)
            return clip, fit_clip(clip, grid), grid
    height, width = round(grid.height), round(grid.width)
    fitted = clip if clip.video is None else clip.with_video(resize_video(clip.video, height, width))
    return clip, fitted.with_queries(query_grid(clip.query_side or DEFAULT_QUERY_SIDE, height, width)), grid


def _check_queries(clip: Clip) -> None:
    if not len(clip.queries):
        raise UsageError(f"Clip {clip.id} has no query points.")


def _check_video(plan: Plan, video: Any, grid: TokenGrid) -> NDArray[np.uint8]:
    expected = (grid.video_frames, round(grid.height), round(grid.width), 3)
    is_array = isinstance(video, np.ndarray)
    if not is_array or video.shape != expected or video.dtype != np.uint8:
        got = f"{video.dtype} {video.shape}" if is_array else type(video).__name__
        raise PluginError(f"{plan.parts.model.entry.label} must return its video as uint8 {expected}, got {got}.")
    checked: NDArray[np.uint8] = video
    return checked


def _places_to_predict(plan: Plan, probes: Mapping[str, Probe]) -> set[tuple[int, int]]:
    """Returns layer and step of every prediction that the run asks for.

    Probes of latents predict once per step, without a layer. A model without sites predicts once per clip.
    """
    asked = plan.selection
    if not asked.sites:
        return {(NO_SITE, NO_SITE)}
    of_latents = [reads_latents(frozenset(probe.needs)) for probe in probes.values()]
    layers = [site.layer for site in asked.sites] * (not all(of_latents)) + [NO_SITE] * any(of_latents)
    return {(layer, step) for layer in layers for step in asked.settings.steps}


def _check_complete(
    plan: Plan, expected: set[tuple[int, int]], predictions: Sequence[Prediction | RowsPrediction]
) -> None:
    """Checks that there is a prediction for every expected place, so that no row is missing unseen.

    expected: layer and step of each.

    Raises:
        PluginError: there is none for some of them, or there are some for a step that was not chosen.
    """
    found = {(p.layer, p.step) for p in predictions}
    if plan.selection.sites and (others := sorted(found - expected)):
        raise PluginError(
            f"{plan.parts.model.entry.label} made predictions for layer {others[0][0]} at step {others[0][1]}, which "
            f"the run did not choose ({len(others)} in all)."
        )
    missing = sorted(expected - found)
    if missing:
        layer, step = missing[0]
        at = "" if step == NO_SITE else f" at step {step}"
        where = f"layer {layer}{at}" if layer >= 0 else f"the clip{at}"
        raise PluginError(
            f"{plan.parts.model.entry.label} made no prediction for {where} ({len(missing)} missing in all).",
            hint="Its adapter must run every step of settings.steps inside recorder.step(), or call recorder.answer().",
        )


def prediction_rows(
    run: str,
    clip: Clip,
    predictions: Sequence[AnyPrediction],
    *,
    reconstruction: Reconstruction | None = None,
    task: str = CORRESPONDENCE,
) -> list[PredictionRow]:
    """Returns the rows of a clip's predictions shard, one per prediction."""
    round_trip = NAN if reconstruction is None else reconstruction.sampler
    return [
        _masks_row(run, clip, one)
        if isinstance(one, MasksPrediction)
        else _points_row(run, clip, one, round_trip=round_trip, task=task)
        for one in predictions
    ]


def _points_row(
    run: str, clip: Clip, prediction: Prediction | RowsPrediction, *, round_trip: float, task: str
) -> PredictionRow:
    return PredictionRow(
        run=run,
        clip=clip.id,
        probe=prediction.probe,
        attention=prediction.attention,
        layer=prediction.layer,
        layer_name=prediction.layer_name,
        step=prediction.step,
        noise=prediction.noise,
        head=prediction.head,
        variant=prediction.variant.base,
        switches=prediction.variant.switches,
        grid=json.dumps(prediction.grid.to_dict()),
        latents=prediction.grid.frames,
        query_frames=clip.queries.t,
        noise_frames=_flat(prediction.noise_frames),
        round_trip=round_trip,
        task=task,
        **_kind_columns(prediction),
    )


def _masks_row(run: str, clip: Clip, prediction: MasksPrediction) -> PredictionRow:
    facts, grid = prediction.facts, prediction.grid
    return PredictionRow(
        run=run,
        clip=clip.id,
        **vars(facts),
        kind=MASKS,
        variant=DEFAULT_VARIANT.base,
        readout="free",
        grid=json.dumps(grid.to_dict()),
        latents=grid.frames,
        task=PROPAGATION,
    )


def round_trip_note(clip_id: str, made: Reconstruction) -> str:
    """Returns the note of a run about the round trip of mode `invert`."""
    note = (
        f"Clip {clip_id}: the round trip reaches {made.sampler:.1f} dB, compared with the autoencoder's output. "
        f"Compared with the video itself, it reaches {made.video:.1f} dB; the autoencoder alone reaches "
        f"{made.autoencoder:.1f} dB."
    )
    if made.sampler >= LEAST_ROUND_TRIP:
        return note
    return f"{note} Under {LEAST_ROUND_TRIP:g} dB it is not scored: more steps help, --set num_steps=50."


def _kind_columns(prediction: Prediction | RowsPrediction) -> dict[str, Any]:
    if isinstance(prediction, RowsPrediction):
        return {"kind": ROWS, "points": len(prediction.sum_self), "rows": pack_rows(prediction)}
    return {
        "kind": POSITIONS,
        "readout": prediction.readout,
        "points": len(prediction.xy),
        "xy": _flat(np.asarray(prediction.xy, dtype=np.float32)),
        "visible": _flat(prediction.visible),
        "confidence": _flat(prediction.confidence),
    }


def _flat(values: NDArray[Any] | None) -> Any:
    return () if values is None else np.ascontiguousarray(values).ravel()


def pack_rows(rows: RowsPrediction) -> NDArray[np.float32]:
    """Returns an attention summary as the column `rows` holds it: (N, F - 1 + 5) float32, flat, point by point.

    The values of a point are the F - 1 peaks in later latents, then peak_self, peak_text, sum_cross, sum_self and
    sum_text. If the probe gives traits, they follow, (N, F - 1 + 5 + K).
    """
    single = np.stack([getattr(rows, name) for name in ROW_FIELDS], axis=1)
    traits = () if rows.traits is None else (rows.traits,)
    return np.concatenate([rows.peak_cross, single, *traits], axis=1).astype(np.float32).ravel()


def failure_row(run: str, clip_id: str, error: BaseException, *, task: str = CORRESPONDENCE) -> PredictionRow:
    """Returns the only row of a clip that could not be predicted."""
    return PredictionRow(run=run, clip=clip_id, task=task, status=STATUS_FAILED, error=error_code(error))


def track_row(run: str, plan: Plan, clip: Clip, tracks: Tracks, *, video: str, facts: ClipFacts) -> TrackRow:
    """Returns the row of a clip's tracks shard.

    video: hash of the generated video that the tracks belong to; "" for a video of the dataset.
    """
    assert clip.video is not None
    frames, height, width = clip.video.shape[:3]
    return TrackRow(
        run=run,
        clip=clip.id,
        dataset=plan.dataset,
        split=plan.split,
        prompt=clip.prompt,
        tracker=tracks.tracker,
        tracker_version=tracks.version,
        licence=tracks.licence or plan.parts.licence,
        video=video,
        data_hash=facts.data_hash,
        still=facts.still,
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
        boundary=_flat(tracks.boundary),
        point_layers=_flat(tracks.layer),
        task=plan.spec.task,
    )


def without_points(clip: Clip, tracker: str) -> tuple[Clip, Tracks]:
    """Returns a clip without queries, and its tracks, of no point; the reference of masks is in a file of the run."""
    assert clip.video is not None  # the caller has asked
    shape = (0, len(clip.video))
    tracks = Tracks(np.zeros((*shape, 2), np.float32), np.zeros(shape, np.bool_), tracker)
    return clip.with_queries(np.zeros((0, 2), np.float32)), tracks


def error_code(error: BaseException) -> str:
    """Returns the text of the column `error`: type and first line of the error, and the part that raised it.

    Parts of vcorr's own distribution are left out, because their messages are vcorr's own.
    """
    if isinstance(error, PartFailureError):
        return f"{error.cause} ({error.raised_by}, in {error.step})"
    raised_by = error.raised_by if isinstance(error, VcorrError) else ""
    said = describe(error)
    return said if not raised_by or " of vcorr " in raised_by or raised_by in said else f"{said} ({raised_by})"
