"""The plugin: which Open-Sora models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vcorr import ModelEntry, hookimpl

SMALL_2: Mapping[str, Any] = {
    "height": 32,
    "width": 48,
    "frames": 9,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "text_embed_dim": 24,
    "pooled_embed_dim": 12,
    "max_text_seq_length": 6,
    "latent_channels": 4,
    "vae_channels": (8, 8, 8, 8),
    "vae_layers_per_block": 1,
    "vae_norm_groups": 4,
}
SMALL_1: Mapping[str, Any] = {
    "height": 32,
    "width": 48,
    "frames": 21,
    "depth": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "text_embed_dim": 24,
    "max_text_seq_length": 40,
    "vae_channels": (32, 32, 32, 32),
    "vae_layers_per_block": 1,
    "temporal_width": 32,
    "temporal_layers": 1,
}
"""Sizes that a CPU runs in seconds: for `vcorr plugin check`, and for the tests of this plugin."""

VARIANTS = (
    ModelEntry(
        name="open-sora-2.0",
        summary="Open-Sora 2.0: text to video, 129 frames of 192x336, full 3D attention in 57 layers.",
        factory="vcorr_opensora.model:OpenSora2",
        config="vcorr_opensora.model:OpenSora2Config",
        card="vcorr_opensora:cards/open-sora-2.0.yaml",
        check=SMALL_2,
    ),
    ModelEntry(
        name="open-sora",
        summary="Another name of open-sora-2.0.",
        factory="vcorr_opensora.model:OpenSora2",
        config="vcorr_opensora.model:OpenSora2Config",
        card="vcorr_opensora:cards/open-sora-2.0.yaml",
        check=SMALL_2,
    ),
    ModelEntry(
        name="open-sora-2.0-i2v",
        summary="Open-Sora 2.0 from an image: the same weights, told the first frame.",
        factory="vcorr_opensora.model:OpenSora2ImageToVideo",
        config="vcorr_opensora.model:OpenSora2Config",
        card="vcorr_opensora:cards/open-sora-2.0-i2v.yaml",
        check=SMALL_2,
    ),
    ModelEntry(
        name="open-sora-1.2",
        summary="Open-Sora 1.2: text to video, 51 frames of 240x432, space and time apart in 28 pairs of layers.",
        factory="vcorr_opensora.v1.model:OpenSora1",
        config="vcorr_opensora.v1.model:OpenSora1Config",
        card="vcorr_opensora:cards/open-sora-1.2.yaml",
        check={**SMALL_1, "height": 64, "width": 96},
    ),
)


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The Open-Sora models."""
    return VARIANTS
