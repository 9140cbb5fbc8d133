"""The plugin: which HunyuanVideo models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import ModelEntry, hookimpl

VARIANTS = (
    ModelEntry(
        name="hunyuanvideo",
        summary="HunyuanVideo: text to video, 49 frames of 480x720 unless told, full 3D attention in 60 layers.",
        factory="vcorr_hunyuanvideo.model:HunyuanVideo",
        config="vcorr_hunyuanvideo.model:HunyuanVideoConfig",
        card="vcorr_hunyuanvideo:cards/hunyuanvideo.yaml",
        data="difftrack:hunyuan_t2v/fg",
    ),
)
"""One entry a model. Sizes are the defaults of its config."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The HunyuanVideo models."""
    return VARIANTS
