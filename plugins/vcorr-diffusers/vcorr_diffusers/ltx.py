"""LTX-Video: full 3D self-attention over the video tokens alone; the prompt comes in through cross-attention."""

from dataclasses import dataclass
from typing import Any

from vcorr import Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, VideoConfig, attention_sites
from vcorr.records import Unrotated


@dataclass(frozen=True, kw_only=True)
class LTXConfig(VideoConfig):
    """Options of `ltx-video`; the defaults are those of LTX-Video 0.9."""

    height: int = 512
    width: int = 704
    frames: int = 161
    num_layers: int = 28
    num_attention_heads: int = 32
    attention_head_dim: int = 64
    text_tokens: int = 128
    caption_channels: int = 4096
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers: tuple[int, ...] = (4, 3, 3, 3, 4)


class LTX(DiffusersVideoModel[LTXConfig]):
    """LTX-Video through diffusers' `LTXPipeline`."""

    pipeline_class = "LTXPipeline"
    card = "vcorr_diffusers:cards/ltx-video.yaml"
    branches = ("uncond", "cond")
    compression = Compression(spatial=32, temporal=8, patch=1)

    def sites(self) -> tuple[Site, ...]:
        """The self-attention of every block, and where q and k are before the rotary embedding."""
        c, block = self.config, "transformer_blocks.{}"
        turned = Unrotated("norm_q", "norm_k", "bnc")
        return attention_sites(f"{block}.attn1", c.num_layers, c.num_attention_heads, block=block, unrotated=turned)

    @property
    def encoding(self) -> PromptEncoding:
        """T5, padded; its mask is the second thing `encode_prompt` returns."""
        tokens = self.config.text_tokens
        return PromptEncoding(tokens, self.config.caption_channels, mask=1, options={"max_sequence_length": tokens})

    def schedule(self, num_steps: int, grid: TokenGrid) -> Any:
        """Flow matching, shifted by the number of tokens."""
        from vcorr.diffusion.schedule import shifted_schedule

        return shifted_schedule(self.pipe.scheduler, num_steps, grid.tokens, self.device)

    def condition(self, prompt: str, grid: TokenGrid) -> dict[str, Any]:
        """What the denoiser is given at every step."""
        text, pack = self.embed(prompt), self.compression
        return {
            "encoder_hidden_states": text["prompt_embeds"],
            "encoder_attention_mask": text["prompt_attention_mask"],
            "num_frames": grid.frames,
            "height": grid.rows,
            "width": grid.cols,
            "rope_interpolation_scale": (pack.temporal / 25, pack.spatial, pack.spatial),  # 25 frames a second
            "attention_kwargs": None,
            "return_dict": False,
        }

    def inputs(self, latents: Any, timestep: Any, condition: Any) -> dict[str, Any]:
        """One pass as the pipeline makes it, for a batch of one."""
        return {"hidden_states": self.pipe._pack_latents(latents), "timestep": timestep.expand(1), **condition}

    def build(self, seed: int) -> Any:
        """The pipeline with random weights, without text encoder."""
        import diffusers

        c, width = self.config, self.config.num_attention_heads * self.config.attention_head_dim
        transformer = diffusers.LTXVideoTransformer3DModel(
            num_layers=c.num_layers,
            num_attention_heads=c.num_attention_heads,
            attention_head_dim=c.attention_head_dim,
            cross_attention_dim=width,
            caption_channels=c.caption_channels,
        )
        vae = diffusers.AutoencoderKLLTXVideo(
            block_out_channels=c.vae_channels,
            decoder_block_out_channels=c.vae_channels,
            layers_per_block=c.vae_layers,
            decoder_layers_per_block=c.vae_layers,
        )
        shifts = {"base_shift": 0.95, "max_shift": 2.05, "base_image_seq_len": 1024, "shift_terminal": 0.1}
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **shifts)
        return diffusers.LTXPipeline(scheduler, vae, None, None, transformer)
