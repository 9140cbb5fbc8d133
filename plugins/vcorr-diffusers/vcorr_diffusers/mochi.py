"""Mochi 1: full 3D joint attention, text after the video and without its padding, so that prompts differ in length.

Its attention goes through the rows of a batch one by one, and its flow-matching scheduler counts from noise to signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, VideoConfig, attention_sites
from vcorr.records import Unrotated

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.diffusion.schedule import NoiseSchedule

_THRESHOLD = 0.025
"""What the pipeline's call fixes: the noise that the first half of the steps takes away, in equal parts."""


@dataclass(frozen=True, kw_only=True)
class MochiConfig(VideoConfig):
    """Options of `mochi`; the defaults are those of Mochi 1 preview.

    text_width: of the text tokens inside the transformer; text_embed_dim: of the prompt's embedding. vae_channels,
    decoder_channels: one width a resolution level. vae_layers: of the levels, the middle among them.
    """

    height: int = 480
    width: int = 848
    frames: int = 163
    num_layers: int = 48
    num_attention_heads: int = 24
    attention_head_dim: int = 128
    pooled_projection_dim: int = 1536
    text_embed_dim: int = 4096
    text_tokens: int = 256
    vae_channels: tuple[int, ...] = (64, 128, 256, 384)
    decoder_channels: tuple[int, ...] = (128, 256, 512, 768)
    vae_layers: tuple[int, ...] = (3, 3, 4, 6, 3)


class Mochi(DiffusersVideoModel[MochiConfig]):
    """Mochi 1 through diffusers' `MochiPipeline`."""

    pipeline_class = "MochiPipeline"
    card = "vcorr_diffusers:cards/mochi.yaml"
    text = "after"
    branches = ("uncond", "cond")
    per_sample = True
    steps = 64
    compression = Compression(spatial=8, temporal=6, patch=2)

    def sites(self) -> tuple[Site, ...]:
        """The joint attention of every block, which puts out video and text apart."""
        config, block = self.config, "transformer_blocks.{}"
        turned = Unrotated("norm_q", "norm_k", "bnhd")
        return attention_sites(
            f"{block}.attn1", config.num_layers, config.num_attention_heads, block=block, unrotated=turned
        )

    @property
    def encoding(self) -> PromptEncoding:
        """T5 with its mask."""
        tokens = self.config.text_tokens
        return PromptEncoding(tokens, self.config.text_embed_dim, mask=1, options={"max_sequence_length": tokens})

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """Flow matching with sigmas that fall linearly, then quadratically."""
        import numpy as np
        from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

        from vcorr.diffusion.schedule import noise_schedule

        sigmas = np.array(linear_quadratic_schedule(num_steps, _THRESHOLD))
        return noise_schedule(self.pipe.scheduler, num_steps, self.device, sigmas=sigmas)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding and mask."""
        text = self.embed(prompt)
        return {
            "encoder_hidden_states": text["prompt_embeds"],
            "encoder_attention_mask": text["prompt_attention_mask"],
            "attention_kwargs": None,
            "return_dict": False,
        }

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        return {"hidden_states": latents, "timestep": timestep.expand(1).to(latents.dtype), **condition}

    def build(self, seed: int) -> Any:
        """The pipeline with random weights, without text encoder."""
        import diffusers

        config = self.config
        transformer = diffusers.MochiTransformer3DModel(
            num_layers=config.num_layers,
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=config.attention_head_dim,
            pooled_projection_dim=config.pooled_projection_dim,
            text_embed_dim=config.text_embed_dim,
            max_sequence_length=config.text_tokens,
        )
        vae = diffusers.AutoencoderKLMochi(
            encoder_block_out_channels=config.vae_channels,
            decoder_block_out_channels=config.decoder_channels,
            layers_per_block=config.vae_layers,
        )
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
        return diffusers.MochiPipeline(scheduler, vae, None, None, transformer)
