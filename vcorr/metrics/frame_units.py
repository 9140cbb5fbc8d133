"""The pixel of a 256x256 frame: the unit of distances that compare between sizes of videos and of tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid

PCK_SIDE = 256
"""Side, in pixels, of the square frame for which the thresholds of pck are given, as in TAP-Vid."""

PCK_MOVING = 16.0
"""For metrics in pixels, a point moves if it is more than so many pixels of that frame away from its query position.

A token stride would be another motion in every model.
"""


def frame_unit(width: float, height: float) -> NDArray[np.float64]:
    """Returns the size of a pixel of a 256x256 frame in a frame of width x height pixels, (2,): in x and in y."""
    return np.array([width, height]) / PCK_SIDE


def one_stride(grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the motion, in pixels, beyond which a point moves for metrics in token strides, (2,): in x and in y."""
    return np.array(grid.stride, dtype=np.float64)


def pck_motion(grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the motion, in pixels, beyond which a point moves for metrics in pixels, (2,): in x and in y.

    It is `PCK_MOVING` pixels of a 256x256 frame, whatever the tokens are.
    """
    return PCK_MOVING * frame_unit(grid.width, grid.height)
