"""CogVideoX pipelines with random weights, at any size, and a pipeline that diffusers does not have.

Shape legend: B batch, T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor

from vcorr.diffusion.loading import pipeline_type
from vcorr_cogvideox.model import CogVideoXConfig


class StillToVideoPipeline(CogVideoXImageToVideoPipeline):  # type: ignore[misc]  # diffusers is not typed
    """Image to video for CogVideoX-2B-I2V: the image latents are those of a video that stands still.

    diffusers' own pipeline gives the image in the first latent and zeros after it, as CogVideoX-5B-I2V was trained.
    """

    def prepare_latents(
        self,
        image: Tensor,
        batch_size: int = 1,
        num_channels_latents: int = 16,
        num_frames: int = 13,
        height: int = 60,
        width: int = 90,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Noise, drawn first, and image latents, both (B, F, C, h, w), from an image (B, 3, H, W) in [-1, 1]."""
        noise = CogVideoXPipeline.prepare_latents(
            self, batch_size, num_channels_latents, num_frames, height, width, dtype, device, generator, latents
        )
        still = image.unsqueeze(2).expand(-1, -1, num_frames, -1, -1)
        encoded = self.vae.encode(still).latent_dist.sample(generator).to(dtype)
        return noise, self.vae_scaling_factor_image * encoded.permute(0, 2, 1, 3, 4)


def build_pipeline(config: CogVideoXConfig) -> Any:
    """A text-to-video pipeline with random weights from torch's generator, without tokenizer and text encoder."""
    return CogVideoXPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=build_vae(config).eval(),
        transformer=build_transformer(config).eval(),
        scheduler=build_scheduler(config),
    )


def build_image_pipeline(config: CogVideoXConfig, pipeline_class: str) -> Any:
    """An image-to-video pipeline of that class, as `build_pipeline`; its transformer takes twice the channels."""
    return pipeline_type(pipeline_class)(
        tokenizer=None,
        text_encoder=None,
        vae=build_vae(config).eval(),
        transformer=build_transformer(config, in_channels=2 * config.latent_channels).eval(),
        scheduler=build_scheduler(config),
    )


def build_vae(config: CogVideoXConfig) -> Any:
    """The causal video autoencoder."""
    levels = len(config.vae_channels)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * levels,
        up_block_types=("CogVideoXUpBlock3D",) * levels,
        block_out_channels=config.vae_channels,
        latent_channels=config.latent_channels,
        layers_per_block=config.vae_layers_per_block,
        norm_num_groups=config.vae_norm_groups,
        temporal_compression_ratio=config.temporal_compression,
        sample_height=config.height,
        sample_width=config.width,
        scaling_factor=config.scaling_factor,
        invert_scale_latents=config.inverted_image_scale,
    )


def build_transformer(config: CogVideoXConfig, in_channels: int | None = None) -> Any:
    """The diffusion transformer; `in_channels` are the latents' unless given."""
    rows, cols = config.position_size or (
        config.height // config.spatial_compression,
        config.width // config.spatial_compression,
    )
    return CogVideoXTransformer3DModel(
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        in_channels=in_channels or config.latent_channels,
        out_channels=config.latent_channels,
        time_embed_dim=config.time_embed_dim,
        ofs_embed_dim=config.strength_embed_dim or None,
        text_embed_dim=config.text_embed_dim,
        num_layers=config.num_layers,
        sample_width=cols,
        sample_height=rows,
        sample_frames=config.frames,
        patch_size=config.patch_size,
        patch_size_t=config.temporal_patch if config.temporal_patch > 1 else None,
        patch_bias=config.patch_bias,
        temporal_compression_ratio=config.temporal_compression,
        max_text_seq_length=config.max_text_seq_length,
        use_rotary_positional_embeddings=config.rotary,
        use_learned_positional_embeddings=config.learned_positions,
    )


def build_scheduler(config: CogVideoXConfig) -> Any:
    """The released schedule: v-prediction, zero terminal signal, trailing timesteps."""
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=config.snr_shift_scale,
        timestep_spacing="trailing",
    )
