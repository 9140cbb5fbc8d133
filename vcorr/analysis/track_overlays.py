"""Draws queries, predicted tracks and reference tracks of a run over its videos, as one mp4 per clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Queries, Tracks
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.data.video.track_drawing import write_overlay
from vcorr.metrics.timemap import to_frames
from vcorr.runner.plan import Plan
from vcorr.runner.predict import POSITIONS, STATUS_OK
from vcorr.runner.scored_variants import serves
from vcorr.runner.track import VIDEOS, restore_clip
from vcorr.runner.unpacking import Stored, unpack_positions, unpack_tracks, variant_of
from vcorr.stats.summary import SiteSummary
from vcorr.store.arrow_rows import rows_of
from vcorr.store.atomic_files import make_folder
from vcorr.store.rundir import RunDirectory
from vcorr.store.shards import SUFFIX, read_shard, shard_name


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
    clip = restore_clip(plan, run, clip_id).clip
    assert clip.video is not None
    path = run.path / VIDEOS / f"{shard_name(clip_id).removesuffix(SUFFIX)}-{best.probe}.mp4"
    where = f"layer {best.layer}, step {best.step}" if best.layer >= 0 else best.probe
    variant = "" if best.variant_text == DEFAULT_VARIANT.text else f", {best.variant_text}"
    write_overlay(
        path,
        clip.video,
        fps=clip.fps,
        queries=clip.queries,
        predicted=_track_in_frames(stored, clip.queries, best.variant_text),
        reference=unpack_tracks(tracks[0]),
        title=f"{best.model} {best.probe}: {where}{variant}",
    )
    return path


def _find_prediction(run: RunDirectory, best: SiteSummary, clip_id: str) -> Stored | None:
    table = read_shard(run.shard("predictions", clip_id), "predictions")
    wanted = {"status": STATUS_OK, "kind": POSITIONS, "probe": best.probe, "layer": best.layer, "step": best.step}
    for column, value in {**wanted, "head": best.head}.items():
        table = table.filter(pc.equal(table[column], value))
    variant = NamedVariant.parse(best.variant_text)
    return next((row for row in rows_of(table) if serves(row["kind"], row["layer"], variant_of(row), variant)), None)


def _track_in_frames(stored: Stored, queries: Queries, variant: str) -> Tracks:
    """Returns the predicted tracks in every frame, visible where the probe says so."""
    grid = TokenGrid.from_dict(json.loads(stored["grid"]))
    prediction = unpack_positions(stored, grid)
    xy = to_frames(prediction.xy, grid, queries.xy, query_frame=queries.t, variant=variant)
    visible = np.ones(xy.shape[:2], dtype=bool)
    if prediction.visible is not None:
        nearest = np.abs(grid.latent_times[None] - np.arange(xy.shape[1])[:, None]).argmin(axis=1)
        visible = prediction.visible[:, nearest]
    return Tracks(xy, visible, stored["probe"])
