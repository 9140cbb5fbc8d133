"""From latent times to frames, in numpy. The functional API applies the same map to tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid
from vcorr.contract.variants import Variant, switches_of
from vcorr.metrics.published_field import stretched_positions
from vcorr.metrics.query_frames import query_frames


@dataclass(frozen=True)
class FrameMap:
    """How every frame lies between two latents.

    before, after: (T,) int64, the latents on either side (equal outside the first and the last centre).
    fraction: (T,) float64 in [0, 1), how far the frame is on the way from `before` to `after`.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    fraction: NDArray[np.float64]


def frame_map(grid: TokenGrid, video_frames: int | None = None, *, variant: Variant = "corrected") -> FrameMap:
    """The neighbours of every frame (docs/protocol.md).

    corrected: linear between the latents' centres, held outside them. difftrack: frame t of T lies at latent
    (t + 0.5) F/T - 0.5, held outside 0 .. F-1, whatever the latents' times are.

    Interpolating as value(before) + fraction * (value(after) - value(before)) answers a point that stands still
    exactly, which a weighted sum does not promise in floating point.

    Args:
        grid: gives the latents' times.
        video_frames: T; the grid's own when None.
        variant: "corrected", "difftrack" or `Switches` (`time_map`).
    """
    weights = grid.time_weights(video_frames)
    if switches_of(variant).time_map == "stretched":
        return _stretched(grid.frames, len(weights))
    before = (weights > 0).argmax(axis=1)
    fraction = 1.0 - weights[np.arange(len(weights)), before]
    after = np.minimum(before + (fraction > 0), grid.frames - 1)
    return FrameMap(before, after, fraction)


def _stretched(latents: int, frames: int) -> FrameMap:
    position = stretched_positions(latents, frames)
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
    """Positions at latent times brought to frames.

    Args:
        xy: (..., N, F, 2) pixels at the grid's latent times.
        grid: gives the latents' times.
        queries: (N, 2) pixels, which the result repeats exactly in their own frame in corrected; difftrack reads that
            frame off the latents like any other.
        query_frame: the video frame of the queries, or (N,) of each.
        variant: "corrected", "difftrack" or `Switches` (`time_map`).
        video_frames: T; the grid's own when None.

    Returns:
        (..., N, T, 2) float32 pixels.

    Raises:
        UsageError: the shapes do not belong together, or a query frame is not in the video.
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
        UsageError: they do not fit each other or the grid.
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
