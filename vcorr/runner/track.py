"""The track stage: reference tracks for the video a model read or made. Needs no model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vcorr.contract.errors import PluginError
from vcorr.contract.protocols import Tracker
from vcorr.contract.records import Clip, Tracks
from vcorr.data.video.lossless import SUFFIX as VIDEO_SUFFIX
from vcorr.data.video.lossless import read_lossless, video_hash, write_lossless
from vcorr.runner.plan import Plan
from vcorr.runner.predict import Prepared, prepare_clip, track_row
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import TrackRow
from vcorr.store.shards import SUFFIX, read_shard, shard_name

QUERY_TOLERANCE = 1e-3
"""Pixels by which a track may miss its query: rounding of a tracker that scales the video."""

VIDEOS = "videos"
"""Folder of a run that holds generated videos, bit-exactly."""


def video_path_name(clip_id: str) -> str:
    """File name of a clip's generated video."""
    return shard_name(clip_id).removesuffix(SUFFIX) + VIDEO_SUFFIX


def keep_video(run: RunDirectory, clip: Clip) -> str:
    """Stores a generated video bit-exactly in the run; returns its hash."""
    assert clip.video is not None
    folder = run.path / VIDEOS
    folder.mkdir(exist_ok=True)
    return write_lossless(folder / video_path_name(clip.id), clip.video, clip.fps)


def restore_clip(plan: Plan, run: RunDirectory, clip_id: str) -> Prepared:
    """A clip as the model read it, or with the video that it generated, without running it again.

    Raises:
        StoreError: the generated video is missing or damaged.
    """
    prepared = prepare_clip(plan, clip_id)
    if not plan.selection.mode.makes_video:
        return prepared
    video = read_lossless(run.path / VIDEOS / video_path_name(clip_id), _read_video_hash(run, clip_id))
    return replace(prepared, clip=replace(prepared.clip, video=video, tracks=None))


def _read_video_hash(run: RunDirectory, clip_id: str) -> str:
    """The hash of the video that a clip's tracks belong to; "" when they were never made."""
    path = run.shard("tracks", clip_id)
    rows = read_shard(path, "tracks").to_pylist() if path.exists() else []
    return str(rows[0]["video"]) if rows else ""


def rows_of_tracks(
    plan: Plan, run: RunDirectory, clip: Clip, tracker: Tracker | None, data_hash: str
) -> list[TrackRow]:
    """The rows of a clip's tracks shard: its own tracks, or those that `tracker` finds; none when there are neither.

    Raises:
        PluginError: the tracker returned tracks of another shape.
    """
    if clip.video is None:
        return []
    tracks = clip.tracks if tracker is None else track_clip(tracker, clip)
    if tracks is None:
        return []
    video = video_hash(clip.video) if plan.selection.mode.makes_video else ""
    return [track_row(run.run_id, plan, clip, tracks, video=video, data_hash=data_hash)]


def track_clip(tracker: Tracker, clip: Clip) -> Tracks:
    """What a tracker says about the queries of a clip with video.

    Raises:
        PluginError: it returned tracks of another shape, or tracks that do not pass through their queries.
    """
    assert clip.video is not None
    tracks = tracker.track(clip.video, clip.queries)
    expected = (len(clip.queries), len(clip.video), 2)
    if tracks.xy.shape != expected:
        raise PluginError(f"Tracker {tracks.tracker!r} must return tracks of shape {expected}, got {tracks.xy.shape}.")
    off = np.abs(tracks.xy[np.arange(len(clip.queries)), clip.queries.t] - clip.queries.xy).max(axis=1)
    if (off > QUERY_TOLERANCE).any():
        n = int(np.nanargmax(off))
        raise PluginError(
            f"Tracker {tracks.tracker!r} must return the query itself in the frame of the query; its track {n} is "
            f"{off[n]:.3g} pixels away from it in frame {clip.queries.t[n]}.",
            hint="vcorr.track_both_ways completes a tracker that starts in the first frame it gets.",
        )
    return tracks
