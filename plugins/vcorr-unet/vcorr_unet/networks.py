"""Pipelines with random weights at any size, and AnimateDiff put together from its two repositories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    MotionAdapter,
    StableVideoDiffusionPipeline,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    UNetMotionModel,
    UNetSpatioTemporalConditionModel,
)

from vcorr.diffusion.loading import load_pipeline
from vcorr_unet.animatediff import AnimateDiffConfig
from vcorr_unet.svd import SVDConfig
from vcorr_unet.text_to_video import ModelScopeConfig
from vcorr_unet.unet import UNetConfig

SCALE = 0.18215
"""What latents of Stable Diffusion's autoencoder are multiplied by."""

_IMAGE_ENCODER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def svd_pipeline(config: SVDConfig) -> Any:
    """Stable Video Diffusion with a small image encoder in place of CLIP's."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    image_encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(**_IMAGE_ENCODER, image_size=224, patch_size=32, projection_dim=config.cross_attention_dim)
    )
    return StableVideoDiffusionPipeline(
        vae=svd_vae(config).eval(),
        image_encoder=image_encoder.eval(),
        unet=svd_unet(config).eval(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            interpolation_type="linear",
            num_train_timesteps=1000,
            prediction_type="v_prediction",
            sigma_max=700.0,
            sigma_min=0.002,
            steps_offset=1,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        ),
        feature_extractor=CLIPImageProcessor(),
    )


def svd_vae(config: SVDConfig) -> Any:
    """The autoencoder of images whose decoder sees several frames."""
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * len(config.vae_channels),
        block_out_channels=config.vae_channels,
        layers_per_block=config.vae_layers_per_block,
        latent_channels=config.latent_channels,
        scaling_factor=SCALE,
        force_upcast=True,
    )


def svd_unet(config: SVDConfig) -> Any:
    """The network; it also sees the latents of an image."""
    levels = config.levels
    return UNetSpatioTemporalConditionModel(
        in_channels=2 * config.latent_channels,
        out_channels=config.latent_channels,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * (levels - 1) + ("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * (levels - 1),
        block_out_channels=config.block_out_channels,
        addition_time_embed_dim=config.time_embed_dim,
        projection_class_embeddings_input_dim=3 * config.time_embed_dim,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        num_attention_heads=config.num_attention_heads,
        num_frames=config.frames,
    )


def text_to_video_pipeline(config: ModelScopeConfig) -> Any:
    """ModelScope's text-to-video model without tokenizer and text encoder."""
    return TextToVideoSDPipeline(
        vae=image_vae(config).eval(),
        text_encoder=None,
        tokenizer=None,
        unet=text_to_video_unet(config).eval(),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
    )


def text_to_video_unet(config: ModelScopeConfig) -> Any:
    """The network of ModelScope and ZeroScope."""
    levels = config.levels
    return UNet3DConditionModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        down_block_types=("CrossAttnDownBlock3D",) * (levels - 1) + ("DownBlock3D",),
        up_block_types=("UpBlock3D",) + ("CrossAttnUpBlock3D",) * (levels - 1),
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
    )


def animatediff_pipeline(config: AnimateDiffConfig) -> Any:
    """AnimateDiff without tokenizer and text encoder; its network has the motion modules in it already."""
    return AnimateDiffPipeline(
        vae=image_vae(config).eval(),
        text_encoder=None,
        tokenizer=None,
        unet=animatediff_unet(config).eval(),
        motion_adapter=None,
        scheduler=animatediff_scheduler(),
    )


def animatediff_unet(config: AnimateDiffConfig) -> Any:
    """The network of Stable Diffusion 1.5 with motion modules."""
    levels = config.levels
    return UNetMotionModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        down_block_types=("CrossAttnDownBlockMotion",) * (levels - 1) + ("DownBlockMotion",),
        up_block_types=("UpBlockMotion",) + ("CrossAttnUpBlockMotion",) * (levels - 1),
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        num_attention_heads=config.num_attention_heads,
        motion_num_attention_heads=config.motion_num_attention_heads,
        motion_max_seq_length=config.motion_max_seq_length,
        use_motion_mid_block=config.use_motion_mid_block,
    )


def animatediff_scheduler() -> Any:
    """The schedule the motion modules were trained with, which is not that of Stable Diffusion."""
    return DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1)


def read_animatediff(stable_diffusion: Path, adapter: Path, dtype: torch.dtype) -> Any:
    """The pipeline from a folder of Stable Diffusion 1.5 and one of a motion adapter, on the CPU."""
    modules = MotionAdapter.from_pretrained(adapter, torch_dtype=dtype, local_files_only=True, use_safetensors=True)
    return load_pipeline(
        "AnimateDiffPipeline", stable_diffusion, dtype, motion_adapter=modules, scheduler=animatediff_scheduler()
    )


def image_vae(config: UNetConfig) -> Any:
    """Stable Diffusion's autoencoder of images."""
    levels = len(config.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.vae_channels,
        layers_per_block=config.vae_layers_per_block,
        latent_channels=config.latent_channels,
        scaling_factor=SCALE,
    )
