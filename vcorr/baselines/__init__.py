"""Baselines: what can be answered from the pixels of the video alone, or from nothing, without any model. numpy only.

All of them answer once a video frame, on a grid whose latents are the frames, and at the size the clip has.
"""

from vcorr.baselines.baseline import Baseline, BaselineConfig
from vcorr.baselines.dense import DenseSearch
from vcorr.baselines.ignorant import PositionOnly, RandomToken, ZeroMotion
from vcorr.baselines.tokens import NearestColour, TokenPatches

__all__ = [
    "Baseline",
    "BaselineConfig",
    "DenseSearch",
    "NearestColour",
    "PositionOnly",
    "RandomToken",
    "TokenPatches",
    "ZeroMotion",
]
