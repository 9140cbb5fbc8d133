"""Floors: tracks that stand still (docs/protocol.md). `vcorr.metrics.ceilings` has the other bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def zero_motion(queries: ArrayLike, frames: int) -> NDArray[np.float32]:
    """Returns the tracks of the floor: every point stays at its query.

    Args:
        queries: (N, 2) pixels.
        frames: T, number of video frames; or F, for latent times.

    Returns:
        (N, frames, 2) float32 pixels.
    """
    return np.repeat(np.asarray(queries, dtype=np.float32)[:, None], frames, axis=1)
