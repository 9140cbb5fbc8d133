"""CogVideoX pipelines with random weights, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor

from vcorr.diffusion.latents import stable_seed
from vcorr_cogvideox.model import CogVideoXConfig


def build_pipeline(config: CogVideoXConfig) -> Any:
    """A pipeline with random weights from torch's generator, without tokenizer and text encoder."""
    return CogVideoXPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=build_vae(config).eval(),
        transformer=build_transformer(config).eval(),
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
    )


def build_transformer(config: CogVideoXConfig) -> Any:
    """The diffusion transformer."""
    return CogVideoXTransformer3DModel(
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        time_embed_dim=config.time_embed_dim,
        text_embed_dim=config.text_embed_dim,
        num_layers=config.num_layers,
        sample_width=config.width // config.spatial_compression,
        sample_height=config.height // config.spatial_compression,
        sample_frames=config.frames,
        patch_size=config.patch_size,
        temporal_compression_ratio=config.temporal_compression,
        max_text_seq_length=config.max_text_seq_length,
        use_rotary_positional_embeddings=config.rotary,
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


def random_prompt(shape: Sequence[int], prompt: str) -> Tensor:
    """A stand-in for a prompt embedding: float32 standard normal of `shape`, seeded by the prompt's text."""
    generator = torch.Generator("cpu").manual_seed(stable_seed("prompt", prompt))
    return torch.randn(tuple(shape), generator=generator)
