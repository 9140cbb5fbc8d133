"""Baselines: predictions from the pixels of the video alone, or from nothing, without a network. numpy only.

They predict one position per video frame, on a grid whose latent frames are the video frames, at the size of the clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.baselines.baseline import Baseline as Baseline
    from vcorr.baselines.baseline import BaselineConfig as BaselineConfig
    from vcorr.baselines.dense import DenseSearch as DenseSearch
    from vcorr.baselines.dense import ZnccSearch as ZnccSearch
    from vcorr.baselines.ignorant import PositionOnly as PositionOnly
    from vcorr.baselines.ignorant import RandomToken as RandomToken
    from vcorr.baselines.ignorant import ZeroMotion as ZeroMotion
    from vcorr.baselines.tokens import NearestColour as NearestColour
    from vcorr.baselines.tokens import TokenPatches as TokenPatches
else:
    from vcorr.contract.lazy_names import lazy_names

    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "vcorr.baselines.baseline": "Baseline BaselineConfig",
            "vcorr.baselines.dense": "DenseSearch ZnccSearch",
            "vcorr.baselines.ignorant": "PositionOnly RandomToken ZeroMotion",
            "vcorr.baselines.tokens": "NearestColour TokenPatches",
        },
    )
