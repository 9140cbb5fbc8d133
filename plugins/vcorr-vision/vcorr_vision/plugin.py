"""The plugin: which backbones there are. Imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import ModelEntry, hookimpl


def _entry(name: str, summary: str, model: str) -> ModelEntry:
    """The entry of the model `module:Class`, whose config is `Class` and "Config"; its card has its name."""
    return ModelEntry(
        name=name,
        summary=summary,
        factory=f"vcorr_vision.{model}",
        config=f"vcorr_vision.{model}Config",
        card=f"vcorr_vision:cards/{name}.yaml",
    )


MODELS = (
    _entry("dino-s16", "DINO ViT-S/16: image backbone, without noise, frame by frame.", "dino:DINOSmall"),
    _entry("dino-b16", "DINO ViT-B/16: image backbone, without noise, frame by frame.", "dino:DINO"),
    _entry("dinov2-b14", "DINOv2 ViT-B/14: image backbone, without noise, frame by frame.", "dinov2:DINOv2"),
    _entry(
        "dinov2-b14-reg",
        "DINOv2 ViT-B/14 with registers: image backbone, without noise, frame by frame.",
        "dinov2:DINOv2Registers",
    ),
    _entry("dinov3-b16", "DINOv3 ViT-B/16: image backbone, without noise, frame by frame.", "dinov3:DINOv3"),
    _entry(
        "vjepa2-l", "V-JEPA 2 ViT-L: video backbone, without noise, full 3D attention in 24 layers.", "vjepa2:VJEPA2"
    ),
    _entry(
        "videomae-b",
        "VideoMAE ViT-B: video backbone, without noise, 16 frames of 224x224, full 3D attention in 12 layers.",
        "videomae:VideoMAE",
    ),
    _entry("dift-sd1.5", "DIFT on Stable Diffusion 1.5: an image UNet with noise, frame by frame.", "dift:DIFT15"),
    _entry("dift-sd2.1", "DIFT on Stable Diffusion 2.1: an image UNet with noise, frame by frame.", "dift:DIFT21"),
)


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The backbones."""
    return MODELS
