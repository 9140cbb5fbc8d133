"""Adapts DINO, a self-supervised image backbone, in two sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import option
from vcorr_vision.backbone import ImageBackbone, ImageConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DINOConfig(ImageConfig):
    """Options of `dino-b16`, in addition to the options of every image backbone."""

    image_size: int = option(
        224,
        "Side of the square for which the table of positions was trained; transformers interpolates the table to "
        "other sizes.",
        unit="pixels",
        least=1,
    )
    intermediate_size: int = option(3072, "Size of the network: width of the feed-forward layers.", least=1)


class DINO(ImageBackbone[DINOConfig]):
    """DINO ViT-B/16: one class token in front."""

    card: ClassVar[str] = "vcorr_vision:cards/dino-b16.yaml"
    model_type: ClassVar[str] = "vit"
    network_class: ClassVar[str] = "ViTModel"
    attention: ClassVar[str] = "layers.{}.attention"
    block: ClassVar[str] = "layers.{}"
    build_options: ClassVar[Mapping[str, Any]] = {"add_pooling_layer": False}

    def network_options(self) -> Mapping[str, Any]:
        """Returns the sizes of the network and of its table of positions."""
        config = self.config
        return {
            **super().network_options(),
            "image_size": config.image_size,
            "intermediate_size": config.intermediate_size,
        }

    def inputs(self, pixels: Tensor) -> Mapping[str, Any]:
        """Returns the frames; the network interpolates its positions to their size."""
        return {**super().inputs(pixels), "interpolate_pos_encoding": True}


@dataclass(frozen=True, kw_only=True)
class DINOSmallConfig(DINOConfig):
    """Options of `dino-s16`, with the defaults of the small network."""

    hidden_size: int = 384
    num_attention_heads: int = 6
    intermediate_size: int = 1536


class DINOSmall(DINO):
    """DINO ViT-S/16."""

    card: ClassVar[str] = "vcorr_vision:cards/dino-s16.yaml"
