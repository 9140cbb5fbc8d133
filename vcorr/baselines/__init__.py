"""Baselines: predictions from the pixels of the video alone, or from nothing, without a network. numpy only.

They predict one position per video frame, on a grid whose latent frames are the video frames, at the size of the clip.
"""

from vcorr.baselines.baseline import Baseline, BaselineConfig
from vcorr.baselines.dense import DenseSearch, ZnccSearch
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
    "ZnccSearch",
]
