"""The track stage: finds reference tracks for the video that a model read or generated. Needs no model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import StoreError
from vcorr.contract.records import Clip, Queries
from vcorr.data.video.lossless import SUFFIX as VIDEO_SUFFIX
from vcorr.data.video.lossless import read_lossless, video_hash, write_lossless
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.generation import track_video
from vcorr.runner.kept_files import DamagedFileError
from vcorr.runner.plan import Plan
from vcorr.runner.predict import ClipFacts, Prepared, prepare_clip, track_row, without_points
from vcorr.store.atomic_files import make_folder, set_aside
from vcorr.store.fingerprint import hash_file
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import TrackRow
from vcorr.store.shards import SUFFIX, DamagedShardError, read_shard, read_stamp, shard_name

VIDEOS = "videos"
"""Folder of a run that holds its generated videos, stored bit-exactly."""


def video_path_name(clip_id: str) -> str:
    """Returns the file name of a clip's generated video."""
    return shard_name(clip_id).removesuffix(SUFFIX) + VIDEO_SUFFIX


class DamagedVideoError(DamagedFileError):
    """A generated video that is missing, or is not the one that was made. The model makes it again."""


def keep_video(run: RunDirectory, clip: Clip) -> dict[str, str]:
    """Stores a generated video bit-exactly in the run.

    Returns:
        Its `video_hash` ("frames") and the hash of the file ("file"), as `check_video` compares them.
    """
    assert clip.video is not None
    path = video_path(run, clip.id)
    make_folder(path.parent)
    if path.is_dir() and not path.is_symlink():
        set_aside(path)
    return {"frames": write_lossless(path, clip.video, clip.playback_fps), "file": hash_file(path)}


def check_video(run: RunDirectory, clip_id: str) -> None:
    """Checks that the generated video of a predicted clip is there, and is the one that was made.

    Equal hashes of the file are enough. A file that was written again is decoded, and its frames are compared.

    Raises:
        DamagedVideoError: it is missing, damaged, or another one.
    """
    made, path = _read_hashes(run, clip_id), video_path(run, clip_id)
    try:
        if made.get("file") == hash_file(path):
            return
    except OSError:
        pass  # reading the video says what is wrong
    read_video(run, clip_id)


def restore_clip(plan: Plan, run: RunDirectory, clip_id: str) -> Prepared:
    """Returns a clip of a finished prediction without running the model.

    It is the clip as the model read it; in generate mode it has the generated video.

    Raises:
        DamagedVideoError: the generated video is missing or damaged.
    """
    prepared = prepare_clip(plan, clip_id)
    if not plan.selection.mode.makes_video:
        return prepared
    return replace(prepared, clip=prepared.clip.with_video(read_video(run, clip_id)))


def video_path(run: RunDirectory, clip_id: str) -> Path:
    """Returns where a run keeps the generated video of a clip."""
    return run.folder(VIDEOS) / video_path_name(clip_id)


def is_video_kept(run: RunDirectory, clip_id: str) -> bool:
    """Returns whether the run has a generated video of a clip; a clip that failed has none."""
    return video_path(run, clip_id).is_file()


def read_video(run: RunDirectory, clip_id: str) -> NDArray[np.uint8]:
    """Returns the generated video of a clip; raises DamagedVideoError as `check_video`."""
    path = video_path(run, clip_id)
    try:
        if not path.is_file():
            raise StoreError(f"{path} is missing.")
        return read_lossless(path, _read_hashes(run, clip_id).get("frames", ""))
    except StoreError as error:
        raise DamagedVideoError(
            error.message, hint="Repeat the command that made the run: only that clip is made again."
        ) from error


def _read_hashes(run: RunDirectory, clip_id: str) -> dict[str, str]:
    """Returns the hashes of the video that was made for a clip; of an older run, those that its tracks name, if any."""
    stamp = read_stamp(run.shard("predictions", clip_id))
    made = stamp.facts.get("video") if stamp else None
    if isinstance(made, dict):
        return made
    try:
        rows = read_shard(run.shard("tracks", clip_id), "tracks").to_pylist()
    except DamagedShardError:
        return {}
    return {"frames": str(rows[0]["video"])} if rows else {}


def rows_of_tracks(
    plan: Plan, run: RunDirectory, clip: Clip, tracker: CalledTracker | None, facts: ClipFacts
) -> list[TrackRow]:
    """Returns the row of a clip's tracks shard as a list; an empty list if the clip has no video or no tracks.

    tracker: finds the tracks; None for the clip's own tracks.

    Raises:
        PluginError, NumericalError: the tracker returned wrong tracks; see `CalledTracker.track`.
    """
    if clip.video is None:
        return []
    video = video_hash(clip.video) if plan.selection.mode.makes_video else facts.video
    tracks = clip.tracks if tracker is None else tracker.track(clip.video, clip.queries)
    if tracks is None:
        return []
    return [track_row(run.run_id, plan, clip, tracks, video=video, facts=facts)]


def rows_of_both_ways(
    plan: Plan, run: RunDirectory, clip: Clip, tracker: CalledTracker, facts: ClipFacts
) -> list[TrackRow]:
    """Returns two rows for a generated video: its tracks, and the ways back from their ends.

    Raises:
        PluginError, NumericalError: the tracker returned wrong tracks; see `CalledTracker.track`.
    """
    assert clip.video is not None  # it was made
    both = track_video(clip.video, clip.queries, tracker)
    back = Queries(both.backward.asked_in.astype(np.int32), both.backward.xy[:, -1])
    ways = ((clip, both.forward), (clip.with_queries(back), both.backward))
    video = video_hash(clip.video)
    return [track_row(run.run_id, plan, one, tracks, video=video, facts=facts) for one, tracks in ways]


def row_without_points(plan: Plan, run: RunDirectory, clip: Clip, facts: ClipFacts) -> list[TrackRow]:
    """Returns the row of a clip of which masks are compared, and no points."""
    return [track_row(run.run_id, plan, *without_points(clip, plan.reference.tracker), video="", facts=facts)]
