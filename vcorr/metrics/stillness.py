"""Measures how still a clip is, from its data alone (docs/protocol.md)."""

from __future__ import annotations

import numpy as np

from vcorr.contract.records import Clip
from vcorr.metrics.bounds import zero_motion
from vcorr.metrics.frame_units import frame_unit
from vcorr.metrics.pairs import countable_pairs

NEAR = 8.0
"""Pixels of a 256x256 frame within which a point has stayed at its query, as in `pck_8`."""


def stillness(clip: Clip, frames: int) -> float:
    """Returns the zero-motion pck_8 of a clip: the share of its pairs in which the point is still at its query.

    All visible pairs of points visible in their query frame count, except the query frame itself, as in `corrected`. A
    point is at its query if hypot(dx · 256/W, dy · 256/H) < 8, W x H being the size of the video.

    Args:
        clip: as the dataset gives it, before it is brought to a model's size.
        frames: T, number of frames from the first that a model reads.

    Returns:
        A share in [0, 1]. NaN if the clip has no video or no tracks, or if no pair counts.
    """
    if clip.video is None or clip.tracks is None:
        return float("nan")
    height, width = clip.video.shape[1:3]
    xy, visible = clip.tracks.xy[:, :frames], clip.tracks.visible[:, :frames]
    pairs = countable_pairs(visible, clip.queries.t)
    if not pairs.any():
        return float("nan")
    stays = zero_motion(clip.queries.xy, xy.shape[1])
    offsets = (stays[pairs] - xy[pairs].astype(np.float64)) / frame_unit(width, height)
    return float(np.mean(np.square(offsets).sum(axis=1) < NEAR**2))
