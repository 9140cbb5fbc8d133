"""The plugin: which Wan models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from vcorr import ModelEntry, hookimpl

SMALL: Mapping[str, Any] = {
    "height": 64,
    "width": 96,
    "frames": 9,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "ffn_dim": 16,
    "freq_dim": 16,
    "text_dim": 8,
    "rope_max_seq_len": 16,
    "latent_channels": 4,
    "vae_dim": 4,
}
"""A size that a CPU runs in seconds: for `vcorr plugin check`, and for the tests of this plugin."""
_SEES_IMAGE = {"image_dim": 8}
_WIDE_DECODER = {"vae_decoder_dim": 8}


def _entry(
    name: str, summary: str, model: str, config: str, more: Mapping[str, Any] = MappingProxyType({})
) -> ModelEntry:
    """The entry of a model whose classes are in `vcorr_wan.model` and whose card has its name.

    more: of its small size, beside `SMALL`. By default its prompts, and the images of a model that starts from one, are
    those of the paper's dataset.
    """
    prompts = "cogvideox_i2v_5b" if "i2v" in name else "cogvideox_t2v_5b"
    return ModelEntry(
        name=name,
        summary=summary,
        factory=f"vcorr_wan.model:{model}",
        config=f"vcorr_wan.model:{config}",
        card=f"vcorr_wan:cards/{name}.yaml",
        check={**SMALL, **more},
        data=f"difftrack:{prompts}/fg",
    )


VARIANTS = (
    _entry(
        "wan2.1-1.3b",
        "Wan 2.1 1.3B: text to video, 81 frames of 480x832, full 3D self-attention in 30 layers.",
        "Wan",
        "WanConfig",
    ),
    _entry(
        "wan2.1-14b",
        "Wan 2.1 14B: text to video, 81 frames of 480x832 unless told, full 3D self-attention in 40 layers.",
        "Wan14B",
        "Wan14BConfig",
    ),
    _entry(
        "wan2.1-14b-i2v-480p",
        "Wan 2.1 14B I2V: image to video, 81 frames of 480x832, 40 layers.",
        "WanImageToVideo",
        "Wan14BImageConfig",
        _SEES_IMAGE,
    ),
    _entry(
        "wan2.1-14b-i2v-720p",
        "Wan 2.1 14B I2V: image to video, 81 frames of 720x1280, 40 layers.",
        "WanImageToVideo720",
        "Wan14BImage720Config",
        _SEES_IMAGE,
    ),
    _entry(
        "wan2.2-a14b",
        "Wan 2.2 A14B: text to video, 81 frames of 480x832 unless told, two transformers of 40 layers taking turns.",
        "WanA14B",
        "WanA14BConfig",
    ),
    _entry(
        "wan2.2-a14b-i2v",
        "Wan 2.2 A14B I2V: image to video, 81 frames of 480x832 unless told, two transformers of 40 layers.",
        "WanA14BImageToVideo",
        "WanA14BImageConfig",
    ),
    _entry(
        "wan2.2-5b",
        "Wan 2.2 TI2V 5B from text: 121 frames of 704x1280, tokens of 32 pixels, 30 layers.",
        "Wan5B",
        "Wan5BConfig",
        _WIDE_DECODER,
    ),
    _entry(
        "wan2.2-5b-i2v",
        "Wan 2.2 TI2V 5B from an image and text: 121 frames of 704x1280, tokens of 32 pixels, 30 layers.",
        "Wan5BImageToVideo",
        "Wan5BConfig",
        _WIDE_DECODER,
    ),
    _entry(
        "skyreels-v2-14b-540p",
        "SkyReels V2 14B: text to video, 97 frames of 544x960, full 3D self-attention in 40 layers.",
        "SkyReels",
        "SkyReelsConfig",
    ),
)
"""One entry a model. Sizes are the defaults of its config; a variant that differs in sizes alone is a subclass of a
config with other defaults and one of an adapter with another card."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The Wan models."""
    return VARIANTS
