"""Holds `VideoTracks`: what a tracker finds in a generated video, forth and back."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Tracks


@dataclass(frozen=True)
class VideoTracks:
    """The tracks of N points through the T frames of a generated video, and the ways back from their ends.

    Args:
        forward: of a grid of queries in frame 0. A point is counted as lost where it is not visible.
        backward: of queries at the last positions of `forward`, in the last frame, followed to frame 0. A position
            outside the video is moved to its edge first. So the way back of a consistent video ends at the query in
            frame 0.

    Raises:
        UsageError: both differ in the number of points or of frames.
    """

    forward: Tracks
    backward: Tracks

    def __post_init__(self) -> None:
        if self.forward.xy.shape != self.backward.xy.shape:
            raise UsageError(
                f"VideoTracks: forward has the shape {self.forward.xy.shape}, backward {self.backward.xy.shape}."
            )
