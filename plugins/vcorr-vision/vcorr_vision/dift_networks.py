"""Stable Diffusion's pipeline, with random weights at any size or from a folder, with DDIM's steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from vcorr.diffusion.loading import load_pipeline
from vcorr_vision.dift import DIFTConfig

SCALE = 0.18215
"""What latents of Stable Diffusion's autoencoder are multiplied by."""
UNCHECKED: Mapping[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
"""No image is made that could be checked."""


def build_pipeline(config: DIFTConfig, prediction: str, unet_options: Mapping[str, Any]) -> Any:
    """The pipeline without tokenizer and text encoder."""
    return StableDiffusionPipeline(
        vae=_vae(config).eval(),
        text_encoder=None,
        tokenizer=None,
        unet=_unet(config, unet_options).eval(),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=prediction,
        ),
        **UNCHECKED,
    )


def read_pipeline(class_name: str, folder: Path, dtype: torch.dtype) -> Any:
    """The pipeline saved in `folder`, on the CPU, whichever scheduler it was saved with."""
    pipe = load_pipeline(class_name, folder, dtype, **UNCHECKED)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


def _unet(config: DIFTConfig, options: Mapping[str, Any]) -> Any:
    levels = config.levels
    return UNet2DConditionModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
        **options,
    )


def _vae(config: DIFTConfig) -> Any:
    levels = len(config.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.vae_channels,
        layers_per_block=config.vae_layers_per_block,
        latent_channels=config.latent_channels,
        scaling_factor=SCALE,
    )
