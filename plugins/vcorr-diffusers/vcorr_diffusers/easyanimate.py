"""EasyAnimate 5.1: full 3D joint attention, text first and with its padding, flow matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, VideoConfig, attention_sites
from vcorr.records import Unrotated

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True, kw_only=True)
class EasyAnimateConfig(VideoConfig):
    """Options of `easyanimate`; the defaults are those of EasyAnimateV5.1-12b-zh.

    mmdit_layers: the first layers, in which text has projections of its own. text_tokens: of the stand-in for a prompt;
    a text encoder makes 256. vae_channels: one width a resolution level.
    """

    height: int = 512
    width: int = 512
    frames: int = 49
    num_layers: int = 48
    mmdit_layers: int = 48
    num_attention_heads: int = 48
    attention_head_dim: int = 64
    time_embed_dim: int = 512
    text_embed_dim: int = 3584
    text_tokens: int = 256
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    vae_norm_groups: int = 32


class EasyAnimate(DiffusersVideoModel[EasyAnimateConfig]):
    """EasyAnimate 5.1, text to video, through diffusers' `EasyAnimatePipeline`."""

    pipeline_class = "EasyAnimatePipeline"
    card = "vcorr_diffusers:cards/easyanimate.yaml"
    text = "before"
    branches = ("uncond", "cond")
    compression = Compression(spatial=8, temporal=4, patch=2)

    def sites(self) -> tuple[Site, ...]:
        """The joint attention of every block, which puts out video and text apart."""
        config, block = self.config, "transformer_blocks.{}"
        turned = Unrotated("norm_q", "norm_k", "bhnd")
        return attention_sites(
            f"{block}.attn1", config.num_layers, config.num_attention_heads, block=block, unrotated=turned
        )

    @property
    def encoding(self) -> PromptEncoding:
        """Qwen2-VL with its mask, which the transformer does not use; its length is fixed by the pipeline."""
        return PromptEncoding(self.config.text_tokens, self.config.text_embed_dim, mask=2)

    def text_limit(self) -> None:
        """Not checked: the text encoder is given the prompt inside a chat, which the tokenizer alone does not count."""

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """Flow matching; a scheduler that shifts by resolution is told the pipeline's constant."""
        from vcorr.diffusion.schedule import noise_schedule

        return noise_schedule(self.pipe.scheduler, num_steps, self.device, mu=1)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding."""
        return {"encoder_hidden_states": self.embed(prompt)["prompt_embeds"], "return_dict": False}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        return {"hidden_states": latents, "timestep": timestep.expand(1).to(latents.dtype), **condition}

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt; the pipeline wants to be told that the negative one is empty."""
        given = super().call_inputs(clip, grid)
        return {**given, "negative_prompt": ""} if "prompt" in given else given

    def build(self, seed: int) -> Any:
        """The pipeline with random weights, without text encoder."""
        import diffusers

        config, levels = self.config, len(self.config.vae_channels)
        vae = diffusers.AutoencoderKLMagvit(
            block_out_channels=config.vae_channels,
            down_block_types=("SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * (levels - 1)),
            up_block_types=("SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * (levels - 1)),
            layers_per_block=config.vae_layers_per_block,
            norm_num_groups=config.vae_norm_groups,
        )
        channels = vae.config.latent_channels
        transformer = diffusers.EasyAnimateTransformer3DModel(
            num_layers=config.num_layers,
            mmdit_layers=config.mmdit_layers,
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=config.attention_head_dim,
            in_channels=channels,
            out_channels=channels,
            patch_size=2,
            time_embed_dim=config.time_embed_dim,
            text_embed_dim=config.text_embed_dim,
            add_norm_text_encoder=True,
        )
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        return diffusers.EasyAnimatePipeline(vae, None, None, transformer, scheduler)
