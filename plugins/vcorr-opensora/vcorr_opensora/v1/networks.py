"""Open-Sora 1.2 pipelines with random weights, at any size."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from vcorr.diffusion.latents import prompt_noise
from vcorr_opensora.v1.autoencoder import OpenSoraAutoencoder
from vcorr_opensora.v1.model import OpenSora1Config
from vcorr_opensora.v1.pipeline import SCHEDULER, MaskedText, OpenSora1Pipeline
from vcorr_opensora.v1.transformer import STDiT3


def build_pipeline(config: OpenSora1Config) -> Any:
    """A pipeline with random weights from torch's generator, without tokenizer and text encoder."""
    return OpenSora1Pipeline(
        transformer=build_transformer(config).eval(),
        vae=build_vae(config).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
    )


def build_transformer(config: OpenSora1Config) -> Any:
    """The diffusion transformer."""
    return STDiT3(
        depth=config.depth,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        text_embed_dim=config.text_embed_dim,
        max_text_seq_length=config.max_text_seq_length,
    )


def build_vae(config: OpenSora1Config) -> Any:
    """The autoencoder, its part for frames and its part for time."""
    return OpenSoraAutoencoder(
        spatial_channels=config.vae_channels,
        spatial_layers=config.vae_layers_per_block,
        norm_groups=config.vae_norm_groups,
        temporal_width=config.temporal_width,
        temporal_layers=config.temporal_layers,
    )


def random_text(config: OpenSora1Config, prompt: str) -> MaskedText:
    """A stand-in for an encoded prompt: standard normal, seeded by its text; one real token a word, and one more."""
    tokens = config.max_text_seq_length
    real = torch.arange(tokens) < len(prompt.split()) + 1
    return MaskedText(prompt_noise((1, tokens, config.text_embed_dim), prompt), real[None])
