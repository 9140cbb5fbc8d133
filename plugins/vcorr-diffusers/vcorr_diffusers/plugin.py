"""The plugin: which models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import ModelEntry, hookimpl


def _entry(name: str, summary: str, model: str, config: str = "") -> ModelEntry:
    """The entry of a model: "module:Class" inside this package, its options in a class named after it unless told."""
    module, _, label = model.partition(":")
    return ModelEntry(
        name=name,
        summary=summary,
        factory=f"vcorr_diffusers.{model}",
        config=f"vcorr_diffusers.{module}:{config or label + 'Config'}",
        card=f"vcorr_diffusers:cards/{name}.yaml",
    )


MODELS = (
    _entry("ltx-video", "LTX-Video: text to video, 161 frames of 512x704 in large tokens, 28 layers.", "ltx:LTX"),
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
