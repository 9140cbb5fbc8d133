"""The track stage: finds reference tracks for the video that a model read or generated. Needs no model."""

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
from vcorr.store.atomic_files import make_folder
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import TrackRow
from vcorr.store.shards import SUFFIX, read_shard, shard_name

QUERY_TOLERANCE = 1e-3
"""Pixels by which a track may miss its query, because a tracker that resizes the video rounds."""

VIDEOS = "videos"
"""Folder of a run that holds its generated videos, stored bit-exactly."""


def video_path_name(clip_id: str) -> str:
    """Returns the file name of a clip's generated video."""
    return shard_name(clip_id).removesuffix(SUFFIX) + VIDEO_SUFFIX


def keep_video(run: RunDirectory, clip: Clip) -> str:
    """Stores a generated video bit-exactly in the run, and returns its hash."""
    assert clip.video is not None
    folder = run.path / VIDEOS
    make_folder(folder)
    return write_lossless(folder / video_path_name(clip.id), clip.video, clip.fps)


def restore_clip(plan: Plan, run: RunDirectory, clip_id: str) -> Prepared:
    """Returns a clip of a finished prediction without running the model.

    It is the clip as the model read it; in generate mode it has the generated video.

    Raises:
        StoreError: the generated video is missing or damaged.
    """
    prepared = prepare_clip(plan, clip_id)
    if not plan.selection.mode.makes_video:
        return prepared
    video = read_lossless(run.path / VIDEOS / video_path_name(clip_id), _read_video_hash(run, clip_id))
    return replace(prepared, clip=replace(prepared.clip, video=video, tracks=None))


def _read_video_hash(run: RunDirectory, clip_id: str) -> str:
    """Returns the hash of the video that the clip's tracks belong to; "" if it has no tracks yet."""
    path = run.shard("tracks", clip_id)
    rows = read_shard(path, "tracks").to_pylist() if path.exists() else []
    return str(rows[0]["video"]) if rows else ""


def rows_of_tracks(
    plan: Plan, run: RunDirectory, clip: Clip, tracker: Tracker | None, data_hash: str
) -> list[TrackRow]:
    """Returns the row of a clip's tracks shard as a list; an empty list if the clip has no video or no tracks.

    tracker: finds the tracks; None for the clip's own tracks.

    Raises:
        PluginError: the tracker returned wrong tracks; see `track_clip`.
    """
    if clip.video is None:
        return []
    tracks = clip.tracks if tracker is None else track_clip(tracker, clip)
    if tracks is None:
        return []
    video = video_hash(clip.video) if plan.selection.mode.makes_video else ""
    return [track_row(run.run_id, plan, clip, tracks, video=video, data_hash=data_hash)]


def track_clip(tracker: Tracker, clip: Clip) -> Tracks:
    """Returns what a tracker finds for the queries of a clip that has a video.

    Raises:
        PluginError: the tracks have the wrong shape, or do not pass through their queries.
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
