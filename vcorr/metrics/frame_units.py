"""The pixel of a 256x256 frame: the unit of distances that compare between sizes of videos and of tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PCK_SIDE = 256
"""Side, in pixels, of the square frame for which the thresholds of pck are given, as in TAP-Vid."""

PCK_MOVING = 16.0
"""A point moves, for metrics in pixels, if it is further than so many pixels of that frame from its query position.

Half a token stride or a whole one would be another motion in every model.
"""


def frame_unit(width: float, height: float) -> NDArray[np.float64]:
    """Returns the size of a pixel of a 256x256 frame in a frame of width x height pixels, (2,): in x and in y."""
    return np.array([width, height]) / PCK_SIDE
