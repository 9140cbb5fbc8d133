"""Lists the models for vcorr. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from vcorr import ModelEntry, hookimpl
from vcorr.diffusion import packaged_model

_entry = partial(packaged_model, "vcorr_diffusers")
_tuned = partial(_entry, config="vcorr.diffusion:AuthorsConfig")

MODELS = (
    _tuned("ltx-video", "ltx:LTX", "LTX-Video: text to video, 161 frames of 512x704 in large tokens, 28 layers."),
    _tuned("mochi", "mochi:Mochi", "Mochi 1: text to video, 163 frames of 480x848, joint attention in 48 layers."),
    _tuned("cosmos-7b", "cosmos:Cosmos", "Cosmos 1 Text2World 7B: 121 frames of 704x1280, EDM noise, 28 layers."),
    _tuned("cosmos-14b", "cosmos:Cosmos", "Cosmos 1 Text2World 14B: 121 frames of 704x1280, EDM noise, 36 layers."),
    _tuned("allegro", "allegro:Allegro", "Allegro: text to video, 88 frames of 720x1280, not causal, 32 layers."),
    _tuned(
        "easyanimate",
        "easyanimate:EasyAnimate",
        "EasyAnimate 5.1 12B: text to video, 49 frames of 384x672, joint attention in 48 layers.",
    ),
    _entry("latte", "latte:Latte", "Latte: text to video, 16 frames of 512x512, factorised attention."),
    _tuned("sana-video", "sana:SanaVideo", "SANA-Video 2B: text to video, 81 frames of 480x832, linear attention."),
)
"""One entry per model. The sizes of a model are in the folder `configs/NAME`."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """Returns the entries of the models."""
    return MODELS
