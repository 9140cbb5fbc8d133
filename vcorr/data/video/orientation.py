"""Turns and mirrors frames as their display matrix says: one of eight orientations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

_TOLERANCE = 0.02
"""Share of a matrix by which it may differ from an orientation: about one degree, as in FFmpeg."""


@dataclass(frozen=True)
class Orientation:
    """How stored frames are shown.

    transpose: swaps x and y, first. flip_x, flip_y: then mirror left-right and top-bottom. unusable: why the display
    matrix of the file was not followed; "" if it was.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    unusable: str = ""

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns an image (H, W, 3) as it is shown: (H, W, 3), or (W, H, 3) with `transpose`."""
        shown = image.swapaxes(0, 1) if self.transpose else image
        return shown[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    @property
    def words(self) -> str:
        """What was done to the frames, as part of a sentence; "" for nothing."""
        return self.unusable or _WORDS[self.transpose, self.flip_x, self.flip_y]


_WORDS = {
    (False, False, False): "",
    (False, True, False): "mirrored left to right, as its metadata says",
    (False, False, True): "mirrored top to bottom, as its metadata says",
    (False, True, True): "turned upright by 180 degrees, as its metadata says",
    (True, False, False): "mirrored at the diagonal from top left, as its metadata says",
    (True, True, True): "mirrored at the diagonal from top right, as its metadata says",
    (True, True, False): "turned upright by 90 degrees clockwise, as its metadata says",
    (True, False, True): "turned upright by 90 degrees counterclockwise, as its metadata says",
}


def orientation_of(frame: Any) -> Orientation:
    """Returns how a decoded frame is shown."""
    for data in frame.side_data:
        if data.type == Type.DISPLAYMATRIX:
            return read_matrix(np.frombuffer(bytes(data), dtype=np.int32))
    return Orientation()


def read_matrix(matrix: NDArray[np.int32]) -> Orientation:
    """Returns the orientation of a display matrix (9,), as FFmpeg stores it: a b u c d v x y w.

    A stored pixel (x, y) is shown at (a x + c y, b x + d y), apart from a shift. Scales and shifts are not followed,
    as in FFmpeg.
    """
    a, b, c, d = (float(matrix[i]) for i in (0, 1, 3, 4))
    largest = max(map(abs, (a, b, c, d)))
    if not largest:
        return Orientation(unusable="its display matrix is all zeros; its frames were read as stored")
    straight = min(abs(a), abs(d)) > 0 and max(abs(b), abs(c)) <= _TOLERANCE * min(abs(a), abs(d))
    crossed = min(abs(b), abs(c)) > 0 and max(abs(a), abs(d)) <= _TOLERANCE * min(abs(b), abs(c))
    if straight:
        return Orientation(flip_x=a < 0, flip_y=d < 0)
    if crossed:
        return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)
    degrees = np.degrees(np.arctan2(b, a))
    return Orientation(
        unusable=f"its metadata turns it by {degrees:.0f} degrees, which is no quarter turn; it was read as stored"
    )
