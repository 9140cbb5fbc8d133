"""Finds occlusions between the query of a point and its other frames. Shapes: N points, T frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def measure_latest_occlusion(visible: NDArray[np.bool_], asked_in: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns how long the latest occlusion was that ended between the query and each frame, (N, T) frames.

    An occlusion is a run of frames that hide the point. It ends in the first frame after it that shows the point, and
    counts from this frame on. Before the query frame, time runs backwards. 0 where no occlusion has ended yet.

    Args:
        visible: (N, T) bool, True where the point can be seen.
        asked_in: (N,), the frame of each query.
    """
    time, asked = np.arange(visible.shape[1]), asked_in[:, None]
    forward = _measure_forward(visible | (time <= asked))
    backward = _measure_forward((visible | (time >= asked))[:, ::-1])[:, ::-1]
    return np.where(time > asked, forward, backward)


def _measure_forward(visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns the same for queries in the first frame, or in an earlier one."""
    time = np.arange(visible.shape[1])
    seen = np.maximum.accumulate(np.where(visible, time, -1), axis=1)  # the last frame that showed the point
    before = np.concatenate([np.full_like(seen[:, :1], -1), seen[:, :-1]], axis=1)
    gap = np.where(visible & (before >= 0), time - before - 1, 0)
    ended = np.maximum.accumulate(np.where(gap > 0, time, 0), axis=1)
    return np.take_along_axis(gap, ended, axis=1)
