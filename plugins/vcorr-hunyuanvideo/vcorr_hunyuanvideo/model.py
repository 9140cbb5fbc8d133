"""The adapter of HunyuanVideo.

Full 3D attention over video and text tokens, text last and padded; the mask of every call hides the padding. 20 blocks
keep video and text apart outside the attention, 40 more treat them as one sequence. Guidance is a number the network
was distilled for, one pass a step; a second, unconditional pass follows only where `true_cfg_scale` asks for it. The
autoencoder is causal: the first frame is a latent of its own, every four frames after it share one.

Shape legend: T video frames, C latent channels, F x h x w latents, n text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import Clip, Site, TokenGrid, UsageError
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, attention_sites
from vcorr.records import Unrotated

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True, kw_only=True)
class HunyuanVideoConfig(VideoConfig):
    """Options of `hunyuanvideo`. Height, width and frames default to those of DiffTrack's analysis.

    embedded_guidance: the strength of guidance that is an input of the network, in both modes; `--guidance` replaces it
    in generate mode. true_cfg_scale: above 1, generate mode also runs the negative prompt, as a second pass.
    negative_prompt: its text.

    All others but those of every model (height, width, frames, prompt, lora, offload, vae_tiling) are sizes of the
    networks: `--weights random` builds them as they are given here, and weights from elsewhere must agree with those
    that decide where the tokens are.

    num_layers: blocks that keep video and text apart; num_single_layers: those after them, on one sequence.
    num_refiner_layers: of the text. num_attention_heads, attention_head_dim: of all blocks. rope_axes_dim: how many
    numbers of a head turn with time, y and x; they add up to attention_head_dim. patch_size: latents a token covers in
    x and y. text_embed_dim: width of the prompt embedding, pooled_dim: of the pooled one. max_text_seq_length: text
    tokens, padding included. vae_channels: one width a resolution level; the autoencoder shrinks space by 2 between
    levels. temporal_compression: frames a latent covers. scaling_factor: what latents are multiplied by. flow_shift: of
    the noise schedule.
    """

    height: int = 480
    width: int = 720
    frames: int = 49
    embedded_guidance: float = 6.0
    true_cfg_scale: float = 1.0
    negative_prompt: str = ""
    num_layers: int = 20
    num_single_layers: int = 40
    num_refiner_layers: int = 2
    num_attention_heads: int = 24
    attention_head_dim: int = 128
    rope_axes_dim: tuple[int, ...] = (16, 56, 56)
    patch_size: int = 2
    text_embed_dim: int = 4096
    pooled_dim: int = 768
    max_text_seq_length: int = 256
    latent_channels: int = 16
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    vae_norm_groups: int = 32
    temporal_compression: int = 4
    scaling_factor: float = 0.476986
    flow_shift: float = 7.0

    def __post_init__(self) -> None:
        check_axes("rope_axes_dim", self.rope_axes_dim, self.attention_head_dim)

    @property
    def spatial_compression(self) -> int:
        """Pixels a latent covers in x and y."""
        return int(2 ** (len(self.vae_channels) - 1))


class HunyuanVideo(DiffusersVideoModel[HunyuanVideoConfig]):
    """HunyuanVideo through diffusers' `HunyuanVideoPipeline`.

    Random weights come without the text encoders, whose 8 billion parameters would only turn the prompt into other
    random numbers: both prompt embeddings are then standard normal noise, seeded by the prompt's text, and as many of
    the text tokens count as real as the prompt has words, and one more.
    """

    pipeline_class: ClassVar[str] = "HunyuanVideoPipeline"
    card: ClassVar[str] = "vcorr_hunyuanvideo:cards/hunyuanvideo.yaml"
    text = "after"
    embedded_guidance: ClassVar[bool] = True

    def sites(self) -> Sequence[Site]:
        """The joint attention of both kinds of blocks, numbered through. That of the text's refiner is not among it."""
        config, unrotated = self.config, Unrotated(axes="bnhd")
        double = attention_sites(
            "transformer_blocks.{}.attn",
            config.num_layers,
            config.num_attention_heads,
            block="transformer_blocks.{}",  # puts out the video tokens, then the text tokens
            unrotated=unrotated,
        )
        single = attention_sites(
            "single_transformer_blocks.{}.attn",
            config.num_single_layers,
            config.num_attention_heads,
            first=config.num_layers,
            block="single_transformer_blocks.{}",  # likewise
            unrotated=unrotated,
        )
        return double + single

    @property
    def compression(self) -> Compression:
        """4x8x8 and patches of 2x2 at the released sizes."""
        config = self.config
        return Compression(
            spatial=config.spatial_compression, temporal=config.temporal_compression, patch=config.patch_size
        )

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoders."""
        from vcorr_hunyuanvideo.networks import build_pipeline

        return build_pipeline(self.config)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes that decide where sites and tokens are."""
        transformer, vae = self.pipe.transformer.config, self.pipe.vae.config
        same_depth = len(vae.block_out_channels) == len(self.config.vae_channels)
        return {
            "num_layers": transformer.num_layers,
            "num_single_layers": transformer.num_single_layers,
            "num_attention_heads": transformer.num_attention_heads,
            "patch_size": transformer.patch_size,
            "temporal_compression": vae.temporal_compression_ratio,
            # The number of levels decides the stride; their widths do not.
            "vae_channels": self.config.vae_channels if same_depth else tuple(vae.block_out_channels),
        }

    def text_limit(self) -> int:
        """Of the first text encoder, beside the tokens of the pipeline's template; the second pools a beginning."""
        return self.config.max_text_seq_length

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """Even sigmas from 1, shifted by the scheduler, as the pipeline asks for them."""
        from vcorr.diffusion.schedule import noise_schedule
        from vcorr_hunyuanvideo.networks import even_sigmas

        return noise_schedule(self.pipe.scheduler, num_steps, self.device, sigmas=even_sigmas(num_steps))

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """In the dtype of the latents, which the pipeline keeps in float32 at the first step alone."""
        found = super().timestep_input(timestep, own, first)
        return found if float(timestep) == float(first) else found.to(self.pipe.transformer.dtype)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """Both prompt embeddings and the mask of the first one, and the strength of guidance the network is told."""
        import torch

        pipe = self.pipe
        dtype = pipe.transformer.dtype
        if pipe.text_encoder is None:
            embedding, pooled, mask = self._stand_in(prompt)
        else:
            embedding, pooled, mask = pipe.encode_prompt(
                prompt, device=self.device, max_sequence_length=self.text_limit()
            )
        return {
            "encoder_hidden_states": embedding.to(dtype),
            "encoder_attention_mask": mask.to(dtype),
            "pooled_projections": pooled.to(dtype),
            "guidance": torch.tensor([self.config.embedded_guidance], dtype=dtype, device=self.device) * 1000.0,
        }

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer."""
        latents = latents.to(self.pipe.transformer.dtype)
        return {
            "hidden_states": latents,
            "timestep": timestep.expand(1).to(latents.dtype),
            "attention_kwargs": None,
            "return_dict": False,
            **condition,
        }

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt, or its stand-in where there are no text encoders, and both kinds of guidance."""
        config = self.config
        guidance = {"guidance_scale": config.embedded_guidance, "true_cfg_scale": config.true_cfg_scale}
        prompt, negative = self.prompt(clip), config.negative_prompt
        if self.pipe.text_encoder is not None:
            texts = {"prompt": prompt, "max_sequence_length": self.text_limit()}
            return {**texts, **guidance, **({"negative_prompt": negative} if config.true_cfg_scale > 1 else {})}
        names = ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")
        parts = dict(zip(names, self._stand_in(prompt), strict=True))
        if config.true_cfg_scale > 1:
            parts |= {f"negative_{n}": part for n, part in zip(names, self._stand_in(negative), strict=True)}
        return {**parts, **guidance}

    def _stand_in(self, prompt: str) -> tuple[Tensor, Tensor, Tensor]:
        """(1, n, text_embed_dim), (1, pooled_dim) and the mask (1, n)."""
        from vcorr.diffusion.latents import prompt_noise
        from vcorr.diffusion.text import random_mask

        tokens, sizes = self.text_limit(), self.pipe.transformer.config
        parts = (
            prompt_noise((1, tokens, sizes.text_embed_dim), prompt),
            prompt_noise((1, sizes.pooled_projection_dim), prompt, "pooled"),
            random_mask(tokens, prompt),
        )
        embedding, pooled, mask = (part.to(self.device, self.pipe.transformer.dtype) for part in parts)
        return embedding, pooled, mask


def check_axes(name: str, axes: Sequence[int], head_dim: int) -> None:
    """Raises UsageError unless the shares of a head that turn with time, y and x, the option `name`, fill it."""
    if sum(axes) != head_dim:
        raise UsageError(
            f"model.{name}={list(axes)} adds up to {sum(axes)}, not to model.attention_head_dim={head_dim}.",
            hint=f"For example: --set model.attention_head_dim=16 --set 'model.{name}=[4,6,6]'",
        )
