"""A plugin for the tests: a tracker that knows how the videos of `support.sliding` move."""

from __future__ import annotations

import numpy as np

import vcorr
from support import sliding


class Knowing:
    """Meets vcorr.Tracker."""

    def track(self, video, queries):
        steps = np.arange(len(video), dtype=np.float32)[None, :, None]
        xy = queries.xy[:, None] + steps * np.float32([sliding.SHIFT, 0])
        visible = (xy[..., 0] < video.shape[2]) & (xy[..., 0] >= 0)
        return vcorr.Tracks(xy, visible, tracker="knowing")


@vcorr.hookimpl
def vcorr_trackers():
    """The tracker."""
    return [vcorr.TrackerEntry(name="knowing", summary="", factory=f"{__name__}:Knowing", licence="CC0-1.0")]
