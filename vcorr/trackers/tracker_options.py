"""Options of the built-in trackers. Thresholds are pixels of a 256x256 frame, so they suit videos of every size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vcorr.contract.option_notes import option

DIS_VERSION = 1
LK_VERSION = 1
PRESETS = ("ultrafast", "fast", "medium")


@dataclass(frozen=True, kw_only=True)
class DisConfig:
    """Options of `dis`."""

    preset: Literal["ultrafast", "fast", "medium"] = option("medium", "Preset of OpenCV, from fast to exact.")
    finest_scale: int = option(
        -1,
        "Finest pyramid level at which flow is computed: 0 for the full resolution, 1 for half of it; -1 for 0 if"
        " the shorter side has less than 256 pixels, else 1.",
        least=-1,
    )
    threshold: float = option(
        1.0,
        "A point is lost if a step and its way back end farther from its start than this.",
        unit="pixels",
    )
    cycle: float = option(
        4.0,
        "A point is also lost if the way back over all frames ends farther from the query than this; 0 for no check.",
        unit="pixels",
        least=0,
    )
    max_side: int = option(
        1024,
        "Frames whose longer side has more pixels than this are tracked at this size; 0 for any size.",
        unit="pixels",
        least=0,
    )


@dataclass(frozen=True, kw_only=True)
class LkConfig:
    """Options of `lk`."""

    window: int = option(11, "Side of the square that is compared.", unit="pixels")
    levels: int = option(3, "Number of pyramid levels above the full resolution.", least=0)
    threshold: float = option(
        1.0,
        "A point is lost if a step and its way back end farther from its start than this.",
        unit="pixels",
    )
    cycle: float = option(
        0.0,
        "A point is also lost if the way back over all frames ends farther from the query than this; 0 for no "
        "check. The check costs a pass back through every earlier frame.",
        unit="pixels",
        least=0,
    )
    max_side: int = option(
        1024,
        "Frames whose longer side has more pixels than this are tracked at this size; 0 for any size.",
        unit="pixels",
        least=0,
    )
