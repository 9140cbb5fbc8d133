"""The plugin: which models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vcorr import ModelEntry, hookimpl

_TRANSFORMER = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "text_tokens": 6}
_COSMOS = {
    **_TRANSFORMER,
    "height": 64,
    "width": 96,
    "frames": 17,
    "text_embed_dim": 16,
    "adaln_lora_dim": 4,
    "max_size": (4, 12, 16),
    "padding_mask": False,
    "vae_channels": (8,) * 4,
    "decoder_channels": (8,) * 4,
    "vae_layers": 1,
}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "ltx-video": {
        **_TRANSFORMER,
        "height": 64,
        "width": 96,
        "frames": 17,
        "caption_channels": 16,
        "vae_channels": (8, 8, 8, 8),
        "vae_layers": (1,) * 5,
    },
    "mochi": {
        **_TRANSFORMER,
        "height": 48,
        "width": 64,
        "frames": 13,
        "text_embed_dim": 16,
        "pooled_projection_dim": 24,
        "vae_channels": (32,) * 4,
        "decoder_channels": (32,) * 4,
        "vae_layers": (1,) * 5,
    },
    "cosmos-7b": _COSMOS,
    "cosmos-14b": _COSMOS,
    "allegro": {
        **_TRANSFORMER,
        "height": 128,
        "width": 128,
        "frames": 24,
        "attention_head_dim": 24,
        "caption_channels": 16,
        "vae_channels": (4,) * 4,
        "vae_layers_per_block": 1,
        "vae_norm_groups": 2,
        "vae_tile": 128,
    },
    "easyanimate": {
        **_TRANSFORMER,
        "height": 48,
        "width": 64,
        "frames": 9,
        "mmdit_layers": 1,
        "time_embed_dim": 16,
        "text_embed_dim": 16,
        "vae_channels": (8, 8, 8, 8),
        "vae_layers_per_block": 1,
        "vae_norm_groups": 4,
    },
    "latte": {
        **_TRANSFORMER,
        "height": 48,
        "width": 64,
        "frames": 5,
        "caption_channels": 16,
        "vae_channels": (8, 8, 8, 8),
        "vae_layers_per_block": 1,
        "vae_norm_groups": 4,
    },
    "sana-video": {
        **_TRANSFORMER,
        "height": 64,
        "width": 96,
        "frames": 9,
        "caption_channels": 16,
        "vae_width": 4,
        "vae_levels": (1, 1, 1, 1),
        "vae_resnets": 1,
    },
}
"""By model, a size that a CPU runs in seconds: for `vcorr plugin check`, and for the tests of this plugin."""


def _entry(name: str, summary: str, model: str, config: str = "") -> ModelEntry:
    """The entry of a model: "module:Class" inside this package, its options in a class named after it unless told."""
    module, _, label = model.partition(":")
    return ModelEntry(
        name=name,
        summary=summary,
        factory=f"vcorr_diffusers.{model}",
        config=f"vcorr_diffusers.{module}:{config or label + 'Config'}",
        card=f"vcorr_diffusers:cards/{name}.yaml",
        check=SMALL[name],
    )


MODELS = (
    ModelEntry(name="ltx-video", summary="LTX-Video: text to video, 161 frames of 512x704 in large tokens, 28 layers.", factory="vcorr_diffusers.ltx:LTX", config="vcorr.diffusion:VideoConfig", card="vcorr_diffusers:cards/ltx-video.yaml", configs="vcorr_diffusers:configs/ltx-video", check={"size": "small"}),
    _entry("mochi", "Mochi 1: text to video, 163 frames of 480x848, joint attention in 48 layers.", "mochi:Mochi"),
    _entry("cosmos-7b", "Cosmos 1 Text2World 7B: 121 frames of 704x1280, EDM noise, 28 layers.", "cosmos:Cosmos"),
    _entry("cosmos-14b", "Cosmos 1 Text2World 14B: 121 frames of 704x1280, EDM noise, 36 layers.", "cosmos:Cosmos14B"),
    _entry("allegro", "Allegro: text to video, 88 frames of 720x1280, not causal, 32 layers.", "allegro:Allegro"),
    _entry(
        "easyanimate",
        "EasyAnimate 5.1 12B: text to video, 49 frames of 512x512, joint attention in 48 layers.",
        "easyanimate:EasyAnimate",
    ),
    _entry("latte", "Latte: text to video, 16 frames of 512x512, attention over space or time alone.", "latte:Latte"),
    _entry("sana-video", "SANA-Video 2B: text to video, 81 frames of 480x832, linear attention.", "sana:SanaVideo"),
)
"""One entry a model. Sizes are the defaults of its config."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The models of this package."""
    return MODELS
