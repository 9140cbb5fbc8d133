"""ModelScope's text-to-video model and ZeroScope, which is trained on from it: diffusers' UNet3DConditionModel."""

from __future__ import annotations

from collections.abc import Sequence

from vcorr import Factorised
from vcorr.diffusion import PromptEncoding, VideoConfig
from vcorr_unet.structure import Place, Transformer, places_in
from vcorr_unet.unet import VideoUNet

CLIP_TEXT = PromptEncoding(77, "cross_attention_dim", options={"num_images_per_prompt": 1})
"""CLIP's text encoder, padded."""
IN_HEADS = 8
"""Heads of the temporal attention that comes before the blocks, whatever the configuration says."""
TEMPORAL = Transformer("temp_attentions.{}.transformer_blocks.0", Factorised("temporal"), ("attn1", "attn2"))
"""Both attend to the video itself: the second, cross-attention elsewhere, is given nothing else."""


class TextToVideo(VideoUNet[VideoConfig]):
    """ModelScope's text-to-video model and ZeroScope through diffusers' `TextToVideoSDPipeline`."""

    pipeline_class = "TextToVideoSDPipeline"
    encoding = CLIP_TEXT
    transformers = (Transformer("attentions.{}.transformer_blocks.0", Factorised("spatial")), TEMPORAL)

    @property
    def places(self) -> Sequence[Place]:
        """Those of the blocks, after the temporal transformer in front of them."""
        return (*places_in("transformer_in.transformer_blocks.0", TEMPORAL, 0, IN_HEADS), *super().places)

    def heads(self, kind: Transformer) -> Sequence[int]:
        """As many heads of a fixed width as fit into the width of a level."""
        return [width // self.network["attention_head_dim"] for width in self.network["block_out_channels"]]
