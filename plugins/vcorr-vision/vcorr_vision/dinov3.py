"""Adapts DINOv3, a self-supervised image backbone with registers and a rotary embedding over rows and columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vcorr import Unrotated, UsageError, option
from vcorr.capture import TokenLayout
from vcorr_vision.backbone import ImageBackbone, ImageConfig


@dataclass(frozen=True, kw_only=True)
class DINOv3Config(ImageConfig):
    """Options of `dinov3-b16`, in addition to the options of every image backbone."""

    num_register_tokens: int = option(
        4,
        "Size of the network: number of register tokens, which follow the class token.",
        least=0,
    )
    intermediate_size: int = option(3072, "Size of the network: width of the feed-forward layers.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        width = self.hidden_size // self.num_attention_heads
        if width % 4:
            raise UsageError(
                f"model.hidden_size={self.hidden_size} gives {self.num_attention_heads} heads of {width} numbers each.",
                hint="The rotary embedding needs a multiple of 4.",
            )


class DINOv3(ImageBackbone[DINOv3Config]):
    """DINOv3 ViT-B/16: positions enter only by rotation, so q and k can be read without positions."""

    card: ClassVar[str] = "vcorr_vision:cards/dinov3-b16.yaml"
    model_type: ClassVar[str] = "dinov3_vit"
    network_class: ClassVar[str] = "DINOv3ViTModel"
    attention: ClassVar[str] = "model.layer.{}.attention"
    block: ClassVar[str] = "model.layer.{}"
    unrotated: ClassVar[Unrotated | None] = Unrotated("q_proj", "k_proj", "bnc")

    @property
    def layout(self) -> TokenLayout:
        """The class token and the registers, before the tokens of the frame."""
        return TokenLayout("before", text_tokens=1 + self.config.num_register_tokens)

    def network_options(self) -> Mapping[str, Any]:
        """Returns the sizes of the network and the number of registers."""
        config = self.config
        return {
            **super().network_options(),
            "num_register_tokens": config.num_register_tokens,
            "intermediate_size": config.intermediate_size,
        }
