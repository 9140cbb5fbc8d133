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
    ModelEntry(
        name="hunyuanvideo-1.5",
        summary="HunyuanVideo 1.5: text to video, 121 frames of 480x848, full 3D attention in 54 layers.",
        factory="vcorr_hunyuanvideo.model15:HunyuanVideo15",
        config="vcorr_hunyuanvideo.model15:HunyuanVideo15Config",
        card="vcorr_hunyuanvideo:cards/hunyuanvideo-1.5.yaml",
        data="difftrack:hunyuan_t2v/fg",
    ),
    ModelEntry(
        name="hunyuanvideo-1.5-720p",
        summary="HunyuanVideo 1.5 for 720p: text to video, 121 frames of 720x1280, 54 layers.",
        factory="vcorr_hunyuanvideo.model15:HunyuanVideo15For720",
        config="vcorr_hunyuanvideo.model15:HunyuanVideo15Config720",
        card="vcorr_hunyuanvideo:cards/hunyuanvideo-1.5-720p.yaml",
        data="difftrack:hunyuan_t2v/fg",
    ),
)
"""One entry a model. Sizes are the defaults of its config."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The HunyuanVideo models."""
    return VARIANTS
