"""Checks the video frames of query points."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError


def query_frames(query_frame: ArrayLike, points: int, frames: int) -> NDArray[np.int64]:
    """Returns the video frame of every query point, (points,).

    Args:
        query_frame: one frame for all points, or (points,) the frame of each.
        points: N, number of points.
        frames: T, number of frames of the video.

    Raises:
        UsageError: the frames are not whole numbers from 0 to T - 1, or not one per point.
    """
    asked = np.asarray(query_frame)
    if asked.dtype.kind not in "iu" or asked.shape not in ((), (points,)):
        raise UsageError(
            f"query_frame: expected the number of a video frame, or one for each of the {points} points, got "
            f"{asked.dtype} of shape {asked.shape}."
        )
    outside = (asked < 0) | (asked >= frames)
    if outside.any():
        raise UsageError(
            f"query_frame: frame {asked[outside].flat[0]} is not in the video of {frames} frames, counted from 0."
        )
    return np.broadcast_to(asked.astype(np.int64), (points,))
