"""Follows points through a video of one's own, of any size and length, in pixels of the original."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks
from vcorr.data.query_grids import check_grid, query_grid
from vcorr.data.video.browser_videos import write_mp4
from vcorr.data.video.frame_stream import ArrayFrames, FileFrames, FrameSource
from vcorr.data.video.track_drawing import Drawing, Overlay
from vcorr.tracking.point_text import check_points, parse_points
from vcorr.tracking.tracked_points import TrackedPoints

Points: TypeAlias = Queries | NDArray[Any] | Iterable[Any]
Follow: TypeAlias = Callable[[FrameSource, Queries], Tracks]
"""Follows queries through a source of frames, in pixels of these frames."""

MAX_SIDE = 1024
"""Longer side, in pixels, at which a video is followed by default. The built-in trackers work at this size at most."""

TAIL_SECONDS = 0.5
LONGEST_TAIL = 30
MOST_DRAWN = 400


def open_frames(
    video: Path | str | NDArray[np.uint8],
    *,
    fps: float | None = None,
    start: float = 0.0,
    frames: int | None = None,
    max_side: int = 0,
) -> FrameSource:
    """Opens a file, or an array (T, H, W, 3) uint8 RGB, to read it in windows.

    Args:
        video: the path of a file, or the frames.
        fps: of a file, keeps the frame that is shown every 1/fps seconds. Of an array, its frames per second; 8 if
            None.
        start: of a file, seconds to skip.
        frames: reads at most this many frames.
        max_side: frames whose longer side has more pixels are made smaller; 0 for any size.

    Raises:
        MissingError: there is no such file.
        UsageError: the file or the array cannot be used.
    """
    if isinstance(video, (str, Path)):
        return FileFrames(video, fps=fps, start=start, frames=frames, max_side=max_side)
    if start:
        raise UsageError("start is in seconds of a file; cut an array instead: video[first:].")
    return ArrayFrames(_check_array(video, frames), fps, max_side)


def _check_array(video: Any, frames: int | None) -> NDArray[np.uint8]:
    """Returns the first frames of an array, all if None; raises UsageError if they are no video."""
    if not isinstance(video, np.ndarray):
        raise UsageError(f"video must be the path of a file or a numpy array, got {type(video).__name__}.")
    if video.ndim != 4 or video.shape[3] != 3 or video.dtype != np.uint8:
        raise UsageError(f"video must be uint8 of shape (T, H, W, 3), got {video.dtype} {video.shape}.")
    found: NDArray[np.uint8] = video[:frames]
    if len(found) < 2 or not found.size:
        raise UsageError(f"video must have at least 2 frames, got shape {found.shape}.")
    return found


def choose_points(points: Points | None, grid: int | None, source: FrameSource) -> Queries:
    """Returns the query points in pixels of the original video.

    Args:
        points: (N, 2) pixels (x, y) in frame 0, or (N, 3) as (t, x, y), as an array, lists or `Queries`; or texts such
            as "120,80@35". None for a grid.
        grid: points along one side of a regular grid in frame 0; None for `points`.
        source: the video.

    Raises:
        UsageError: there are no points or both kinds, or a point is not in the video.
    """
    if points is not None and grid is not None:
        raise UsageError("Give either points or a grid.", hint="Leave out --points or --grid.")
    width, height = source.size
    if grid is not None:
        check_grid(grid, height, width)
        return Queries.at(query_grid(grid, height, width))
    found = _read_points(() if points is None else points)
    check_points(found, source.size, len(source.times))
    return found


def _read_points(points: Points) -> Queries:
    if isinstance(points, str):
        return parse_points([points])
    if isinstance(points, Queries | np.ndarray):
        return Queries.of(points)
    try:
        listed = list(points)
        if all(isinstance(one, str) for one in listed):
            return parse_points(listed)
        return Queries.of(np.asarray(listed))
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError("points must be pairs (x, y), or triples (t, x, y), all of one kind.") from error


def track_own_video(follow: Follow, source: FrameSource, queries: Queries, tracker: str) -> TrackedPoints:
    """Follows points of the original video, at the size at which `source` gives its frames.

    Args:
        follow: follows points through the frames, in their pixels.
        source: the video.
        queries: N points in pixels of the original video.
        tracker: what follows them, for the record.
    """
    scale: NDArray[np.float32] = np.divide(source.shown_size, source.size).astype(np.float32)
    found = follow(source, Queries(queries.t, queries.xy * scale))
    xy = (found.xy / scale).astype(np.float32)
    xy[np.arange(len(queries)), queries.t] = queries.xy
    return TrackedPoints(
        xy=xy,
        visible=found.visible,
        confidence=found.confidence,
        queries=queries,
        times=source.times,
        fps=source.fps,
        size=source.size,
        tracker=tracker,
        notes=source.notes,
    )


def write_point_overlay(path: Path, source: FrameSource, tracks: TrackedPoints) -> None:
    """Writes an mp4 with the tracks over the frames of `source`, one frame in memory at a time; atomic.

    Raises:
        UsageError: the tracks have another number of frames than the video.
        StoreError: the file cannot be written.
    """
    tail = int(np.clip(round(TAIL_SECONDS * tracks.fps), 4, LONGEST_TAIL))
    drawing = Drawing(
        queries=tracks.queries,
        predicted=tracks.as_tracks(),
        size=tracks.size,
        title=(tracks.tracker,),
        max_points=MOST_DRAWN,
        by_query=True,
        tail=tail,
    )
    overlay = Overlay(len(source.times), source.shown_size, drawing)
    drawn = (overlay.draw(source.read(t, t + 1)[0], t) for t in range(len(source.times)))
    write_mp4(path, drawn, source.fps)
