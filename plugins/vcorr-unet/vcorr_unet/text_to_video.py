"""ModelScope's text-to-video model and ZeroScope, which is trained on from it: diffusers' UNet3DConditionModel.

Shape legend: C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import TokenGrid
from vcorr.records import Factorised
from vcorr_unet.structure import Place, Transformer, places_in
from vcorr_unet.text import TextUNet, TextUNetConfig

if TYPE_CHECKING:
    from torch import Tensor

IN_HEADS = 8
"""Heads of the temporal attention that comes before the blocks, whatever the configuration says."""

TEMPORAL = Transformer("temp_attentions.{}.transformer_blocks.0", Factorised("place"), ("attn1", "attn2"))
"""Both attend to the video itself: the second, cross-attention elsewhere, is given nothing else."""


@dataclass(frozen=True, kw_only=True)
class ModelScopeConfig(TextUNetConfig):
    """Options of `modelscope`; see also those of every video UNet.

    attention_head_dim: width of a head; a level has as many heads as fit into its width.
    """

    height: int = 256
    width: int = 256
    frames: int = 16
    attention_head_dim: int = 64

    @property
    def spatial_heads(self) -> tuple[int, ...]:
        """Heads of the spatial attention of each level."""
        return tuple(width // self.attention_head_dim for width in self.block_out_channels)


@dataclass(frozen=True, kw_only=True)
class ZeroScopeConfig(ModelScopeConfig):
    """Options of `zeroscope`: those of `modelscope`, with the sizes it was trained on."""

    height: int = 320
    width: int = 576
    frames: int = 24


class ModelScope(TextUNet[ModelScopeConfig]):
    """ModelScope's text-to-video model through diffusers' `TextToVideoSDPipeline`."""

    pipeline_class: ClassVar[str] = "TextToVideoSDPipeline"
    card: ClassVar[str] = "vcorr_unet:cards/modelscope.yaml"
    transformers = (Transformer("attentions.{}.transformer_blocks.0", Factorised("frame")), TEMPORAL)

    def first_places(self) -> Sequence[Place]:
        """The temporal transformer before the blocks."""
        return tuple(places_in("transformer_in.transformer_blocks.0", TEMPORAL, 0, IN_HEADS))

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_unet.networks import text_to_video_pipeline

        return text_to_video_pipeline(self.config)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding."""
        return {"encoder_hidden_states": self.embed(prompt)["prompt_embeds"]}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the UNet, for a batch of one."""
        return {"sample": latents, "timestep": timestep, "return_dict": False, **condition}


class ZeroScope(ModelScope):
    """ZeroScope v2 576w, the same network trained further on wide videos."""

    card: ClassVar[str] = "vcorr_unet:cards/zeroscope.yaml"
