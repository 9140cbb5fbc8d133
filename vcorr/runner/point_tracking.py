"""Follows points through a video of one's own with a tracker or a model that is named: `vcorr.track`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.option_notes import option
from vcorr.contract.part_calls import show_value
from vcorr.contract.records import Queries, Tracks
from vcorr.data.video.frame_stream import FrameSource
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import Registry
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.gaps import Gap
from vcorr.runner.parts import make_part
from vcorr.runner.spec import COMPONENTS, RunSpec, build_spec
from vcorr.runner.tracking import check_one_named
from vcorr.runner.unread_words import refuse_unread
from vcorr.tracking.own_video import MAX_SIDE, Follow, Points, choose_points, open_frames, track_own_video
from vcorr.tracking.tracked_points import TrackedPoints
from vcorr.tracking.window_chain import count_reads, track_in_windows, window_length


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
    """What follows points.

    label: its name, for records and pictures. follow: see `vcorr.tracking.own_video.Follow`. original: whether it reads
    frames at their original size, to bring them to its own. notes: sentences on what was chosen by default.
    count_frames: returns about how many frames it works on, each as often as it does, for a bar of progress.
    count_passes: returns the number of forward passes of a network. missing: what it lacks, in a dry run.
    """

    label: str
    follow: Follow
    count_frames: Callable[[FrameSource, Queries], int]
    count_passes: Callable[[FrameSource, Queries], int] = lambda source, queries: 0
    original: bool = False
    notes: tuple[str, ...] = ()
    missing: tuple[Gap, ...] = ()


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
    video: Path | str | NDArray[np.uint8],
    points: Points | None,
    grid: int | None,
    spec: RunSpec,
    registry: Registry,
    *,
    dry: bool = False,
) -> VideoTracking:
    """Checks what is asked for, and opens the video. A file is decoded once, to count its frames.

    Args:
        video: the path of a file, or frames (T, H, W, 3) uint8 RGB.
        points: see `track`; None for a grid.
        grid: points along one side of a regular grid in frame 0; None for points.
        spec: names a tracker or a model, with options.
        registry: the installed parts.
        dry: whether missing weights are kept in the follower's `missing`, and are no error.

    Raises:
        MissingError: the video does not exist, or weights are missing.
        UsageError: an argument cannot be used, or a point is not in the video.
    """
    config = read_config(spec)
    follower = make_point_follower(spec, registry, config.window, dry=dry)
    source = config.open(video, original=follower.original)
    return VideoTracking(source, choose_points(points, grid, source), follower)


def make_point_follower(spec: RunSpec, registry: Registry, window: int = 0, *, dry: bool = False) -> PointFollower:
    """Returns what follows points: the tracker of a spec, or its model with a probe.

    window: frames of a window, for trackers; 0 for as many as fit into memory. dry: see `plan_video_tracking`.

    Raises:
        UsageError: both or none are named, a name or an option is unknown, or nothing reads a value.
    """
    check_one_named(spec)
    if window == 1:
        raise UsageError("data.window: a window has at least 2 frames, got 1.")
    refuse_unread(spec, parts=("data",), fields=("mode", "variant"))
    return _follow_with_model(spec, registry, dry) if spec.model else _follow_with_tracker(spec, registry, window)


def _follow_with_tracker(spec: RunSpec, registry: Registry, window: int) -> PointFollower:
    part = make_part(registry.trackers.get(spec.tracker or ""), spec.options.get("tracker", {}), "tracker")
    tracker = CalledTracker(part)

    def follow(source: FrameSource, queries: Queries) -> Tracks:
        return track_in_windows(tracker.track, source, queries, window)

    def count(source: FrameSource, queries: Queries) -> int:
        return count_reads(len(source.times), queries, window or window_length(source.shown_size))

    return PointFollower(part.entry.name, follow, count)


def _follow_with_model(spec: RunSpec, registry: Registry, dry: bool) -> PointFollower:
    from vcorr.runner.model_follower import make_model_follower

    made = make_model_follower(spec, registry, dry=dry)
    return PointFollower(
        made.label,
        made.follow,
        _count_with_model,
        made.count_passes,
        original=True,
        notes=made.notes,
        missing=made.missing,
    )


def _count_with_model(source: FrameSource, queries: Queries) -> int:
    """Returns the frames that are stored, and then read once for every frame that has queries."""
    frames = len(source.times)
    return frames + len(np.unique(queries.t)) * (frames - 1)


def track(
    video: Path | str | NDArray[np.uint8],
    points: Points | None = None,
    *,
    model: str = "",
    tracker: str | None = None,
    probe: str = "",
    layers: str | int | Sequence[int] = "all",
    steps: str | int | None = None,
    preset: str | None = None,
    from_run: Path | str | None = None,
    grid: int | None = None,
    fps: float | None = None,
    start: float = 0.0,
    frames: int | None = None,
    seed: int = 42,
    device: str = "auto",
    dtype: str = "auto",
    weights: str = "hub",
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> TrackedPoints:
    """Follows points through a video of one's own, before and after their own frames.

    Args:
        video: the path of a file, or frames (T, H, W, 3) uint8 RGB.
        points: N points in pixels of the original upright video: (N, 2) as (x, y) in frame 0, or (N, 3) as (t, x, y),
            as an array, lists or `vcorr.Queries`; or texts such as "120,80@35". Left out if there is a `grid`.
        model: name of the model that follows the points by what its tokens match.
        tracker: name of a tracker, in the place of a model.
        probe: name of the probe that reads the model. By default the model's card says it, as for the next three.
        layers: one layer, or layers whose correlations are averaged.
        steps: index of the step, or "last".
        preset: a published setting, as `--preset` of `vcorr track`.
        from_run: folder of a run that chose the site, as `--from`.
        grid: points along one side of a regular grid in frame 0.
        fps: of a file, keeps the frame that is shown every 1/fps seconds, and frames count accordingly. Of an array,
            its frames per second.
        start: of a file, seconds to skip.
        frames: reads at most this many frames.
        seed: seed of the noise of a model.
        device: "cpu", "cuda" and so on; "auto" for cuda if there is one.
        dtype: "float32", "bfloat16" or "float16"; "auto" for bfloat16 on cuda, else float32.
        weights: "hub", "random" or the path of a folder.
        options: options of the parts, such as {"tracker": {"threshold": 2.0}, "data": {"max_side": 512}}.

    Raises:
        UsageError: an argument cannot be used, or a point is not in the video.
        MissingError: the video does not exist, or weights are not available.
        PluginError: the tracker or the model breaks the contract.
    """
    from vcorr.plugins.registry import installed

    flags = {
        "model": model or None,
        "tracker": tracker,
        "probe": probe or None,
        "layers": list_numbers(layers),
        "steps": None if steps is None else str(steps),
        "preset": preset,
        "from_run": None if from_run is None else str(from_run),
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "weights": weights,
    }
    reading = {"fps": fps or 0.0, "start": start, "frames": frames or 0}
    asked = check_options(options or {})
    spec = replace(build_spec(flags), options={**asked, "data": {**reading, **asked.get("data", {})}})
    return plan_video_tracking(video, points, grid, spec, installed()).run()


def list_numbers(numbers: str | int | Sequence[int]) -> str:
    """Returns layers or steps as the text of `--layers` or `--steps`."""
    if isinstance(numbers, str | int):
        return str(numbers)
    return ",".join(map(str, numbers))


def check_options(options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns options by their part; raises UsageError for an unknown part, or values that are no mapping."""
    for part, values in options.items():
        if part not in COMPONENTS:
            raise unknown_name("part in options", part, COMPONENTS)
        if not isinstance(values, Mapping):
            raise UsageError(f"options[{part!r}] must be a mapping of names to values, got {show_value(values)}.")
    return {part: dict(values) for part, values in options.items()}
