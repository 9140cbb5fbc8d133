"""Cosmos 1, text to world: full 3D self-attention, EDM noise, guidance as two passes without a label, cond first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vcorr import MissingError, Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig, attention_sites
from vcorr.records import Unrotated

if TYPE_CHECKING:
    from torch import Tensor

_FPS = 30
"""Frames a second, which the rotary embedding counts in; the pipeline's own default."""


@dataclass(frozen=True, kw_only=True)
class CosmosConfig(VideoConfig):
    """Options of `cosmos-7b`; the defaults are those of Cosmos-1.0-Diffusion-7B-Text2World.

    max_size: latent frames, rows and columns that positions are counted in. rope_scale: of the rotary embedding along
    them. padding_mask: whether the transformer is given a mask of the padding, all zeros here, in one more channel;
    diffusers needs torchvision for that. vae_channels, decoder_channels: one width a resolution level.
    """

    height: int = 704
    width: int = 1280
    frames: int = 121
    num_layers: int = 28
    num_attention_heads: int = 32
    attention_head_dim: int = 128
    text_embed_dim: int = 1024
    text_tokens: int = 512
    adaln_lora_dim: int = 256
    max_size: tuple[int, ...] = (128, 240, 240)
    rope_scale: tuple[float, ...] = (2.0, 1.0, 1.0)
    padding_mask: bool = True
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    decoder_channels: tuple[int, ...] = (256, 512, 512, 512)
    vae_layers: int = 2


@dataclass(frozen=True, kw_only=True)
class Cosmos14BConfig(CosmosConfig):
    """Options of `cosmos-14b`: those of `cosmos-7b`, with the sizes of Cosmos-1.0-Diffusion-14B-Text2World."""

    num_layers: int = 36
    num_attention_heads: int = 40
    rope_scale: tuple[float, ...] = (2.0, 2.0, 2.0)


class Cosmos(DiffusersVideoModel[CosmosConfig]):
    """Cosmos 1 through diffusers' `CosmosTextToWorldPipeline`, whose guardrail stays in place for released weights."""

    pipeline_class = "CosmosTextToWorldPipeline"
    card = "vcorr_diffusers:cards/cosmos-7b.yaml"
    branches = ("cond",)
    passes = ("cond", "uncond")
    steps = 36
    compression = Compression(spatial=8, temporal=8, patch=2)

    def sites(self) -> tuple[Site, ...]:
        """The self-attention of every block."""
        config, block = self.config, "transformer_blocks.{}"
        turned = Unrotated("norm_q", "norm_k", "bhnd")
        return attention_sites(
            f"{block}.attn1", config.num_layers, config.num_attention_heads, block=block, unrotated=turned
        )

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """As far as the learned positions reach."""
        side, pack = super().sizes(site)["height"], self.compression
        frames, rows, cols = self.config.max_size
        return {
            "height": Sizes(side.first, side.step, rows * pack.spatial),
            "width": Sizes(side.first, side.step, cols * pack.spatial),
            "frames": Sizes(pack.least_frames, pack.frame_step, (frames - 1) * pack.temporal + 1),
        }

    @property
    def encoding(self) -> PromptEncoding:
        """T5; what is padding is zeros in place of a mask."""
        tokens = self.config.text_tokens
        return PromptEncoding(tokens, self.config.text_embed_dim, options={"max_sequence_length": tokens})

    def load(self, device: str, dtype: str, weights: str) -> None:
        """See the base class.

        Raises:
            MissingError: also when torchvision is missing where the transformer needs it.
        """
        if self.config.padding_mask and find_spec("torchvision") is None:
            raise MissingError(
                f"{self.model_card().title} gives its transformer a mask of the padding, for which diffusers needs the "
                "package torchvision.",
                hint="pip install torchvision, of the release that goes with your torch. Random weights also work "
                "without: --set model.padding_mask=false",
            )
        super().load(device, dtype, weights)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """As in the base class, and whether there is a padding mask."""
        return {**super().loaded_sizes(), "padding_mask": self.pipe.transformer.config.concat_padding_mask}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w) with the standard deviation the scheduler expects of data."""
        return super().encode(video) * float(self.pipe.scheduler.config.sigma_data)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding, the frame rate and the mask of a padding that does not exist."""
        import torch

        size = (1, 1, round(grid.height), round(grid.width))
        return {
            "encoder_hidden_states": self.embed(prompt)["prompt_embeds"],
            "fps": _FPS,
            "padding_mask": torch.zeros(size, device=self.device, dtype=self.pipe.transformer.dtype),
            "return_dict": False,
        }

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer."""
        return {"hidden_states": latents, "timestep": timestep.expand(1).to(latents.dtype), **condition}

    def build(self, seed: int) -> Any:
        """The pipeline with random weights, without text encoder and guardrail."""
        import diffusers
        import torch

        from vcorr_diffusers.guardrail import NothingToGuard

        config = self.config
        transformer = diffusers.CosmosTransformer3DModel(
            num_layers=config.num_layers,
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=config.attention_head_dim,
            text_embed_dim=config.text_embed_dim,
            adaln_lora_dim=config.adaln_lora_dim,
            max_size=config.max_size,
            rope_scale=config.rope_scale,
            concat_padding_mask=config.padding_mask,
        )
        vae = diffusers.AutoencoderKLCosmos(
            encoder_block_out_channels=config.vae_channels,
            decode_block_out_channels=config.decoder_channels,
            num_layers=config.vae_layers,
        )
        with torch.device("cpu"):  # its tables go through numpy, wherever the networks are built
            scheduler = diffusers.EDMEulerScheduler(sigma_data=0.5, final_sigmas_type="sigma_min")
        return diffusers.CosmosTextToWorldPipeline(None, None, transformer, vae, scheduler, NothingToGuard())


class Cosmos14B(Cosmos):
    """Cosmos 1, 14B."""

    card = "vcorr_diffusers:cards/cosmos-14b.yaml"
