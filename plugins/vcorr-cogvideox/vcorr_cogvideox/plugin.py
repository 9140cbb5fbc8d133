"""Lists the CogVideoX models for vcorr. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vcorr import ModelEntry, hookimpl
from vcorr.diffusion import packaged_model

PACKAGE = "vcorr_cogvideox"


def _entry(name: str, adapter: str, data: str, summary: str, **more: Any) -> ModelEntry:
    """Returns the entry of a model. data: the model in DiffTrack's dataset whose prompts (and images) fit this one."""
    return packaged_model(PACKAGE, name, f"model:{adapter}", summary, data=f"difftrack:{data}/fg", **more)


VARIANTS = (
    _entry(
        "cogvideox",
        "CogVideoX",
        "cogvideox_t2v_2b",
        "CogVideoX-2B: text to video, 49 frames of 480x720, full 3D attention in 30 layers.",
    ),
    _entry(
        "cogvideox-5b",
        "CogVideoX",
        "cogvideox_t2v_5b",
        "CogVideoX-5B: text to video, 49 frames of 480x720, full 3D attention in 42 layers.",
    ),
    _entry(
        "cogvideox-1.5-5b",
        "CogVideoX",
        "cogvideox_t2v_5b",
        "CogVideoX1.5-5B: text to video, 81 frames of 768x1360, two latent frames per token, 42 layers.",
    ),
    _entry(
        "cogvideox-2b-i2v",
        "CogVideoXStillToVideo",
        "cogvideox_i2v_2b",
        "CogVideoX-2B-I2V, by the community: image to video, 49 frames of 480x720, 30 layers.",
    ),
    _entry(
        "cogvideox-i2v",
        "CogVideoXStillToVideo",
        "cogvideox_i2v_2b",
        "Another name of cogvideox-2b-i2v, the image-to-video version of cogvideox.",
        card=f"{PACKAGE}:cards/cogvideox-2b-i2v.yaml",
        configs=f"{PACKAGE}:configs/cogvideox-2b-i2v",
    ),
    _entry(
        "cogvideox-5b-i2v",
        "CogVideoXImageToVideo",
        "cogvideox_i2v_5b",
        "CogVideoX-5B-I2V: image to video, 49 frames of 480x720, full 3D attention in 42 layers.",
    ),
    _entry(
        "cogvideox-1.5-5b-i2v",
        "CogVideoXImageToVideo",
        "cogvideox_i2v_5b",
        "CogVideoX1.5-5B-I2V: image to video, 81 frames of 768x1360, two latent frames per token, 42 layers.",
    ),
)
"""One entry per model. The sizes of a model are in the folder `configs/NAME`."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """Returns the entries of the CogVideoX models."""
    return VARIANTS
