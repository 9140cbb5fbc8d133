"""Makes a tracker of a model that predicts where points are, without attention sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.records import Clip, Queries, RunSettings, Tracks
from vcorr.runner.called_model import CalledModel
from vcorr.runner.clip_fit import fit_clip
from vcorr.tracking.tracker_model import DirectModel


@dataclass(frozen=True)
class DirectTracker:
    """Follows points with a model that predicts them directly, at the size that it reads (`vcorr.Tracker`)."""

    model: CalledModel
    settings: RunSettings

    def track(self, video: NDArray[np.uint8], queries: Queries) -> Tracks:
        """Returns the tracks in pixels of the video."""
        follower, clip = DirectModel(self.model), Clip("video", "", queries, video)
        fitted = fit_clip(clip, follower.grid(clip))
        assert fitted.video is not None  # the clip has one
        scale = np.divide(video.shape[2:0:-1], fitted.video.shape[2:0:-1]).astype(np.float32)
        found = follower.follow(fitted, self.settings)
        return Tracks((found.xy * scale).astype(np.float32), found.visible, found.tracker)
