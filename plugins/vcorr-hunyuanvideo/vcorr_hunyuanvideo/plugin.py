"""Lists the HunyuanVideo models for vcorr. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from vcorr import ModelEntry, hookimpl
from vcorr.diffusion import packaged_model

_entry = partial(packaged_model, "vcorr_hunyuanvideo", data="difftrack:hunyuan_t2v/fg")
_entry15 = partial(_entry, adapter="model15:HunyuanVideo15", config="vcorr_hunyuanvideo.model15:HunyuanVideo15Config")

MODELS = (
    _entry(
        "hunyuanvideo",
        adapter="model:HunyuanVideo",
        config="vcorr_hunyuanvideo.model:HunyuanVideoConfig",
        summary="HunyuanVideo: text to video, 49 frames of 480x720 by default, full 3D attention in 60 layers.",
    ),
    _entry15(
        "hunyuanvideo-1.5",
        summary="HunyuanVideo 1.5: text to video, 121 frames of 480x848, full 3D attention in 54 layers.",
    ),
    _entry15(
        "hunyuanvideo-1.5-720p",
        summary="HunyuanVideo 1.5 for 720p: text to video, 121 frames of 720x1280, 54 layers.",
    ),
)
"""One entry per model. The sizes of a model are in the folder `configs/NAME`."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """Returns the entries of the HunyuanVideo models."""
    return MODELS
