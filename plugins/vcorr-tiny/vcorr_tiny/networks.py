"""Builds the networks of the embedded model: diffusers' CogVideoX classes at a hundredth of their size.

All classes are diffusers' own, so ``CogVideoXPipeline.from_pretrained`` loads a saved pipeline without this package.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from vcorr_tiny.sprites.words import CAPTION_TOKENS, SPECIAL, TOKENS, WORDS


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of the video, of the autoencoder (VAE) and of the diffusion transformer (DiT)."""

    size: int = 128
    """Side of the square videos, pixels."""
    frames: int = 17
    """Frames of a video; frame 0 has a latent frame of its own, each further group of four shares one."""
    vae_channels: tuple[int, ...] = (24, 48, 96)
    latent_channels: int = 16
    layers: int = 10
    heads: int = 4
    head_dim: int = 64
    patch: int = 2
    """Side of a token in latent pixels."""
    time_embed_dim: int = 64
    text_dim: int = 64
    text_layers: int = 2

    @property
    def compression(self) -> int:
        """Pixels along one side of a latent pixel."""
        return int(2 ** (len(self.vae_channels) - 1))

    @property
    def latent_size(self) -> int:
        """Side of a latent frame."""
        return self.size // self.compression

    @property
    def latent_frames(self) -> int:
        """Latent frames of a video."""
        return (self.frames - 1) // 4 + 1

    @property
    def grid(self) -> int:
        """Tokens along one side of a latent frame."""
        return self.latent_size // self.patch

    @property
    def stride(self) -> int:
        """Pixels along one side of a token."""
        return self.size // self.grid


def build_vae(config: TinyConfig) -> AutoencoderKLCogVideoX:
    """Builds a causal video autoencoder that compresses 4x4 in space (with three channel widths) and 4x in time."""
    depth = len(config.vae_channels)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * depth,
        up_block_types=("CogVideoXUpBlock3D",) * depth,
        block_out_channels=config.vae_channels,
        latent_channels=config.latent_channels,
        layers_per_block=1,
        norm_num_groups=8,
        sample_height=config.size,
        sample_width=config.size,
        scaling_factor=1.0,
        temporal_compression_ratio=4,
    )


def read_channels(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Returns the channel widths of an autoencoder from its weights, which may be of an earlier training."""
    name = "encoder.down_blocks.{}.resnets.0.conv1.conv.weight"
    depth = next(block for block in itertools.count() if name.format(block) not in weights)
    return tuple(len(weights[name.format(block)]) for block in range(depth))


def build_transformer(config: TinyConfig, zero_gates: bool = False) -> CogVideoXTransformer3DModel:
    """Builds the diffusion transformer with random weights.

    zero_gates: start every block as the identity (adaLN-Zero), which trains better; diffusers does not do this. The
    untrained twin keeps random gates, because with zero gates its attention would not change its output.
    """
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        # The default of 512 would cost 2.4 M parameters per layer in the modulations alone.
        time_embed_dim=config.time_embed_dim,
        text_embed_dim=config.text_dim,
        num_layers=config.layers,
        sample_width=config.latent_size,
        sample_height=config.latent_size,
        sample_frames=config.frames,
        patch_size=config.patch,
        max_text_seq_length=CAPTION_TOKENS,
        use_rotary_positional_embeddings=True,
    )
    if zero_gates:
        for block in transformer.transformer_blocks:
            _zero(block.norm1.linear)
            _zero(block.norm2.linear)
        _zero(transformer.norm_out.linear)
        _zero(transformer.proj_out)
    return transformer


def _zero(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)


def build_text_encoder(config: TinyConfig) -> T5EncoderModel:
    """Builds a small T5 encoder over the captions' closed vocabulary."""
    return T5EncoderModel(
        T5Config(
            vocab_size=64,
            d_model=config.text_dim,
            d_kv=16,
            d_ff=2 * config.text_dim,
            num_layers=config.text_layers,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            use_cache=False,
            dropout_rate=0.0,
            pad_token_id=TOKENS["<pad>"],
            eos_token_id=TOKENS["</s>"],
        )
    )


def build_tokenizer() -> T5Tokenizer:
    """Builds a word-level tokenizer whose ids are ``sprites.words.TOKENS``."""
    # T5 marks the start of a word with U+2581. Words have equal scores, so that scores never decide how to split text.
    vocabulary = [(word, 0.0) for word in SPECIAL] + [(f"\u2581{word}", -2.0) for word in WORDS]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=CAPTION_TOKENS)


def build_scheduler() -> CogVideoXDDIMScheduler:
    """Builds CogVideoX's scheduler without its shift: v-prediction, zero terminal signal-to-noise ratio."""
    return CogVideoXDDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
    )


def assemble(
    vae: AutoencoderKLCogVideoX, transformer: CogVideoXTransformer3DModel, text_encoder: T5EncoderModel
) -> CogVideoXPipeline:
    """Returns a pipeline of the given networks with the tokenizer and scheduler of this module."""
    return CogVideoXPipeline(
        tokenizer=build_tokenizer(),
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=build_scheduler(),
    )


def build_pipeline(config: TinyConfig | None = None, seed: int = 0, zero_gates: bool = False) -> CogVideoXPipeline:
    """Builds a pipeline with random weights from ``seed``; by default with the sizes of the embedded model."""
    config = config or TinyConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = build_vae(config), build_transformer(config, zero_gates), build_text_encoder(config)
    return assemble(*(network.eval() for network in networks))


def rotary_tables(config: TinyConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns cosines and sines of the rotary embedding, each (video tokens, head_dim), as the pipeline does."""
    side = config.grid
    tables = get_3d_rotary_pos_embed(
        embed_dim=config.head_dim,
        crops_coords=((0, 0), (side, side)),
        grid_size=(side, side),
        temporal_size=config.latent_frames,
        device=device,
    )
    return tables[0], tables[1]
