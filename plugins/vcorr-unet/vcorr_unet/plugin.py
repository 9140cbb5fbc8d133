"""Lists the video UNets for vcorr. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from vcorr import ModelEntry, hookimpl
from vcorr.diffusion import packaged_model

_entry = partial(packaged_model, "vcorr_unet")
_image = partial(_entry, config="vcorr_unet.svd:SVDConfig")

MODELS = (
    _image("svd", "svd:SVD", "Stable Video Diffusion: image to video, 14 frames of 576x1024, factorised attention."),
    _image(
        "svd-xt", "svd:SVD", "Stable Video Diffusion XT: image to video, 25 frames of 576x1024, factorised attention."
    ),
    _entry(
        "modelscope",
        "text_to_video:TextToVideo",
        "ModelScope: text to video, 16 frames of 256x256, factorised attention.",
    ),
    _entry(
        "zeroscope",
        "text_to_video:TextToVideo",
        "ZeroScope v2 576w: text to video, 24 frames of 320x576, factorised attention.",
    ),
    _entry(
        "animatediff",
        "animatediff:AnimateDiff",
        "AnimateDiff on Stable Diffusion 1.5: text to video, 16 frames of 512x512, factorised attention.",
    ),
)
"""One entry per model. The sizes of a model are in the folder `configs/NAME`."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """Returns the entries of the video UNets."""
    return MODELS
