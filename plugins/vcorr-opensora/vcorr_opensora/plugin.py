"""The plugin: which Open-Sora models there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import ModelEntry, hookimpl

VARIANTS = (
    ModelEntry(
        name="open-sora-2.0",
        summary="Open-Sora 2.0: text to video, 129 frames of 192x336, full 3D attention in 57 layers.",
        factory="vcorr_opensora.model:OpenSora2",
        config="vcorr_opensora.model:OpenSora2Config",
        card="vcorr_opensora:cards/open-sora-2.0.yaml",
    ),
    ModelEntry(
        name="open-sora",
        summary="Another name of open-sora-2.0.",
        factory="vcorr_opensora.model:OpenSora2",
        config="vcorr_opensora.model:OpenSora2Config",
        card="vcorr_opensora:cards/open-sora-2.0.yaml",
    ),
    ModelEntry(
        name="open-sora-2.0-i2v",
        summary="Open-Sora 2.0 from an image: the same weights, told the first frame.",
        factory="vcorr_opensora.model:OpenSora2ImageToVideo",
        config="vcorr_opensora.model:OpenSora2Config",
        card="vcorr_opensora:cards/open-sora-2.0-i2v.yaml",
    ),
    ModelEntry(
        name="open-sora-1.2",
        summary="Open-Sora 1.2: text to video, 51 frames of 240x432, space and time apart in 28 pairs of layers.",
        factory="vcorr_opensora.v1.model:OpenSora1",
        config="vcorr_opensora.v1.model:OpenSora1Config",
        card="vcorr_opensora:cards/open-sora-1.2.yaml",
    ),
)


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The Open-Sora models."""
    return VARIANTS
