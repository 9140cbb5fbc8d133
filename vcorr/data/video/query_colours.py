"""Colours that tell query points apart."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

DISTINCT = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)],
    dtype=np.uint8,
)
"""RGB of few points: colours of Okabe and Ito (2008), which people with any colour vision can tell apart."""

_ENDS = 0.05, 0.95
"""The part of the scale for many points; its ends are too dark to be seen on dark videos."""


def query_colours(count: int) -> NDArray[np.uint8]:
    """Returns RGB colours (count, 3), one per query in their order: distinct ones for few, a rainbow for many."""
    if count <= len(DISTINCT):
        return DISTINCT[:count]
    places = (255 * np.linspace(*_ENDS, count)).round().astype(np.uint8)
    bgr = np.asarray(cv2.applyColorMap(places.reshape(-1, 1), cv2.COLORMAP_TURBO), dtype=np.uint8)
    return bgr.reshape(-1, 3)[:, ::-1].copy()
