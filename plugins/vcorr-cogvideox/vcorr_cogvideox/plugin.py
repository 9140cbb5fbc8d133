"""The plugin: which CogVideoX models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vcorr import ModelEntry, hookimpl

SMALL: Mapping[str, Any] = {
    "height": 64,
    "width": 96,
    "frames": 9,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "text_embed_dim": 24,
    "max_text_seq_length": 6,
    "time_embed_dim": 8,
    "latent_channels": 4,
    "vae_channels": (8, 8, 8, 8),
    "vae_layers_per_block": 1,
    "vae_norm_groups": 4,
}
"""A size that a CPU runs in seconds: for `vcorr plugin check`, and for the tests of this plugin."""
_MORE: Mapping[str, Mapping[str, Any]] = {
    "cogvideox-1.5-5b": {"position_size": (12, 16)},
    "cogvideox-1.5-5b-i2v": {"position_size": (12, 16), "strength_embed_dim": 8},
}


def _entry(name: str, summary: str, model: str, config: str, data: str, card: str = "") -> ModelEntry:
    """The entry of a model whose classes are in `vcorr_cogvideox.model`; its card has its name unless told.

    data: the model of DiffTrack's dataset whose prompts (and images) fit it.
    """
    return ModelEntry(
        name=name,
        summary=summary,
        factory=f"vcorr_cogvideox.model:{model}",
        config=f"vcorr_cogvideox.model:{config}",
        card=f"vcorr_cogvideox:cards/{card or name}.yaml",
        check={**SMALL, **_MORE.get(name, {})},
        data=f"difftrack:{data}/fg",
    )


VARIANTS = (
    _entry(
        "cogvideox",
        "CogVideoX-2B: text to video, 49 frames of 480x720, full 3D attention in 30 layers.",
        "CogVideoX",
        "CogVideoXConfig",
        "cogvideox_t2v_2b",
    ),
    _entry(
        "cogvideox-5b",
        "CogVideoX-5B: text to video, 49 frames of 480x720, full 3D attention in 42 layers.",
        "CogVideoX5B",
        "CogVideoX5BConfig",
        "cogvideox_t2v_5b",
    ),
    _entry(
        "cogvideox-1.5-5b",
        "CogVideoX1.5-5B: text to video, 81 frames of 768x1360, two latents a token, 42 layers.",
        "CogVideoX15",
        "CogVideoX15Config",
        "cogvideox_t2v_5b",
    ),
    _entry(
        "cogvideox-2b-i2v",
        "CogVideoX-2B-I2V: image to video, by the community; 49 frames of 480x720, 30 layers.",
        "CogVideoX2BImageToVideo",
        "CogVideoXConfig",
        "cogvideox_i2v_2b",
    ),
    _entry(
        "cogvideox-i2v",
        "Another name of cogvideox-2b-i2v, the image-to-video model beside cogvideox.",
        "CogVideoX2BImageToVideo",
        "CogVideoXConfig",
        "cogvideox_i2v_2b",
        card="cogvideox-2b-i2v",
    ),
    _entry(
        "cogvideox-5b-i2v",
        "CogVideoX-5B-I2V: image to video, 49 frames of 480x720, full 3D attention in 42 layers.",
        "CogVideoXImageToVideo",
        "CogVideoX5BImageConfig",
        "cogvideox_i2v_5b",
    ),
    _entry(
        "cogvideox-1.5-5b-i2v",
        "CogVideoX1.5-5B-I2V: image to video, 81 frames of 768x1360, two latents a token, 42 layers.",
        "CogVideoX15ImageToVideo",
        "CogVideoX15ImageConfig",
        "cogvideox_i2v_5b",
    ),
)
"""One entry a model. Sizes are the defaults of its config; a variant that differs in sizes alone is a subclass of
`CogVideoXConfig` with other defaults and one of `CogVideoX` with another card."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The CogVideoX models."""
    return VARIANTS
