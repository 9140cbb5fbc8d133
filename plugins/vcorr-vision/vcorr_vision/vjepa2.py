"""Adapts the encoder of V-JEPA 2, a self-supervised video backbone with rotary time, rows and columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import Clip, Site, TokenGrid, Unrotated, UsageError, option
from vcorr_vision.backbone import VideoBackbone, VideoConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VJEPA2Config(VideoConfig):
    """Options of `vjepa2-l`, in addition to the options of every video backbone.

    frames may be any even number; the default is the number in training.
    """

    height: int = 256
    width: int = 256
    frames: int | None = 64
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_ratio: float = option(
        4.0,
        "Size of the network: width of the feed-forward layers divided by hidden_size.",
        least=0,
    )


class VJEPA2(VideoBackbone[VJEPA2Config]):
    """V-JEPA 2 ViT-L, without its predictor."""

    card: ClassVar[str] = "vcorr_vision:cards/vjepa2-l.yaml"
    model_type: ClassVar[str] = "vjepa2"
    network_class: ClassVar[str] = "VJEPA2Model"
    attention: ClassVar[str] = "encoder.layer.{}.attention"
    block: ClassVar[str] = "encoder.layer.{}"
    unrotated: ClassVar[Unrotated | None] = Unrotated("query", "key", "bnc")

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the token grid of a square clip; the network computes rows and columns as if frames were square.

        Raises:
            UsageError: height and width differ; see also the base class.
        """
        config = self.config
        if config.height != config.width:
            raise UsageError(
                f"{self.model_card().title} reads squares, not {config.height}x{config.width} pixels.",
                hint=f"For example --set model.width={config.height}",
            )
        return super().grid(clip, site)

    def read_options(self) -> Mapping[str, Any]:
        """Returns the side of the square, from which the network computes rows and columns."""
        return {"crop_size": self.config.height}

    def network_options(self) -> Mapping[str, Any]:
        """Returns the sizes of the network; the predictor, which never runs, is as small as possible."""
        config = self.config
        return {
            **super().network_options(),
            **self.read_options(),
            "tubelet_size": config.tubelet_size,
            "mlp_ratio": config.mlp_ratio,
            "pred_hidden_size": config.num_attention_heads,
            "pred_num_attention_heads": 1,
            "pred_num_hidden_layers": 1,
        }

    def inputs(self, pixels: Tensor) -> Mapping[str, Any]:
        """Returns the frames as one video, for the encoder only."""
        return {"pixel_values_videos": pixels[None], "skip_predictor": True}
