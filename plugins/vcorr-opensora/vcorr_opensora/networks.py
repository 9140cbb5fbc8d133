"""Open-Sora 2.0 pipelines with random weights, at any size."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

from vcorr.diffusion.latents import prompt_noise
from vcorr_opensora.model import OpenSora2Config
from vcorr_opensora.pipeline import SCHEDULER, OpenSoraPipeline, Text
from vcorr_opensora.sampling import PATCH, rotary_axes


def build_pipeline(config: OpenSora2Config) -> Any:
    """A pipeline with random weights from torch's generator, without tokenizers and text encoders."""
    return OpenSoraPipeline(
        transformer=build_transformer(config).eval(),
        vae=build_vae(config).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
    )


def build_transformer(config: OpenSora2Config) -> Any:
    """The diffusion transformer: it takes latents, a mask and the latents of an image, and gives latents."""
    latent = config.latent_channels * PATCH**2
    return FluxTransformer2DModel(
        in_channels=2 * latent + PATCH**2,
        out_channels=latent,
        num_layers=config.num_layers,
        num_single_layers=config.num_single_layers,
        attention_head_dim=config.attention_head_dim,
        num_attention_heads=config.num_attention_heads,
        joint_attention_dim=config.text_embed_dim,
        pooled_projection_dim=config.pooled_embed_dim,
        axes_dims_rope=rotary_axes(config.attention_head_dim),
    )


def build_vae(config: OpenSora2Config) -> Any:
    """The causal video autoencoder, 4 x 8 x 8."""
    return AutoencoderKLHunyuanVideo(
        latent_channels=config.latent_channels,
        block_out_channels=config.vae_channels,
        layers_per_block=config.vae_layers_per_block,
        norm_num_groups=config.vae_norm_groups,
    )


def random_text(config: OpenSora2Config, prompt: str) -> Text:
    """A stand-in for an encoded prompt: float32 standard normal, seeded by the prompt's text."""
    return Text(
        tokens=prompt_noise((1, config.max_text_seq_length, config.text_embed_dim), prompt),
        pooled=prompt_noise((1, config.pooled_embed_dim), prompt, "pooled"),
    )
