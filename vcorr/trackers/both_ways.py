"""Makes a tracker for queries in any frame from one that starts in the first frame that it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.records import Queries

Follow: TypeAlias = Callable[
    [NDArray[np.intp], NDArray[np.float32]], tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]
]
"""A function that follows points through frames in the given order.

It gets frame numbers (S,) and points (N, 2), pixels in the first of these frames. It returns positions (N, S, 2) and
visibility (N, S).
"""


def track_both_ways(follow: Follow, frames: int, queries: Queries) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Follows points over all frames: from the frame of each query to the last frame, and back to the first.

    All queries of one frame are followed together, so their tracks do not depend on queries in other frames.

    Args:
        follow: called at most twice per frame that has queries, with frame numbers in ascending or descending order;
            `video[order]` are these frames.
        frames: T, number of frames of the video.
        queries: N points, each in a frame of its own.

    Returns:
        Positions (N, T, 2) float32, which are the query itself in the query's own frame, and visibility (N, T).
    """
    xy = np.zeros((len(queries), frames, 2), dtype=np.float32)
    visible = np.zeros(xy.shape[:2], dtype=np.bool_)
    for frame, chosen in queries.by_frame():
        points = queries.xy[chosen]
        later, earlier = np.arange(frame, frames), np.arange(frame, -1, -1)
        for order in (earlier, later) if frame else (later,):
            block = np.ix_(chosen, order)
            xy[block], visible[block] = follow(order, points)
        xy[chosen, frame] = points
    return xy, visible
