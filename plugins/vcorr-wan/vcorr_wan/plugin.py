"""Lists the Wan models for vcorr. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from vcorr import ModelEntry, hookimpl
from vcorr.diffusion import packaged_model

_entry = partial(packaged_model, "vcorr_wan", config="vcorr_wan.model:WanConfig")
_text = partial(_entry, adapter="model:Wan", data="difftrack:cogvideox_t2v_5b/fg")
_image = partial(_entry, adapter="model:WanImageToVideo", data="difftrack:cogvideox_i2v_5b/fg")

MODELS = (
    _text(
        "wan2.1-1.3b", summary="Wan 2.1 1.3B: text to video, 81 frames of 480x832, full 3D self-attention in 30 layers."
    ),
    _text(
        "wan2.1-14b",
        summary="Wan 2.1 14B: text to video, 81 frames of 480x832 by default, full 3D self-attention in 40 layers.",
    ),
    _image("wan2.1-14b-i2v-480p", summary="Wan 2.1 14B I2V: image to video, 81 frames of 480x832, 40 layers."),
    _image("wan2.1-14b-i2v-720p", summary="Wan 2.1 14B I2V: image to video, 81 frames of 720x1280, 40 layers."),
    _text(
        "wan2.2-a14b",
        summary="Wan 2.2 A14B: text to video, 81 frames of 480x832 by default, two transformers of 40 layers.",
    ),
    _image(
        "wan2.2-a14b-i2v",
        summary="Wan 2.2 A14B I2V: image to video, 81 frames of 480x832 by default, two transformers of 40 layers.",
    ),
    _text(
        "wan2.2-5b", summary="Wan 2.2 TI2V 5B: text to video, 121 frames of 704x1280, tokens of 32 pixels, 30 layers."
    ),
    _image(
        "wan2.2-5b-i2v",
        summary="Wan 2.2 TI2V 5B: image to video, 121 frames of 704x1280, tokens of 32 pixels, 30 layers.",
    ),
    _text(
        "skyreels-v2-14b-540p",
        adapter="model:SkyReels",
        summary="SkyReels V2 14B: text to video, 97 frames of 544x960, full 3D self-attention in 40 layers.",
    ),
)
"""One entry per model. The sizes of a model are in the folder `configs/NAME`."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """Returns the entries of the Wan models."""
    return MODELS
