"""Latte: attention factorised over space and time, blocks of the two taking turns; an autoencoder of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vcorr import Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig
from vcorr.records import Factorised

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LatteConfig(VideoConfig):
    """Options of `latte`; the defaults are those of Latte-1.

    frames: the one number of frames that positions in time are made for. caption_channels: width of the prompt's
    embedding. vae_channels: one width a resolution level.
    """

    height: int = 512
    width: int = 512
    frames: int = 16
    num_layers: int = 28
    num_attention_heads: int = 16
    attention_head_dim: int = 72
    caption_channels: int = 4096
    text_tokens: int = 120
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    vae_norm_groups: int = 32


class Latte(DiffusersVideoModel[LatteConfig]):
    """Latte through diffusers' `LattePipeline`."""

    pipeline_class = "LattePipeline"
    card = "vcorr_diffusers:cards/latte.yaml"
    branches = ("uncond", "cond")
    frames_argument = "video_length"
    compression = Compression(spatial=8, temporal=1, patch=2)

    def sites(self) -> tuple[Site, ...]:
        """Two a layer of the configuration: over the places of a frame, then over the frames of a place."""
        kinds = (("transformer_blocks", Factorised("frame")), ("temporal_transformer_blocks", Factorised("place")))
        blocks = [(f"{name}.{i}", rows) for i in range(self.config.num_layers) for name, rows in kinds]
        heads = self.config.num_attention_heads
        return tuple(
            Site(layer, f"{block}.attn1", heads, "factorised", block=block, factorised=rows)
            for layer, (block, rows) in enumerate(blocks)
        )

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Any height and width, and one number of frames."""
        frames = self.config.frames
        return {**super().sizes(site), "frames": Sizes(frames, 1, frames)}

    @property
    def encoding(self) -> PromptEncoding:
        """T5 without its padding; captions are not cleaned, which would depend on packages that may not be there."""
        return PromptEncoding(self.config.text_tokens, self.config.caption_channels, options={"clean_caption": False})

    def loaded_sizes(self) -> Mapping[str, Any]:
        """As in the base class, and the number of frames."""
        return {**super().loaded_sizes(), "frames": self.pipe.transformer.config.video_length}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, T, h, w), each frame by itself."""
        from vcorr.diffusion.latents import encode_frames

        return encode_frames(self.pipe.vae, video, self.device)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding."""
        return {
            "encoder_hidden_states": self.embed(prompt)["prompt_embeds"],
            "enable_temporal_attentions": True,
            "return_dict": False,
        }

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        return {"hidden_states": latents, "timestep": timestep.expand(1), **condition}

    def build(self, seed: int) -> Any:
        """The pipeline with random weights, without text encoder."""
        import diffusers

        config, levels = self.config, len(self.config.vae_channels)
        vae = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.vae_channels,
            layers_per_block=config.vae_layers_per_block,
            norm_num_groups=config.vae_norm_groups,
            latent_channels=4,
        )
        transformer = diffusers.LatteTransformer3DModel(
            num_layers=config.num_layers,
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=config.attention_head_dim,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=config.num_attention_heads * config.attention_head_dim,
            attention_bias=True,
            sample_size=config.height // self.compression.spatial,
            patch_size=self.compression.patch,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
            caption_channels=config.caption_channels,
            video_length=config.frames,
        )
        scheduler = diffusers.DDIMScheduler(clip_sample=False)
        return diffusers.LattePipeline(None, None, vae, transformer, scheduler)
