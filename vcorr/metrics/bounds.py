"""Floors and ceilings: tracks that stand still, and the best that a read-out could predict (docs/protocol.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Readout
from vcorr.contract.variants import Variant, switches_of
from vcorr.metrics.published_field import field_samples
from vcorr.metrics.query_frames import query_frames
from vcorr.metrics.timemap import to_frames

READOUTS = ("token", "free")


def zero_motion(queries: ArrayLike, frames: int) -> NDArray[np.float32]:
    """Returns the tracks of the floor: every point stays at its query.

    Args:
        queries: (N, 2) pixels.
        frames: T, number of video frames; or F, for latent times.

    Returns:
        (N, frames, 2) float32 pixels.
    """
    return np.repeat(np.asarray(queries, dtype=np.float32)[:, None], frames, axis=1)


def token_oracle(
    reference: ArrayLike,
    queries: ArrayLike,
    grid: TokenGrid,
    *,
    query_frame: ArrayLike = 0,
    readout: Readout = "token",
    variant: Variant = "corrected",
) -> NDArray[np.float32]:
    """Returns the best positions that the read-out could have predicted at every latent time.

    The reference at a latent time is the track, interpolated linearly at the middle of the latent's span.

    Read-out "token" can predict query + centre(y) - centre(x*), where x* is the token under the query and y any token
    of the grid. The reference's displacement is therefore rounded to whole tokens in x and in y, and clipped to the
    grid. Rounding each axis alone is exact: the possible positions form a rectangular lattice. The nearest in x and the
    nearest in y therefore make the nearest position, in pixels as in strides.

    Under difftrack the read-out "token" is a sampled field: the four tokens around the query move by the one
    whole-token motion that brings the prediction nearest to the reference.

    Read-out "free" can predict any position, so the result is the reference itself.

    Args:
        reference: (N, T, 2) pixels, T being the grid's number of video frames. Where a point is NaN or infinite, it is
            interpolated linearly from its finite frames; a point without finite frames stays at its query.
        queries: (N, 2) pixels, inside the frame.
        query_frame: video frame of all queries, or (N,) the frame of each.
        grid: the grid that the predictions were read from.
        readout: "token" or "free".
        variant: "corrected", "difftrack" or `Switches` (`readout`).

    Returns:
        (N, F, 2) float32 pixels; in the latent that covers its frame, the query.

    Raises:
        UsageError: the shapes do not fit together, a query lies outside the frame, no latent covers its frame, or the
            read-out is unknown.
    """
    if readout not in READOUTS:
        raise unknown_name("readout", str(readout), READOUTS)
    points = grid.check_inside(queries)
    best = _at_latent_times(_fill_reference(reference, points, grid), grid)
    if readout == "token":
        nearest = _nearest_reachable if switches_of(variant).readout == "token" else _nearest_of_field
        best = nearest(best, points, grid)
    own = grid.latents_at(query_frames(query_frame, len(points), grid.video_frames))
    best[np.arange(len(points)), own] = points
    return best.astype(np.float32)


def ceiling_tracks(
    reference: ArrayLike,
    queries: ArrayLike,
    grid: TokenGrid,
    *,
    query_frame: ArrayLike = 0,
    readout: Readout = "token",
    variant: Variant = "corrected",
) -> NDArray[np.float32]:
    """Returns the tracks of the ceiling, (N, T, 2) pixels: `token_oracle` at video frames.

    The time map is the same as for predictions. Arguments and errors are as in `token_oracle`.
    """
    best = token_oracle(reference, queries, grid, query_frame=query_frame, readout=readout, variant=variant)
    return to_frames(best, grid, queries, query_frame=query_frame, variant=variant)


def _fill_reference(reference: ArrayLike, points: NDArray[np.float64], grid: TokenGrid) -> NDArray[np.float64]:
    tracks = np.asarray(reference, dtype=np.float64)
    expected = (len(points), grid.video_frames, 2)
    if tracks.shape != expected:
        raise UsageError(f"reference: expected shape (N, T, 2) = {expected}, got {tracks.shape}.")
    finite = np.isfinite(tracks[..., 0]) & np.isfinite(tracks[..., 1])
    if finite.all():
        return tracks
    filled = tracks.copy()
    frames = np.arange(grid.video_frames)
    for point in np.flatnonzero(~finite.all(axis=1)):
        known = frames[finite[point]]
        for axis in range(2):
            filled[point, :, axis] = (
                np.interp(frames, known, tracks[point, known, axis]) if len(known) else points[point, axis]
            )
    return filled


def _at_latent_times(tracks: NDArray[np.float64], grid: TokenGrid) -> NDArray[np.float64]:
    before = np.floor(grid.latent_times).astype(np.int64)
    after = np.ceil(grid.latent_times).astype(np.int64)
    fraction = (grid.latent_times - before)[:, None]
    return np.asarray(tracks[:, before] + fraction * (tracks[:, after] - tracks[:, before]))


def _nearest_reachable(
    target: NDArray[np.float64], points: NDArray[np.float64], grid: TokenGrid
) -> NDArray[np.float64]:
    start = np.stack(np.divmod(grid.tokens_at(points), grid.cols), axis=-1)[:, None]  # (N, 1, 2) as (row, column)
    moved = np.rint(grid.in_strides(target - points[:, None]))[..., ::-1]
    end = np.clip(start + moved, 0, [grid.rows - 1, grid.cols - 1])
    offset = grid.token_centres(end[..., 0], end[..., 1]) - grid.token_centres(start[..., 0], start[..., 1])
    return np.asarray(points[:, None] + offset)


def _nearest_of_field(target: NDArray[np.float64], points: NDArray[np.float64], grid: TokenGrid) -> NDArray[np.float64]:
    # If all token positions of a field move by m, the sample is weight_x * weight_y * (start + m) in each direction.
    # This holds because the sampling is separable; its weights add up to less than 1 beyond the last token.
    samples = field_samples(grid, points)
    weight = samples.weights.sum(axis=-1)  # (N, 2) in x and in y
    start = (samples.weights * samples.corners).sum(axis=-1) / weight
    total = weight.prod(axis=-1)[:, None, None]
    size = np.array([grid.cols, grid.rows])
    wanted = grid.in_strides(target) / total - start[:, None]
    inside = samples.weights > 0
    first = np.where(inside, samples.corners, size[:, None]).min(axis=-1)
    last = np.where(inside, samples.corners, 0).max(axis=-1)
    moved = np.clip(np.rint(wanted), -first[:, None], (size - 1 - last)[:, None])
    return np.asarray(total * (start[:, None] + moved) * grid.stride)
