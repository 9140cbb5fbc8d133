"""Adapts ModelScope's text-to-video model and ZeroScope, fine-tuned from it: diffusers' UNet3DConditionModel."""

from __future__ import annotations

from collections.abc import Sequence

from vcorr import Factorised
from vcorr.diffusion import PromptEncoding, VideoConfig
from vcorr_unet.structure import SelfAttention, Transformer, attentions_in
from vcorr_unet.unet import VideoUNet

CLIP_TEXT = PromptEncoding(77, "cross_attention_dim", options={"num_images_per_prompt": 1})
"""CLIP's text encoder, padded to 77 tokens."""
IN_HEADS = 8
"""Heads of the temporal attention before the blocks; diffusers sets this number, not the configuration."""
TEMPORAL = Transformer("temp_attentions.{}.transformer_blocks.0", Factorised("temporal"), ("attn1", "attn2"))
"""Both modules are self-attention: the second, which is cross-attention in other networks, gets no other input here."""


class TextToVideo(VideoUNet[VideoConfig]):
    """ModelScope's text-to-video model and ZeroScope through diffusers' `TextToVideoSDPipeline`."""

    pipeline_class = "TextToVideoSDPipeline"
    encoding = CLIP_TEXT
    transformers = (Transformer("attentions.{}.transformer_blocks.0", Factorised("spatial")), TEMPORAL)

    @property
    def attention_modules(self) -> Sequence[SelfAttention]:
        """The modules of the temporal transformer before the blocks, then the modules of the blocks."""
        return (
            *attentions_in("transformer_in.transformer_blocks.0", TEMPORAL, 0, IN_HEADS),
            *super().attention_modules,
        )

    def heads(self, kind: Transformer) -> Sequence[int]:
        """Returns the number of heads per level: the width of the level divided by the fixed width of a head."""
        return [width // self.network["attention_head_dim"] for width in self.network["block_out_channels"]]
