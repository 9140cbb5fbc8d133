"""Lists the backbones for vcorr, and a metric that reads one. Imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vcorr import MetricEntry, ModelEntry, hookimpl
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
    "hf": {"id": str(Path(__file__).parent / "configs" / "hf-small"), "height": 32, "width": 48},
    "xfeat": {"height": 64, "width": 96, "frames": 4},
}
"""For each backbone without noise, a size that a CPU runs in seconds, for `vcorr plugin check` and the tests."""


def _entry(name: str, summary: str, model: str) -> ModelEntry:
    """Returns the entry of the model `module:Class`; its config is `module:ClassConfig`, and its card has its name."""
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
    _entry("dino-s16", "DINO ViT-S/16: image backbone, without noise, one frame at a time.", "dino:DINOSmall"),
    _entry("dino-b16", "DINO ViT-B/16: image backbone, without noise, one frame at a time.", "dino:DINO"),
    _entry("dinov2-b14", "DINOv2 ViT-B/14: image backbone, without noise, one frame at a time.", "dinov2:DINOv2"),
    _entry(
        "dinov2-b14-reg",
        "DINOv2 ViT-B/14 with registers: image backbone, without noise, one frame at a time.",
        "dinov2:DINOv2Registers",
    ),
    _entry("dinov3-b16", "DINOv3 ViT-B/16: image backbone, without noise, one frame at a time.", "dinov3:DINOv3"),
    _entry(
        "vjepa2-l", "V-JEPA 2 ViT-L: video backbone, without noise, full 3D attention in 24 layers.", "vjepa2:VJEPA2"
    ),
    _entry(
        "videomae-b",
        "VideoMAE ViT-B: video backbone, without noise, 16 frames of 224x224, full 3D attention in 12 layers.",
        "videomae:VideoMAE",
    ),
    _entry(
        "xfeat",
        "XFeat: released convolutional network for matching, without noise, one frame at a time.",
        "xfeat:XFeat",
    ),
    ModelEntry(
        name="hf",
        summary="Any vision backbone of transformers, by hub id or folder: --model hf:ID.",
        factory="vcorr_vision.any_backbone:AnyBackbone",
        config="vcorr_vision.any_backbone:AnyConfig",
        check=SMALL["hf"],
        takes="id",
    ),
    _dift("dift-sd1.5", "dift:DIFT", "DIFT on Stable Diffusion 1.5: image UNet, with noise, one frame at a time."),
    _dift("dift-sd2.1", "dift:DIFT", "DIFT on Stable Diffusion 2.1: image UNet, with noise, one frame at a time."),
)


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """Returns the entries of the backbones."""
    return MODELS


@hookimpl
def vcorr_metrics() -> Iterable[MetricEntry]:
    """Returns the metric of generated videos that reads a backbone; no default, because it needs weights."""
    return [
        MetricEntry(
            name="backbone-drift",
            summary="How far the look of a generated video drifts, by the class token of DINO or DINOv2.",
            factory="vcorr_vision.drift:BackboneDrift",
            config="vcorr_vision.drift_options:BackboneDriftConfig",
            task="generation",
            check={"backbone": "dino-s16", "weights": "random:3", "side": 32},
        )
    ]
