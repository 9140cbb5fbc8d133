"""Lists the Open-Sora models for vcorr. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from vcorr import ModelEntry, hookimpl
from vcorr.diffusion import packaged_model

_entry = partial(packaged_model, "vcorr_opensora")
_second = partial(_entry, config="vcorr_opensora.model:OpenSora2Config", configs="vcorr_opensora:configs/open-sora-2.0")

VARIANTS = (
    _second(
        "open-sora-2.0",
        "model:OpenSora2",
        "Open-Sora 2.0: text to video, 129 frames of 192x336, full 3D attention in 57 layers.",
    ),
    _second(
        "open-sora",
        "model:OpenSora2",
        "Another name of open-sora-2.0.",
        card="vcorr_opensora:cards/open-sora-2.0.yaml",
    ),
    _second(
        "open-sora-2.0-i2v",
        "model:OpenSora2ImageToVideo",
        "Open-Sora 2.0: image to video, with the weights of open-sora-2.0.",
    ),
    _entry(
        "open-sora-1.2",
        "v1.model:OpenSora1",
        "Open-Sora 1.2: text to video, 51 frames of 240x432, factorised attention in 28 pairs of layers.",
        config="vcorr_opensora.v1.model:OpenSora1Config",
    ),
)
"""One entry per model. The sizes of a model are in the folder `configs/NAME`."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """Returns the entries of the Open-Sora models."""
    return VARIANTS
