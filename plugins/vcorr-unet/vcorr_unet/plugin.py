"""The plugin: which video UNets there are. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import ModelEntry, hookimpl


def _entry(name: str, summary: str, model: str) -> ModelEntry:
    """The entry of the model `module:Class`, whose config is `Class` and "Config"; its card has its name."""
    return ModelEntry(
        name=name,
        summary=summary,
        factory=f"vcorr_unet.{model}",
        config=f"vcorr_unet.{model}Config",
        card=f"vcorr_unet:cards/{name}.yaml",
    )


MODELS = (
    _entry("svd", "Stable Video Diffusion: image to video, 14 frames of 576x1024, factorised.", "svd:SVD"),
    _entry("svd-xt", "Stable Video Diffusion XT: image to video, 25 frames of 576x1024, factorised.", "svd:SVDXT"),
    _entry(
        "modelscope",
        "ModelScope text to video: 16 frames of 256x256, factorised.",
        "text_to_video:ModelScope",
    ),
    _entry(
        "zeroscope", "ZeroScope v2 576w: text to video, 24 frames of 320x576, factorised.", "text_to_video:ZeroScope"
    ),
    _entry(
        "animatediff",
        "AnimateDiff on Stable Diffusion 1.5: text to video, 16 frames of 512x512, factorised.",
        "animatediff:AnimateDiff",
    ),
)


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The video UNets."""
    return MODELS
