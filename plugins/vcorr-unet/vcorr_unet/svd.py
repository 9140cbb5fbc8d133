"""Adapts Stable Video Diffusion: image to video, two branches in one batch, rising guidance over frames, EDM noise.

In every frame, the network receives the latents of the image in additional channels. It also receives a CLIP embedding
of the image, instead of a prompt. Its timestep is 0.25 ln(sigma), which may be negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vcorr import Clip, Factorised, TokenGrid, option
from vcorr.diffusion import VideoConfig
from vcorr_unet.structure import Transformer
from vcorr_unet.unet import VideoUNet


@dataclass(frozen=True, kw_only=True)
class SVDConfig(VideoConfig):
    """Options of `svd` and `svd-xt`; the defaults are the pipeline's. The model reads no prompt."""

    fps: int = option(7, "Frames per second, an input of the network.", unit="frames per second")
    motion_bucket_id: int = option(127, "Amount of motion, an input of the network; larger numbers give more motion.")
    noise_aug_strength: float = option(0.02, "Amount of noise on the image, an input of the network.", least=0)


class SVD(VideoUNet[SVDConfig]):
    """Stable Video Diffusion through diffusers' `StableVideoDiffusionPipeline`.

    The image is frame 0 of the clip's video, in both modes. Random weights have a small image encoder.
    """

    pipeline_class = "StableVideoDiffusionPipeline"
    guidance_argument = "max_guidance_scale"
    needs_image = True
    reads_prompt = False
    latent_axes = "bfchw"
    steps = 25
    transformers = (
        Transformer("attentions.{}.transformer_blocks.0", Factorised("spatial")),
        # the block separates the tokens by position, and merges them again
        Transformer("attentions.{}.temporal_transformer_blocks.0", Factorised("temporal"), block_axes="fnc"),
    )

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the image, and the three further inputs of the options."""
        names = ("fps", "motion_bucket_id", "noise_aug_strength")
        return {**super().call_inputs(clip, grid), **{name: getattr(self.config, name) for name in names}}

    def stand_ins(self) -> Mapping[str, Any]:
        """Returns a small image encoder, which replaces CLIP's and has the embedding width of the network."""
        from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        width = self.network["cross_attention_dim"]
        encoder = CLIPVisionConfig(**sizes, image_size=224, patch_size=32, projection_dim=width)
        return {
            "image_encoder": CLIPVisionModelWithProjection(encoder).eval(),
            "feature_extractor": CLIPImageProcessor(),
        }
