"""Allegro: full 3D self-attention over the video tokens, an autoencoder that is not causal and works in fixed tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig, attention_sites

if TYPE_CHECKING:
    from torch import Tensor

_TILE_FRAMES, _STEP_FRAMES, _OVERLAP_ROWS, _OVERLAP_COLS = 24, 16, 120, 80
"""Of diffusers' `AutoencoderKLAllegro`: frames of a tile, frames from one tile to the next, pixels they overlap in."""


@dataclass(frozen=True, kw_only=True)
class AllegroConfig(VideoConfig):
    """Options of `allegro`; the defaults are those of Allegro.

    caption_channels: width of the prompt's embedding. vae_channels: one width a resolution level. vae_tile: pixels of a
    side of the tiles the autoencoder works in, which decide what sizes it takes.
    """

    height: int = 720
    width: int = 1280
    frames: int = 88
    num_layers: int = 32
    num_attention_heads: int = 24
    attention_head_dim: int = 96
    caption_channels: int = 4096
    text_tokens: int = 512
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    vae_norm_groups: int = 32
    vae_tile: int = 320


class Allegro(DiffusersVideoModel[AllegroConfig]):
    """Allegro through diffusers' `AllegroPipeline`."""

    pipeline_class = "AllegroPipeline"
    card = "vcorr_diffusers:cards/allegro.yaml"
    branches = ("uncond", "cond")
    steps = 100
    compression = Compression(spatial=8, temporal=4, patch=2, causal=False)

    def sites(self) -> tuple[Site, ...]:
        """The self-attention of every block; its rotary embedding comes right after the projections."""
        config, block = self.config, "transformer_blocks.{}"
        return attention_sites(f"{block}.attn1", config.num_layers, config.num_attention_heads, block=block)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """What the autoencoder's tiles cover without a rest; pixels beyond the last whole tile would be left black."""
        tile = self.config.vae_tile
        return {
            "height": Sizes(tile, tile - _OVERLAP_ROWS),
            "width": Sizes(tile, tile - _OVERLAP_COLS),
            "frames": Sizes(_TILE_FRAMES, _STEP_FRAMES),
        }

    @property
    def encoding(self) -> PromptEncoding:
        """T5 with its mask; no cleaning of captions, which would depend on packages that may not be there."""
        tokens = self.config.text_tokens
        options = {"max_sequence_length": tokens, "clean_caption": False}
        return PromptEncoding(tokens, self.config.caption_channels, mask=1, options=options)

    def load(self, device: str, dtype: str, weights: str) -> None:
        """See the base class. The autoencoder always works in tiles: diffusers has no other way for it."""
        super().load(device, dtype, weights)
        self.pipe.vae.enable_tiling()

    def loaded_sizes(self) -> Mapping[str, Any]:
        """As in the base class, and the autoencoder's tiles."""
        return {**super().loaded_sizes(), "vae_tile": self.pipe.vae.config.sample_size}

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding and mask, and the rotary tables as the pipeline makes them."""
        text = self.embed(prompt)
        rotary = self.pipe._prepare_rotary_positional_embeddings(
            1, round(grid.height), round(grid.width), grid.frames, self.device
        )
        return {
            "encoder_hidden_states": text["prompt_embeds"].unsqueeze(1),
            "encoder_attention_mask": text["prompt_attention_mask"],
            "image_rotary_emb": rotary,
            "return_dict": False,
        }

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        return {"hidden_states": latents, "timestep": timestep.expand(1), **condition}

    def build(self, seed: int) -> Any:
        """The pipeline with random weights, without text encoder."""
        import diffusers
        import torch

        config = self.config
        transformer = diffusers.AllegroTransformer3DModel(
            num_layers=config.num_layers,
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=config.attention_head_dim,
            cross_attention_dim=config.num_attention_heads * config.attention_head_dim,
            caption_channels=config.caption_channels,
            sample_height=config.height // 8,
            sample_width=config.width // 8,
            sample_frames=config.frames // 4,
        )
        vae = diffusers.AutoencoderKLAllegro(
            block_out_channels=config.vae_channels,
            layers_per_block=config.vae_layers_per_block,
            norm_num_groups=config.vae_norm_groups,
            sample_size=config.vae_tile,
        )
        with torch.device("cpu"):  # its tables go through numpy, wherever the networks are built
            scheduler = diffusers.EulerAncestralDiscreteScheduler()
        return diffusers.AllegroPipeline(None, None, vae, transformer, scheduler)
