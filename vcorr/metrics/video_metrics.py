"""The metrics of generated videos, each a `vcorr.VideoMetric`. Each column is explained at its function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase
from vcorr.contract.records import Score
from vcorr.contract.video_tracks import VideoTracks
from vcorr.metrics.frame_changes import score_frames
from vcorr.metrics.motion_guard import GUARD
from vcorr.metrics.subject_drift import describe_plainly, score_drift
from vcorr.metrics.track_motion import score_cycle, score_dynamics, score_jerk, score_outliers, score_survival

Video = NDArray[np.uint8]


class TrackSurvival(MetricBase):
    """`track_survival`: the share of frames until the tracker loses a point (`track_motion.score_survival`)."""

    higher_is_better = True
    columns = ("track_survival",)
    primary = "track_survival"
    lower, upper = 0.0, 1.0

    def score_video(self, video: Video, tracks: VideoTracks) -> dict[str, Score]:
        """Scores the tracks of a video (T, H, W, 3); the pixels are not read."""
        return {self.primary: score_survival(tracks.forward, frame_size(video))}


class TrackSteadiness(MetricBase):
    """`cycle_error`, `track_jerk`, `acceleration_outliers`: how unsteadily tracked points move (`track_motion`)."""

    higher_is_better = False
    columns = ("cycle_error", "track_jerk", "acceleration_outliers")
    primary = "cycle_error"
    lower = 0.0

    def score_video(self, video: Video, tracks: VideoTracks) -> dict[str, Score]:
        """Scores the tracks of a video (T, H, W, 3); the pixels are not read."""
        forward, size = tracks.forward, frame_size(video)
        return {
            "cycle_error": score_cycle(forward, tracks.backward, size),
            "track_jerk": score_jerk(forward, size),
            "acceleration_outliers": score_outliers(forward, size),
        }


class FrameChanges(MetricBase):
    """`warp_error` and `flicker`: how pixels change along the motion of the video (`frame_changes.score_frames`)."""

    higher_is_better = False
    columns = ("warp_error", "flicker")
    primary = "warp_error"
    lower, upper = 0.0, 1.0

    def score_video(self, video: Video, tracks: VideoTracks) -> dict[str, Score]:
        """Scores the pixels of a video (T, H, W, 3); the tracks are not read."""
        found = score_frames(video)
        return {"warp_error": found.warp_error, "flicker": found.flicker}


class SubjectDrift(MetricBase):
    """`subject_drift`: how far the look of the frames drifts, by the plain descriptor (`subject_drift.score_drift`)."""

    higher_is_better = False
    columns = ("subject_drift",)
    primary = "subject_drift"
    lower, upper = 0.0, 2.0

    def score_video(self, video: Video, tracks: VideoTracks) -> dict[str, Score]:
        """Scores the pixels of a video (T, H, W, 3); the tracks are not read."""
        return {self.primary: score_drift(describe_plainly(video))}


class DynamicDegree(MetricBase):
    """`dynamic_degree`: how much moves (`track_motion.score_dynamics`). A guard: more is not better by itself."""

    higher_is_better = True
    columns = (GUARD,)
    primary = GUARD
    lower = 0.0

    def score_video(self, video: Video, tracks: VideoTracks) -> dict[str, Score]:
        """Scores the tracks of a video (T, H, W, 3); the pixels are not read."""
        return {self.primary: score_dynamics(tracks.forward, frame_size(video))}


def frame_size(video: Video) -> tuple[int, int]:
    """Returns (height, width) of a video (T, H, W, 3)."""
    height, width = video.shape[1:3]
    return int(height), int(width)
