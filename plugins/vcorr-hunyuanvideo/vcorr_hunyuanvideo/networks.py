"""HunyuanVideo pipelines with random weights, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)

from vcorr_hunyuanvideo.model import HunyuanVideoConfig


def build_pipeline(config: HunyuanVideoConfig) -> Any:
    """A text-to-video pipeline with random weights from torch's generator, without tokenizers and text encoders."""
    return HunyuanVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        tokenizer_2=None,
        text_encoder_2=None,
        vae=build_vae(config).eval(),
        transformer=build_transformer(config).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=config.flow_shift),
    )


def build_vae(config: HunyuanVideoConfig) -> Any:
    """The causal video autoencoder."""
    levels = len(config.vae_channels)
    return AutoencoderKLHunyuanVideo(
        down_block_types=("HunyuanVideoDownBlock3D",) * levels,
        up_block_types=("HunyuanVideoUpBlock3D",) * levels,
        block_out_channels=config.vae_channels,
        latent_channels=config.latent_channels,
        layers_per_block=config.vae_layers_per_block,
        norm_num_groups=config.vae_norm_groups,
        spatial_compression_ratio=config.spatial_compression,
        temporal_compression_ratio=config.temporal_compression,
        scaling_factor=config.scaling_factor,
    )


def build_transformer(config: HunyuanVideoConfig) -> Any:
    """The diffusion transformer."""
    return HunyuanVideoTransformer3DModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        num_layers=config.num_layers,
        num_single_layers=config.num_single_layers,
        num_refiner_layers=config.num_refiner_layers,
        patch_size=config.patch_size,
        text_embed_dim=config.text_embed_dim,
        pooled_projection_dim=config.pooled_dim,
        rope_axes_dim=config.rope_axes_dim,
    )


def even_sigmas(steps: int) -> Sequence[float]:
    """Sigmas from 1 in even steps, the last of them one step above 0: what the pipelines ask their scheduler for."""
    sigmas: Sequence[float] = np.linspace(1.0, 0.0, steps + 1)[:-1]
    return sigmas
