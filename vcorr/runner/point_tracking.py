"""Follows points through a video of one's own with a tracker or a model that is named: `vcorr.track`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks
from vcorr.data.video.frame_stream import FrameSource
from vcorr.plugins.registry import Registry, installed
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.parts import make_part
from vcorr.runner.spec import RunSpec
from vcorr.tracking.own_video import MAX_SIDE, Follow, Points, choose_points, open_frames, track_own_video
from vcorr.tracking.tracked_points import TrackedPoints
from vcorr.tracking.window_chain import track_in_windows


@dataclass(frozen=True)
class PointFollower:
    """What follows points. label: its name, for records and pictures. follow: see `vcorr.tracking.own_video.Follow`."""

    label: str
    follow: Follow


def make_point_follower(spec: RunSpec, registry: Registry, window: int = 0) -> PointFollower:
    """Returns what follows points: the tracker of a spec, or its model with a probe.

    Args:
        spec: names a tracker or a model, with options.
        registry: the installed parts.
        window: frames of a window, for trackers; 0 for as many as fit into memory.

    Raises:
        UsageError: both or none are named, or a name or an option is unknown.
    """
    if bool(spec.model) == bool(spec.tracker):
        said = "Both a model and a tracker were named" if spec.model else "Neither a model nor a tracker was named"
        raise UsageError(f"{said}.", hint="Name one: --model tiny, or --tracker dis (vcorr list trackers)")
    if window and window < 2:
        raise UsageError(f"A window has at least 2 frames, got {window}.")
    assert spec.tracker is not None
    tracker = CalledTracker(make_part(registry.trackers.get(spec.tracker), spec.options.get("tracker", {}), "tracker"))

    def follow(source: FrameSource, queries: Queries) -> Tracks:
        return track_in_windows(tracker.track, source, queries, window)

    return PointFollower(spec.tracker, follow)


def track(
    video: Path | str | NDArray[np.uint8],
    points: Points | None = None,
    *,
    tracker: str | None = None,
    model: str = "",
    grid: int | None = None,
    fps: float | None = None,
    start: float = 0.0,
    frames: int | None = None,
    max_side: int = MAX_SIDE,
    window: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> TrackedPoints:
    """Follows points through a video of one's own, before and after their own frames.

    Args:
        video: the path of a file, or frames (T, H, W, 3) uint8 RGB.
        points: N points in pixels of the original upright video: (N, 2) as (x, y) in frame 0, or (N, 3) as (t, x, y),
            as an array, lists or `vcorr.Queries`; or texts such as "120,80@35". Left out if there is a `grid`.
        tracker: name of the tracker.
        model: name of a model.
        grid: points along one side of a regular grid in frame 0.
        fps: of a file, keeps the frame that is shown every 1/fps seconds, and frames count accordingly. Of an array,
            its frames per second.
        start: of a file, seconds to skip.
        frames: reads at most this many frames.
        max_side: frames whose longer side has more pixels are made smaller before points are followed; 0 for any size.
        window: for trackers, frames that are read at once; 0 for as many as fit into 128 MiB (docs/videos.md).
        options: options of the parts, such as {"tracker": {"threshold": 2.0}}.

    Raises:
        UsageError: an argument cannot be used, or a point is not in the video.
        MissingError: the video does not exist.
        PluginError: the tracker breaks the contract.
    """
    spec = RunSpec(model=model, tracker=tracker, options={k: dict(v) for k, v in (options or {}).items()})
    source = open_frames(video, fps=fps, start=start, frames=frames, max_side=max_side)
    queries = choose_points(points, grid, source)
    follower = make_point_follower(spec, installed(), window)
    return track_own_video(follower.follow, source, queries, follower.label)
