"""Guides pipelines of your own while they sample (docs/guidance.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.guidance.frame_guider import CrossFrameGuidance as CrossFrameGuidance
    from vcorr.guidance.own_pipeline import guide as guide
else:
    from vcorr.contract.lazy_names import lazy_names

    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "vcorr.guidance.frame_guider": "CrossFrameGuidance",
            "vcorr.guidance.own_pipeline": "guide",
        },
    )
