"""Adapts DINOv2, a self-supervised image backbone, without and with register tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vcorr import option
from vcorr.capture import TokenLayout
from vcorr_vision.backbone import ImageBackbone, ImageConfig


@dataclass(frozen=True, kw_only=True)
class DINOv2Config(ImageConfig):
    """Options of `dinov2-b14`, in addition to the options of every image backbone."""

    height: int = 476
    width: int = 714
    patch_size: int = 14
    image_size: int = option(
        518,
        "Side of the square for which the table of positions was trained; transformers interpolates the table to "
        "other sizes.",
        unit="pixels",
        least=1,
    )
    mlp_ratio: int = option(
        4,
        "Size of the network: width of the feed-forward layers divided by hidden_size.",
        least=1,
    )


class DINOv2(ImageBackbone[DINOv2Config]):
    """DINOv2: one class token in front."""

    card: ClassVar[str] = "vcorr_vision:cards/dinov2-b14.yaml"
    model_type: ClassVar[str] = "dinov2"
    network_class: ClassVar[str] = "Dinov2Model"
    attention: ClassVar[str] = "encoder.layer.{}.attention"
    block: ClassVar[str] = "encoder.layer.{}"

    def network_options(self) -> Mapping[str, Any]:
        """Returns the sizes of the network and of its table of positions."""
        return {
            **super().network_options(),
            "image_size": self.config.image_size,
            "mlp_ratio": self.config.mlp_ratio,
        }


@dataclass(frozen=True, kw_only=True)
class DINOv2RegistersConfig(DINOv2Config):
    """Options of `dinov2-b14-reg`, in addition to the options of `dinov2-b14`."""

    num_register_tokens: int = option(4, "Size of the network: number of register tokens.", least=0)


class DINOv2Registers(DINOv2):
    """DINOv2 with registers: tokens without a position, which follow the class token."""

    config: DINOv2RegistersConfig
    card: ClassVar[str] = "vcorr_vision:cards/dinov2-b14-reg.yaml"
    model_type: ClassVar[str] = "dinov2_with_registers"
    network_class: ClassVar[str] = "Dinov2WithRegistersModel"

    @property
    def layout(self) -> TokenLayout:
        """The class token and the registers, before the tokens of the frame."""
        return TokenLayout("before", text_tokens=1 + self.config.num_register_tokens)

    def network_options(self) -> Mapping[str, Any]:
        """Returns the options of DINOv2 and the number of registers."""
        return {**super().network_options(), "num_register_tokens": self.config.num_register_tokens}
