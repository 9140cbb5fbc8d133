"""The adapters of HunyuanVideo 1.5.

Full 3D attention over video and text tokens. The text comes from three encoders, is repacked so that real tokens stand
before padding, and follows the video; the mask of every call hides the padding. Guidance runs as two passes, which the
pipeline's guider labels. Tokens are latents: the autoencoder shrinks space by 16 and is causal in time.

Shape legend: T video frames, C latent channels, F x h x w latents, n text tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import Clip, Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, attention_sites
from vcorr.records import Unrotated
from vcorr_hunyuanvideo.model import check_axes

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.diffusion.schedule import NoiseSchedule

PARTS = ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")
"""What the pipeline's call names the embeddings of a prompt and of the words it quotes, in the order they come."""
PASSED_AS = (
    "encoder_hidden_states",
    "encoder_attention_mask",
    "encoder_hidden_states_2",
    "encoder_attention_mask_2",
)
"""What the transformer names them."""
_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class HunyuanVideo15Config(VideoConfig):
    """Options of `hunyuanvideo-1.5`.

    guidance_scale: of generate mode, where `--guidance` replaces it. negative_prompt: what guidance leads away from.

    All others but those of every model (height, width, frames, prompt, lora, offload, vae_tiling, vae_slicing) are
    sizes of the networks: `--weights random` builds them as they are given here, and weights from elsewhere must agree
    with those that decide where the tokens are.

    num_layers, num_attention_heads, attention_head_dim: of the transformer; num_refiner_layers: of the text.
    rope_axes_dim: how many numbers of a head turn with time, y and x; they add up to attention_head_dim.
    text_embed_dim, text_embed_2_dim, image_embed_dim: widths of the embeddings of the prompt, of what it quotes and of
    an image; text_tokens, glyph_tokens, image_tokens: of each, padding included. latent_channels, vae_channels,
    vae_layers_per_block: of the autoencoder, one width a resolution level, which shrinks space by 2 between levels.
    temporal_compression: frames a latent covers. scaling_factor: what latents are multiplied by. flow_shift: of the
    noise schedule.
    """

    height: int = 480
    width: int = 848
    frames: int = 121
    guidance_scale: float = 6.0
    negative_prompt: str = ""
    num_layers: int = 54
    num_attention_heads: int = 16
    attention_head_dim: int = 128
    num_refiner_layers: int = 2
    rope_axes_dim: tuple[int, ...] = (16, 56, 56)
    text_embed_dim: int = 3584
    text_embed_2_dim: int = 1472
    image_embed_dim: int = 1152
    text_tokens: int = 1000
    glyph_tokens: int = 256
    image_tokens: int = 729
    latent_channels: int = 32
    vae_channels: tuple[int, ...] = (128, 256, 512, 1024, 1024)
    vae_layers_per_block: int = 2
    temporal_compression: int = 4
    scaling_factor: float = 1.03682
    flow_shift: float = 5.0

    def __post_init__(self) -> None:
        check_axes("rope_axes_dim", self.rope_axes_dim, self.attention_head_dim)

    @property
    def spatial_compression(self) -> int:
        """Pixels a latent covers in x and y."""
        return int(2 ** (len(self.vae_channels) - 1))


class HunyuanVideo15(DiffusersVideoModel[HunyuanVideo15Config]):
    """HunyuanVideo 1.5 from text, through diffusers' `HunyuanVideo15Pipeline`.

    Random weights come without the text encoders, whose 7 billion parameters would only turn the prompt into other
    random numbers: the embeddings are then standard normal noise, seeded by the prompt's text; as many tokens count as
    real as the prompt, and as what it quotes, has words, and one more.
    """

    pipeline_class: ClassVar[str] = "vcorr_hunyuanvideo.networks15:GuidedPipeline"
    saved_as: ClassVar[tuple[str, ...]] = ("HunyuanVideo15Pipeline", "GuidedPipeline")
    card: ClassVar[str] = "vcorr_hunyuanvideo:cards/hunyuanvideo-1.5.yaml"
    text = "after"

    def sites(self) -> Sequence[Site]:
        """The joint attention of every block. That of the text's refiner is not among it."""
        return attention_sites(
            "transformer_blocks.{}.attn",
            self.config.num_layers,
            self.config.num_attention_heads,
            block="transformer_blocks.{}",  # puts out the video tokens, then the text tokens
            unrotated=Unrotated(axes="bnhd"),
        )

    @property
    def compression(self) -> Compression:
        """4x16x16, a latent a token, at the released sizes."""
        config = self.config
        return Compression(spatial=config.spatial_compression, temporal=config.temporal_compression, patch=1)

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoders."""
        from vcorr_hunyuanvideo.networks15 import build_pipeline

        return build_pipeline(self.config)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes of the transformer, and those of the autoencoder that decide where tokens are."""
        vae = self.pipe.vae.config
        same_depth = len(vae.block_out_channels) == len(self.config.vae_channels)
        return {
            **super().loaded_sizes(),
            "temporal_compression": vae.temporal_compression_ratio,
            # The number of levels decides the stride; their widths do not.
            "vae_channels": self.config.vae_channels if same_depth else tuple(vae.block_out_channels),
        }

    def text_limit(self) -> int:
        """Of the prompt, beside the tokens of the pipeline's template."""
        return self.config.text_tokens

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """Even sigmas from 1, shifted by the scheduler, as the pipeline asks for them."""
        from vcorr.diffusion.schedule import noise_schedule
        from vcorr_hunyuanvideo.networks import even_sigmas

        return noise_schedule(self.pipe.scheduler, num_steps, self.device, sigmas=even_sigmas(num_steps))

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embeddings and masks, and no image."""
        import torch

        pipe, dtype = self.pipe, self.pipe.transformer.dtype
        if pipe.text_encoder is None:
            parts = self._stand_in(prompt)
        else:
            parts = pipe.encode_prompt(prompt, device=self.device, dtype=dtype)
        image = torch.zeros(1, pipe.vision_num_semantic_tokens, pipe.vision_states_dim, dtype=dtype, device=self.device)
        return {**dict(zip(PASSED_AS, parts, strict=True)), "image_embeds": image}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer: no image in the further channels."""
        import torch

        latents = latents.to(self.pipe.transformer.dtype)
        empty = latents.new_zeros(1, latents.shape[1] + 1, *latents.shape[2:])
        return {
            "hidden_states": torch.cat([latents, empty], dim=1),
            "timestep": timestep.expand(1).to(latents.dtype),
            "attention_kwargs": None,
            "return_dict": False,
            **condition,
        }

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt and the negative one, or their stand-ins where there are no text encoders, and guidance."""
        config, prompt = self.config, self.prompt(clip)
        guidance = {"guidance_scale": config.guidance_scale}
        if self.pipe.text_encoder is not None:
            return {**guidance, "prompt": prompt, "negative_prompt": config.negative_prompt}
        negative = [f"negative_{name}" for name in PARTS]
        return {
            **guidance,
            **dict(zip(PARTS, self._stand_in(prompt), strict=True)),
            **dict(zip(negative, self._stand_in(config.negative_prompt), strict=True)),
        }

    def _stand_in(self, prompt: str) -> tuple[Tensor, ...]:
        """(1, n, c) and the mask (1, n), of the prompt and of the words it quotes."""
        from vcorr.diffusion.latents import prompt_noise
        from vcorr.diffusion.text import random_mask

        config, quoted = self.config, " ".join(_QUOTED.findall(prompt))
        glyphs = random_mask(config.glyph_tokens, quoted) & bool(quoted)
        parts = (
            prompt_noise((1, config.text_tokens, config.text_embed_dim), prompt),
            random_mask(config.text_tokens, prompt),
            prompt_noise((1, config.glyph_tokens, config.text_embed_2_dim), quoted, "glyphs"),
            glyphs,
        )
        return tuple(part.to(self.device, self.pipe.transformer.dtype) for part in parts)


# ------------------------------------------------------------------------------------------------- the family, as data


@dataclass(frozen=True, kw_only=True)
class HunyuanVideo15Config720(HunyuanVideo15Config):
    """Options of `hunyuanvideo-1.5-720p`: those of `hunyuanvideo-1.5` at a larger size of video."""

    height: int = 720
    width: int = 1280
    flow_shift: float = 9.0


class HunyuanVideo15For720(HunyuanVideo15):
    """HunyuanVideo 1.5 for 720p."""

    card: ClassVar[str] = "vcorr_hunyuanvideo:cards/hunyuanvideo-1.5-720p.yaml"
