"""Wan pipelines with random weights, at any size."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import Tensor

from vcorr.diffusion.latents import prompt_noise
from vcorr_wan.model import IMAGE_TOKENS, PATCH, WanConfig

MASK_CHANNELS = 4
"""Of the image-to-video models' input: for every frame of a latent, whether it is given."""


class StandInImageEncoder(WanImageToVideoPipeline):  # type: ignore[misc]  # diffusers is not typed
    """Image to video without an image encoder: the image's embedding is noise, seeded by its pixels."""

    def encode_image(self, image: Any, device: torch.device | None = None) -> Tensor:
        """(1, 257, image_dim)."""
        pixels = hashlib.sha256(np.asarray(image).tobytes()).hexdigest()
        return prompt_noise((1, IMAGE_TOKENS, self.transformer.config.image_dim), pixels, "image").to(device)


def build_pipeline(config: WanConfig) -> Any:
    """A text-to-video pipeline with random weights from torch's generator, without tokenizer and text encoder."""
    return WanPipeline(**_parts(config, config.latent_channels), **_stages(config, config.latent_channels))


def build_image_pipeline(config: WanConfig) -> Any:
    """An image-to-video pipeline, as `build_pipeline`, and without image encoder."""
    in_place = config.expand_timesteps  # the image stands in the place of the first latent frame
    channels = config.latent_channels if in_place else 2 * config.latent_channels + MASK_CHANNELS
    return StandInImageEncoder(**_parts(config, channels), **_stages(config, channels))


def build_skyreels_pipeline(config: WanConfig) -> Any:
    """A text-to-video pipeline of SkyReels V2, as `build_pipeline`."""
    return SkyReelsV2Pipeline(**_parts(config, config.latent_channels, SkyReelsV2Transformer3DModel))


def build_vae(config: WanConfig) -> Any:
    """The causal video autoencoder; its latents are scaled by released values where there are as many channels."""
    channels = 3 * config.vae_patch**2
    scaling = {}
    if config.latent_channels != WanConfig.latent_channels:
        scaling = {"latents_mean": [0.0] * config.latent_channels, "latents_std": [1.0] * config.latent_channels}
    return AutoencoderKLWan(
        base_dim=config.vae_dim,
        decoder_base_dim=config.vae_decoder_dim or None,
        z_dim=config.latent_channels,
        is_residual=config.vae_patch > 1,
        in_channels=channels,
        out_channels=channels,
        patch_size=config.vae_patch if config.vae_patch > 1 else None,
        scale_factor_spatial=8 * config.vae_patch,
        **scaling,
    )


def build_transformer(config: WanConfig, in_channels: int, kind: Any = WanTransformer3DModel) -> Any:
    """The diffusion transformer."""
    return kind(
        patch_size=PATCH,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        in_channels=in_channels,
        out_channels=config.latent_channels,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.num_layers,
        image_dim=config.image_dim or None,
        added_kv_proj_dim=config.num_attention_heads * config.attention_head_dim if config.image_dim else None,
        rope_max_seq_len=config.rope_max_seq_len,
    )


def _parts(config: WanConfig, in_channels: int, kind: Any = WanTransformer3DModel) -> dict[str, Any]:
    """What all pipelines are made of."""
    return {
        "tokenizer": None,
        "text_encoder": None,
        "vae": build_vae(config).eval(),
        "transformer": build_transformer(config, in_channels, kind).eval(),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=config.flow_shift
        ),
    }


def _stages(config: WanConfig, in_channels: int) -> dict[str, Any]:
    """What Wan's own pipelines know of Wan 2.2: the second transformer, and how timesteps are told."""
    return {
        "transformer_2": build_transformer(config, in_channels).eval() if config.boundary_ratio else None,
        "boundary_ratio": config.boundary_ratio or None,
        "expand_timesteps": config.expand_timesteps,
    }
