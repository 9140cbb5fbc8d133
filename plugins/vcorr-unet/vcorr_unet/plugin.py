"""The plugin: which video UNets there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from vcorr import ModelEntry, hookimpl
from vcorr.diffusion import packaged_model

_entry = partial(packaged_model, "vcorr_unet")
_image = partial(_entry, config="vcorr_unet.svd:SVDConfig")

MODELS = (
    _image("svd", "svd:SVD", "Stable Video Diffusion: image to video, 14 frames of 576x1024, factorised."),
    _image("svd-xt", "svd:SVD", "Stable Video Diffusion XT: image to video, 25 frames of 576x1024, factorised."),
    _entry("modelscope", "text_to_video:TextToVideo", "ModelScope text to video: 16 frames of 256x256, factorised."),
    _entry(
        "zeroscope",
        "text_to_video:TextToVideo",
        "ZeroScope v2 576w: text to video, 24 frames of 320x576, factorised.",
    ),
    _entry(
        "animatediff",
        "animatediff:AnimateDiff",
        "AnimateDiff on Stable Diffusion 1.5: text to video, 16 frames of 512x512, factorised.",
    ),
)
"""One entry a model. Sizes are in the folder `configs/NAME`."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The video UNets."""
    return MODELS
