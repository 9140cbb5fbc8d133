"""Draws queries, predicted tracks and reference tracks of a run over its videos, as one mp4 per clip.

A video of the dataset is drawn upon as the dataset gives it, at its own size. A generated video has the model's size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, Queries, Tracks
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.data.video.error_colours import ErrorScale
from vcorr.data.video.track_drawing import Drawing, write_overlay
from vcorr.metrics.timemap import to_frames
from vcorr.runner.plan import Plan
from vcorr.runner.row_words import POSITIONS, STATUS_OK
from vcorr.runner.scored_variants import serves
from vcorr.runner.track import VIDEOS, restore_clip
from vcorr.runner.unpacking import Stored, unpack_positions, unpack_queries, unpack_tracks, variant_of
from vcorr.stats.summary import Findings, SiteSummary
from vcorr.store.arrow_rows import rows_of
from vcorr.store.atomic_files import make_folder
from vcorr.store.rundir import RunDirectory
from vcorr.store.shards import SUFFIX, read_shard, shard_name


def draw_best(plan: Plan, run: RunDirectory, found: Findings, lower: Collection[str]) -> list[Path]:
    """Draws the tracks of the best site over every clip and returns the files.

    The site is the one with the best value of the first ranked column, under the run's first variant. The list is empty
    when nothing was scored. lower: the columns in which a lower value is better.

    Raises:
        StoreError: as `draw_overlays`.
    """
    first = [b.summary for b in found.best if b.summary.metric == found.metrics[0]]
    scored = [s for s in first if not math.isnan(s.value)]
    drawable = [s for s in scored if s.variant_text == plan.selection.variants[0].text]
    if not drawable:
        return []
    return draw_overlays(plan, run, max(drawable, key=lambda s: -s.value if s.metric in lower else s.value))


def draw_overlays(plan: Plan, run: RunDirectory, best: SiteSummary) -> list[Path]:
    """Writes `videos/<clip>-<probe>.mp4` for every clip with tracks and predictions, for the site `best`.

    Raises:
        StoreError: a shard or a video is damaged, the files cannot be written, or another process is writing the run.
    """
    with run.write_lock():
        make_folder(run.path / VIDEOS)
        drawn = [_draw(plan, run, best, clip_id) for clip_id in plan.selection.clips]
    return [path for path in drawn if path is not None]


def _draw(plan: Plan, run: RunDirectory, best: SiteSummary, clip_id: str) -> Path | None:
    tracks = rows_of(read_shard(run.shard("tracks", clip_id), "tracks"))
    stored = _find_prediction(run, best, clip_id)
    if not tracks or stored is None:
        return None
    reference, queries = unpack_tracks(tracks[0]), unpack_queries(tracks[0])
    grid = TokenGrid.from_dict(json.loads(stored["grid"]))
    clip = _load_clip(plan, run, clip_id)
    assert clip.video is not None
    path = run.path / VIDEOS / f"{shard_name(clip_id).removesuffix(SUFFIX)}-{best.probe}.mp4"
    drawing = Drawing(
        queries=queries,
        predicted=_track_in_frames(stored, grid, queries, best.variant_text),
        reference=reference,
        size=(round(grid.width), round(grid.height)),
        scale=ErrorScale.in_strides(grid.stride),
        title=_title(best),
    )
    # the model read the first frames of the clip, as many as there are tracks for
    write_overlay(path, clip.video[: reference.xy.shape[1]], drawing, fps=clip.playback_fps)
    return path


def _load_clip(plan: Plan, run: RunDirectory, clip_id: str) -> Clip:
    """Returns the clip with the video to draw on: as the dataset gives it, or as the model generated it."""
    if plan.selection.mode.makes_video:
        return restore_clip(plan, run, clip_id).clip
    return plan.live.dataset.clip(clip_id)


def _title(best: SiteSummary) -> tuple[str, ...]:
    """Returns what is shown, in words: the model, the probe and the site with all its indices."""
    site: list[str] = []
    if best.layer >= 0:
        site += [f"layer {best.layer}", "mean over heads" if best.head < 0 else f"head {best.head}"]
    if best.step >= 0:
        site.append(f"step {best.step}" + ("" if math.isnan(best.noise) else f" (noise level {best.noise:.2f})"))
    variant = [] if best.variant_text == DEFAULT_VARIANT.text else [f"variant {best.variant_text}"]
    return (f"model {best.model}", f"probe {best.probe}", *site, *variant)


def _find_prediction(run: RunDirectory, best: SiteSummary, clip_id: str) -> Stored | None:
    table = read_shard(run.shard("predictions", clip_id), "predictions")
    wanted = {"status": STATUS_OK, "kind": POSITIONS, "probe": best.probe, "layer": best.layer, "step": best.step}
    for column, value in {**wanted, "head": best.head}.items():
        table = table.filter(pc.equal(table[column], value))
    variant = NamedVariant.parse(best.variant_text)
    return next((row for row in rows_of(table) if serves(row["kind"], row["layer"], variant_of(row), variant)), None)


def _track_in_frames(stored: Stored, grid: TokenGrid, queries: Queries, variant: str) -> Tracks:
    """Returns the predicted tracks in every frame, visible where the probe says so."""
    prediction = unpack_positions(stored, grid)
    xy = to_frames(prediction.xy, grid, queries.xy, query_frame=queries.t, variant=variant)
    visible = np.ones(xy.shape[:2], dtype=bool)
    if prediction.visible is not None:
        nearest = np.abs(grid.latent_times[None] - np.arange(xy.shape[1])[:, None]).argmin(axis=1)
        visible = prediction.visible[:, nearest]
    return Tracks(xy, visible, stored["probe"])
