"""The plugin: which CogVideoX models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import ModelEntry, hookimpl

VARIANTS = (
    ModelEntry(
        name="cogvideox",
        summary="CogVideoX-2B: text to video, 49 frames of 480x720, full 3D attention in 30 layers.",
        factory="vcorr_cogvideox.model:CogVideoX",
        config="vcorr_cogvideox.model:CogVideoXConfig",
        card="vcorr_cogvideox:cards/cogvideox.yaml",
    ),
)
"""One entry a released model. Sizes are the defaults of its config; a variant that differs in sizes alone is a
subclass of `CogVideoXConfig` with other defaults and one of `CogVideoX` with another card."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The CogVideoX models."""
    return VARIANTS
