"""Options of the built-in trackers. Thresholds are pixels of a 256x256 frame, so they suit videos of every size."""

from __future__ import annotations

from dataclasses import dataclass

DIS_VERSION = 1
LK_VERSION = 1
PRESETS = ("ultrafast", "fast", "medium")


@dataclass(frozen=True, kw_only=True)
class DisConfig:
    """Options of `dis`.

    preset: OpenCV's "ultrafast", "fast" or "medium".
    finest_scale: finest pyramid level at which flow is computed, 0 for the full resolution, 1 for half of it; -1 for 0
    if the shorter side has less than 256 pixels, else 1.
    threshold: a point is lost if a step and its way back end farther from its start than this.
    cycle: a point is also lost if the way back over all frames ends farther from the query than this; 0 for no check.
    max_side: frames whose longer side has more pixels than this are tracked at this size; 0 for any size.
    """

    preset: str = "medium"
    finest_scale: int = -1
    threshold: float = 1.0
    cycle: float = 4.0
    max_side: int = 1024


@dataclass(frozen=True, kw_only=True)
class LkConfig:
    """Options of `lk`.

    window: side, in pixels, of the square that is compared.
    levels: number of pyramid levels above the full resolution.
    threshold, cycle, max_side: as in `dis`. The check of the cycle costs a pass back through every earlier frame and is
    off by default.
    """

    window: int = 11
    levels: int = 3
    threshold: float = 1.0
    cycle: float = 0.0
    max_side: int = 1024
