"""DINOv2: self-supervised image backbone, without and with register tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vcorr.capture.captures import TokenLayout
from vcorr_vision.backbone import ImageBackbone, ImageConfig


@dataclass(frozen=True, kw_only=True)
class DINOv2Config(ImageConfig):
    """Options of `dinov2-b14`; see also those of every image backbone.

    image_size: pixels along a side of the square that its table of positions was trained for; it is interpolated to any
    other size, as transformers does it. mlp_ratio: how much wider the layers between attention are.
    """

    height: int = 476
    width: int = 714
    patch_size: int = 14
    image_size: int = 518
    mlp_ratio: int = 4


class DINOv2(ImageBackbone[DINOv2Config]):
    """DINOv2: one class token in front."""

    card: ClassVar[str] = "vcorr_vision:cards/dinov2-b14.yaml"
    model_type: ClassVar[str] = "dinov2"
    network_class: ClassVar[str] = "Dinov2Model"
    attention: ClassVar[str] = "encoder.layer.{}.attention"
    block: ClassVar[str] = "encoder.layer.{}"

    def network_options(self) -> Mapping[str, Any]:
        """The sizes, and those of the table of positions."""
        return {
            **super().network_options(),
            "image_size": self.config.image_size,
            "mlp_ratio": self.config.mlp_ratio,
        }


@dataclass(frozen=True, kw_only=True)
class DINOv2RegistersConfig(DINOv2Config):
    """Options of `dinov2-b14-reg`; see also those of `dinov2-b14`. num_register_tokens: behind the class token."""

    num_register_tokens: int = 4


class DINOv2Registers(DINOv2):
    """DINOv2 with registers: tokens that belong to no place, behind the class token."""

    config: DINOv2RegistersConfig
    card: ClassVar[str] = "vcorr_vision:cards/dinov2-b14-reg.yaml"
    model_type: ClassVar[str] = "dinov2_with_registers"
    network_class: ClassVar[str] = "Dinov2WithRegistersModel"

    @property
    def layout(self) -> TokenLayout:
        """The class token and the registers."""
        return TokenLayout("before", text_tokens=1 + self.config.num_register_tokens)

    def network_options(self) -> Mapping[str, Any]:
        """Those of DINOv2, and the registers."""
        return {**super().network_options(), "num_register_tokens": self.config.num_register_tokens}
