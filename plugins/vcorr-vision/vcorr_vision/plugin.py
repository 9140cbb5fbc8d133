"""The plugin: which backbones there are. Imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from vcorr import ModelEntry, hookimpl
from vcorr.diffusion import packaged_model

_VIT: Mapping[str, Any] = {
    "height": 32,
    "width": 48,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "dino-s16": {**_VIT, "patch_size": 8, "image_size": 24, "intermediate_size": 64},
    "dino-b16": {**_VIT, "patch_size": 8, "image_size": 24, "intermediate_size": 64},
    "dinov2-b14": {**_VIT, "patch_size": 8, "image_size": 24, "mlp_ratio": 2},
    "dinov2-b14-reg": {**_VIT, "patch_size": 8, "image_size": 24, "mlp_ratio": 2, "num_register_tokens": 3},
    "dinov3-b16": {**_VIT, "patch_size": 8, "intermediate_size": 64, "num_register_tokens": 3},
    "vjepa2-l": {**_VIT, "patch_size": 8, "mlp_ratio": 2.0, "height": 32, "width": 32, "frames": None},
    "videomae-b": {**_VIT, "patch_size": 8, "intermediate_size": 64, "frames": 6},
}
"""By backbone without noise, a size that a CPU runs in seconds: for `vcorr plugin check`, and for the tests."""


def _entry(name: str, summary: str, model: str) -> ModelEntry:
    """The entry of the model `module:Class`, whose config is `Class` and "Config"; its card has its name."""
    return ModelEntry(
        name=name,
        summary=summary,
        factory=f"vcorr_vision.{model}",
        config=f"vcorr_vision.{model}Config",
        card=f"vcorr_vision:cards/{name}.yaml",
        check=SMALL[name],
    )


_dift = partial(packaged_model, "vcorr_vision", config="vcorr_vision.dift:DIFTConfig")

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
    _dift("dift-sd1.5", "dift:DIFT", "DIFT on Stable Diffusion 1.5: an image UNet with noise, frame by frame."),
    _dift("dift-sd2.1", "dift:DIFT", "DIFT on Stable Diffusion 2.1: an image UNet with noise, frame by frame."),
)


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """The backbones."""
    return MODELS
