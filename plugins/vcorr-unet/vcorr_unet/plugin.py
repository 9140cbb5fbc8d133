"""The plugin: which video UNets there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vcorr import ModelEntry, hookimpl

_SIZES = {
    "height": 32,
    "width": 48,
    "frames": 3,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "vae_channels": (32, 32, 32),
    "vae_layers_per_block": 1,
}
_IMAGE = {**_SIZES, "num_attention_heads": (2, 4), "time_embed_dim": 8}
_TEXT = {**_SIZES, "attention_head_dim": 8, "text_tokens": 6}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "svd": _IMAGE,
    "svd-xt": _IMAGE,
    "modelscope": _TEXT,
    "zeroscope": _TEXT,
    "animatediff": {**_SIZES, "num_attention_heads": 2, "motion_num_attention_heads": 4, "text_tokens": 6},
}
"""By model, a size that a CPU runs in seconds: for `vcorr plugin check`, and for the tests of this plugin."""


def _entry(name: str, summary: str, model: str) -> ModelEntry:
    """The entry of the model `module:Class`, whose config is `Class` and "Config"; its card has its name."""
    return ModelEntry(
        name=name,
        summary=summary,
        factory=f"vcorr_unet.{model}",
        config=f"vcorr_unet.{model}Config",
        card=f"vcorr_unet:cards/{name}.yaml",
        check=SMALL[name],
    )


MODELS = (
    _entry("svd", "Stable Video Diffusion: image to video, 14 frames of 576x1024, factorised.", "svd:SVD"),
    _entry("svd-xt", "Stable Video Diffusion XT: image to video, 25 frames of 576x1024, factorised.", "svd:SVDXT"),
    _entry(
        "modelscope",
        "ModelScope text to video: 16 frames of 256x256, factorised.",
        "text_to_video:ModelScope",
    ),
    _entry(
        "zeroscope", "ZeroScope v2 576w: text to video, 24 frames of 320x576, factorised.", "text_to_video:ZeroScope"
    ),
    _entry(
        "animatediff",
        "AnimateDiff on Stable Diffusion 1.5: text to video, 16 frames of 512x512, factorised.",
        "animatediff:AnimateDiff",
    ),
)


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The video UNets."""
    return MODELS
