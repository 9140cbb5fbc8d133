"""Maps positions at latent times to video frames, in numpy. The functional API applies the same map to tensors."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid
from vcorr.contract.variants import Variant, switches_of
from vcorr.metrics.published_field import stretch_latents
from vcorr.metrics.query_frames import query_frames


@dataclass(frozen=True)
class FrameMap:
    """Says where each video frame lies between two latents.

    before, after: (T,) int64, the latents on either side; equal before the first and after the last latent's centre.
    fraction: (T,) float64 in [0, 1), the position of the frame on the way from `before` to `after`.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    fraction: NDArray[np.float64]


def frame_map(grid: TokenGrid, video_frames: int | None = None, *, variant: Variant = "corrected") -> FrameMap:
    """Returns the latents before and after every video frame (docs/protocol.md).

    corrected: linear between the latents' centres, constant outside them. difftrack: frame t of T lies at latent
    (t + 0.5) F/T - 0.5, clipped to 0 .. F-1, whatever the times of the latents are.

    Interpolate as value(before) + fraction * (value(after) - value(before)). It returns a point that stands still
    exactly; in floating point, a weighted sum may not.

    Args:
        grid: says the times of the latents.
        video_frames: T, number of video frames; None for the grid's own.
        variant: "corrected", "difftrack" or `Switches` (`time_map`).
    """
    is_stretched = switches_of(variant).time_map == "stretched"
    if video_frames is not None and type(video_frames) is not int:
        return _make_map(grid, video_frames, is_stretched)  # which refuses what is no number of frames
    return _keep_map(grid, video_frames, is_stretched)


@functools.lru_cache(maxsize=64)
def _keep_map(grid: TokenGrid, video_frames: int | None, is_stretched: bool) -> FrameMap:
    """Returns the map, made once per grid: a clip is scored at thousands of sites with one grid."""
    made = _make_map(grid, video_frames, is_stretched)
    for values in (made.before, made.after, made.fraction):
        values.flags.writeable = False
    return made


def _make_map(grid: TokenGrid, video_frames: int | None, is_stretched: bool) -> FrameMap:
    weights = grid.time_weights(video_frames)
    if is_stretched:
        return _stretch(grid.frames, len(weights))
    before = (weights > 0).argmax(axis=1)
    fraction = 1.0 - weights[np.arange(len(weights)), before]
    after = np.minimum(before + (fraction > 0), grid.frames - 1)
    return FrameMap(before, after, fraction)


def _stretch(latents: int, frames: int) -> FrameMap:
    position = stretch_latents(latents, frames)
    before = np.floor(position).astype(np.int64)
    return FrameMap(before, np.minimum(before + 1, latents - 1), position - before)


def to_frames(
    xy: ArrayLike,
    grid: TokenGrid,
    queries: ArrayLike,
    *,
    query_frame: ArrayLike = 0,
    variant: Variant = "corrected",
    video_frames: int | None = None,
) -> NDArray[np.float32]:
    """Interpolates positions at latent times to video frames.

    Args:
        xy: (..., N, F, 2) pixels at the grid's latent times.
        grid: says the times of the latents.
        queries: (N, 2) pixels. In corrected, the result in a query's own frame is exactly the query; difftrack
            interpolates this frame as any other.
        query_frame: video frame of all queries, or (N,) the frame of each.
        variant: "corrected", "difftrack" or `Switches` (`time_map`).
        video_frames: T, number of video frames; None for the grid's own.

    Returns:
        (..., N, T, 2) float32 pixels.

    Raises:
        UsageError: the shapes do not fit together, or a query frame is not in the video.
    """
    switches = switches_of(variant)
    positions, points = np.asarray(xy, dtype=np.float64), np.asarray(queries, dtype=np.float64)
    check_latent_tracks(positions.shape, points.shape, grid)
    times = frame_map(grid, video_frames, variant=switches)
    start = positions[..., times.before, :]
    tracks = start + times.fraction[:, None] * (positions[..., times.after, :] - start)
    if switches.time_map == "centres":
        asked = query_frames(query_frame, len(points), len(times.before))
        tracks[..., np.arange(len(points)), asked, :] = points
    return tracks.astype(np.float32)


def check_latent_tracks(xy: tuple[int, ...], queries: tuple[int, ...], grid: TokenGrid) -> None:
    """Checks the shapes of positions at latent times, (..., N, F, 2), and of their queries, (N, 2).

    Raises:
        UsageError: they do not fit together, or do not fit the grid.
    """
    check_grid(grid)
    if len(queries) != 2 or queries[1] != 2:
        raise UsageError(f"queries: expected shape (N, 2), got {queries}.")
    expected = (queries[0], grid.frames, 2)
    if len(xy) < 3 or xy[-3:] != expected:
        raise UsageError(
            f"xy: expected shape (..., N, F, 2) ending in {expected} for {queries[0]} queries and {grid.frames} latent "
            f"frames, got {xy}."
        )
