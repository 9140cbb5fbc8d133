"""Follows points from the left to the right picture of a rectified stereo pair, by the disparity map of the left one.

Legend: N points, H x W pixels. The centre of pixel (row, column) of the left picture has disparity d: it is seen at the
same height in the right picture, d pixels further left. A larger disparity is nearer. Unknown disparities are infinite.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEARER = 1.0
"""Pixels of disparity by which a surface that covers a point is nearer at least; less is the same surface."""


@dataclass(frozen=True)
class Matches:
    """Where points of the left picture are in the right one.

    left, right: (N, 2) float32 pixels (x, y), raster coordinates. visible: (N,) bool, True where the point is inside
    the right picture and no nearer surface of the map covers it there.
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    visible: NDArray[np.bool_]


def match_points(disparity: NDArray[np.float32], points: NDArray[np.float32]) -> Matches:
    """Follows the centres of the pixels that hold ``points``, and leaves out pixels of unknown disparity.

    Args:
        disparity: (H, W) pixels.
        points: (N, 2) pixels (x, y) inside the left picture.
    """
    column, row = np.floor(points).astype(np.int64).T
    known = np.isfinite(disparity[row, column])
    column, row = column[known], row[known]
    left = np.stack([column, row], -1).astype(np.float32) + np.float32(0.5)
    shift = disparity[row, column]
    right = left - np.stack([shift, np.zeros_like(shift)], -1)
    inside = (right[:, 0] >= 0) & (right[:, 0] < disparity.shape[1])
    return Matches(left, right, inside & ~_find_covered(disparity[row], right[:, 0], shift))


def _find_covered(rows: NDArray[np.float32], x: NDArray[np.float32], shift: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns whether a nearer surface covers positions x (N,) of the right picture; rows (N, W) are their map rows.

    Two neighbouring pixels whose disparities differ by at most `NEARER` are one surface, which also covers what lies
    between them. A single pixel covers half a pixel to either side.
    """
    centre = np.arange(rows.shape[1], dtype=np.float32) + np.float32(0.5) - rows  # -inf where the disparity is unknown
    nearer = rows > shift[:, None] + NEARER
    alone = nearer & (np.abs(centre - x[:, None]) <= 0.5)
    with np.errstate(invalid="ignore"):
        joined = np.abs(np.diff(rows, axis=1)) <= NEARER
    joined &= nearer[:, 1:] & nearer[:, :-1]
    first, second = centre[:, :-1], centre[:, 1:]
    between = (np.minimum(first, second) <= x[:, None]) & (x[:, None] <= np.maximum(first, second))
    return np.asarray(alone.any(1) | (joined & between).any(1))
