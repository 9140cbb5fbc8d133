"""Follows points through a video of one's own with a tracker or a model that is named: `vcorr.track`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.option_notes import option
from vcorr.contract.records import Queries, Tracks
from vcorr.data.video.frame_stream import FrameSource
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import Registry, installed
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.parts import make_part
from vcorr.runner.spec import RunSpec
from vcorr.tracking.own_video import MAX_SIDE, Follow, Points, choose_points, open_frames, track_own_video
from vcorr.tracking.tracked_points import TrackedPoints
from vcorr.tracking.window_chain import track_in_windows


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How a video of one's own is read (`--set data.KEY=VALUE`)."""

    frames: int = option(0, "Reads at most this many frames; 0 for all.", unit="frames", least=0)
    fps: float = option(0.0, "Frames per second to keep; 0 keeps every frame.", unit="frames per second", least=0)
    start: float = option(0.0, "Time to skip at the beginning.", unit="seconds", least=0)
    max_side: int = option(
        MAX_SIDE,
        "Frames whose longer side has more pixels are made smaller before points are followed; 0 for any size.",
        unit="pixels",
        least=0,
    )
    window: int = option(
        0,
        "Frames that a tracker gets at once; 0 for as many as fit into 128 MiB.",
        unit="frames",
        least=0,
    )

    def open(self, video: Path | str | NDArray[np.uint8], *, original: bool = False) -> FrameSource:
        """Opens a file or an array, at the size at which points are followed, or at its `original` size.

        Raises:
            MissingError: there is no such file.
            UsageError: the file or the array cannot be used.
        """
        max_side = 0 if original else self.max_side
        return open_frames(video, fps=self.fps or None, start=self.start, frames=self.frames or None, max_side=max_side)


@dataclass(frozen=True)
class PointFollower:
    """What follows points. label: its name, for records and pictures. follow: see `vcorr.tracking.own_video.Follow`."""

    label: str
    follow: Follow


@dataclass(frozen=True)
class VideoTracking:
    """Points to follow through a video, all checked. queries: in pixels of the original video."""

    source: FrameSource
    queries: Queries
    follower: PointFollower

    def run(self) -> TrackedPoints:
        """Follows the points.

        Raises:
            UsageError: the video cannot be read to its end.
            PluginError: the tracker or the model breaks the contract.
        """
        return track_own_video(self.follower.follow, self.source, self.queries, self.follower.label)


def read_config(spec: RunSpec) -> ReadingConfig:
    """Returns how a spec wants the video to be read; raises UsageError for an option that does not exist."""
    config: ReadingConfig = make_config(ReadingConfig, spec.options.get("data", {}), "data")
    return config


def plan_video_tracking(
    video: Path | str | NDArray[np.uint8], points: Points | None, grid: int | None, spec: RunSpec, registry: Registry
) -> VideoTracking:
    """Checks what is asked for, and opens the video. A file is decoded once, to count its frames.

    Args:
        video: the path of a file, or frames (T, H, W, 3) uint8 RGB.
        points: see `track`; None for a grid.
        grid: points along one side of a regular grid in frame 0; None for points.
        spec: names a tracker or a model, with options.
        registry: the installed parts.

    Raises:
        MissingError: the video does not exist.
        UsageError: an argument cannot be used, or a point is not in the video.
    """
    config = read_config(spec)
    follower = make_point_follower(spec, registry, config.window)
    source = config.open(video)
    return VideoTracking(source, choose_points(points, grid, source), follower)


def make_point_follower(spec: RunSpec, registry: Registry, window: int = 0) -> PointFollower:
    """Returns what follows points: the tracker of a spec, or its model with a probe.

    window: frames of a window, for trackers; 0 for as many as fit into memory.

    Raises:
        UsageError: both or none are named, or a name or an option is unknown.
    """
    if bool(spec.model) == bool(spec.tracker):
        said = "Both a model and a tracker were named" if spec.model else "Neither a model nor a tracker was named"
        raise UsageError(f"{said}.", hint="Name one: --model tiny, or --tracker dis (vcorr list trackers)")
    if window == 1:
        raise UsageError("data.window: a window has at least 2 frames, got 1.")
    part = make_part(registry.trackers.get(spec.tracker or ""), spec.options.get("tracker", {}), "tracker")
    tracker = CalledTracker(part)

    def follow(source: FrameSource, queries: Queries) -> Tracks:
        return track_in_windows(tracker.track, source, queries, window)

    return PointFollower(part.entry.name, follow)


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
        window: for trackers, frames that are read at once; 0 for as many as fit into 128 MiB (docs/tracking.md).
        options: options of the parts, such as {"tracker": {"threshold": 2.0}}.

    Raises:
        UsageError: an argument cannot be used, or a point is not in the video.
        MissingError: the video does not exist.
        PluginError: the tracker breaks the contract.
    """
    reading = {"fps": fps or 0.0, "start": start, "frames": frames or 0, "max_side": max_side, "window": window}
    asked = {part: dict(values) for part, values in (options or {}).items()}
    spec = RunSpec(model=model, tracker=tracker, options={**asked, "data": {**asked.get("data", {}), **reading}})
    return plan_video_tracking(video, points, grid, spec, installed()).run()
