"""Options of the built-in trackers. Thresholds are pixels of a 256x256 frame: a resized video is judged alike."""

from __future__ import annotations

from dataclasses import dataclass

DIS_VERSION = 1
LK_VERSION = 1
PRESETS = ("ultrafast", "fast", "medium")


@dataclass(frozen=True, kw_only=True)
class DisConfig:
    """Options of `dis`.

    preset: OpenCV's "ultrafast", "fast" or "medium". finest_scale: the finest pyramid level flow is computed at, 0 the
    full resolution, 1 half of it; -1 is 0 where the shorter side has less than 256 pixels, else 1. threshold: a point
    is lost when a step and its way back disagree by more. cycle: it is also lost when the way back over all frames ends
    farther from the query than this; 0 leaves that check out. max_side: frames whose longer side has more pixels are
    tracked at this size; 0 for any size.
    """

    preset: str = "medium"
    finest_scale: int = -1
    threshold: float = 1.0
    cycle: float = 4.0
    max_side: int = 1024


@dataclass(frozen=True, kw_only=True)
class LkConfig:
    """Options of `lk`.

    window: pixels along one side of the square compared. levels: pyramid levels above the full resolution. threshold,
    cycle, max_side: as those of `dis`; the cycle check costs a pass back through every earlier frame and is off.
    """

    window: int = 11
    levels: int = 3
    threshold: float = 1.0
    cycle: float = 0.0
    max_side: int = 1024
