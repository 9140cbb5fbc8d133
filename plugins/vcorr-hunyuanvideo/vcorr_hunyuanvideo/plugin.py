"""The plugin: which HunyuanVideo models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vcorr import ModelEntry, hookimpl

SMALL: Mapping[str, Any] = {
    "height": 64,
    "width": 96,
    "frames": 9,
    "num_layers": 1,
    "num_single_layers": 2,
    "num_refiner_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "rope_axes_dim": (4, 4, 4),
    "text_embed_dim": 16,
    "pooled_dim": 8,
    "max_text_seq_length": 6,
    "latent_channels": 4,
    "vae_channels": (8, 8, 8, 8),
    "vae_layers_per_block": 1,
    "vae_norm_groups": 4,
}
SMALL_15: Mapping[str, Any] = {
    "height": 64,
    "width": 96,
    "frames": 9,
    "num_layers": 2,
    "num_refiner_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "rope_axes_dim": (4, 4, 4),
    "text_embed_dim": 16,
    "text_embed_2_dim": 8,
    "image_embed_dim": 8,
    "text_tokens": 6,
    "glyph_tokens": 4,
    "image_tokens": 3,
    "latent_channels": 4,
    "vae_channels": (16, 16, 16, 16, 16),
    "vae_layers_per_block": 1,
}
"""Sizes that a CPU runs in seconds: for `vcorr plugin check`, and for the tests of this plugin."""

VARIANTS = (
    ModelEntry(
        name="hunyuanvideo",
        summary="HunyuanVideo: text to video, 49 frames of 480x720 unless told, full 3D attention in 60 layers.",
        factory="vcorr_hunyuanvideo.model:HunyuanVideo",
        config="vcorr_hunyuanvideo.model:HunyuanVideoConfig",
        card="vcorr_hunyuanvideo:cards/hunyuanvideo.yaml",
        check=SMALL,
        data="difftrack:hunyuan_t2v/fg",
    ),
    ModelEntry(
        name="hunyuanvideo-1.5",
        summary="HunyuanVideo 1.5: text to video, 121 frames of 480x848, full 3D attention in 54 layers.",
        factory="vcorr_hunyuanvideo.model15:HunyuanVideo15",
        config="vcorr_hunyuanvideo.model15:HunyuanVideo15Config",
        card="vcorr_hunyuanvideo:cards/hunyuanvideo-1.5.yaml",
        check=SMALL_15,
        data="difftrack:hunyuan_t2v/fg",
    ),
    ModelEntry(
        name="hunyuanvideo-1.5-720p",
        summary="HunyuanVideo 1.5 for 720p: text to video, 121 frames of 720x1280, 54 layers.",
        factory="vcorr_hunyuanvideo.model15:HunyuanVideo15For720",
        config="vcorr_hunyuanvideo.model15:HunyuanVideo15Config720",
        card="vcorr_hunyuanvideo:cards/hunyuanvideo-1.5-720p.yaml",
        check=SMALL_15,
        data="difftrack:hunyuan_t2v/fg",
    ),
)
"""One entry a model. Sizes are the defaults of its config."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The HunyuanVideo models."""
    return VARIANTS
