"""SANA-Video: linear self-attention over the video tokens, which has no softmax; text in cross-attention.

What is read are the queries and keys of the numerator. Matching puts them through a softmax that the model does not
have, so its rows are marked `linear`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig, attention_sites

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = 32
"""What the pipeline wants height and width to be multiples of."""


@dataclass(frozen=True, kw_only=True)
class SanaVideoConfig(VideoConfig):
    """Options of `sana-video`; the defaults are those of SANA-Video 2B at 480p.

    caption_channels: width of the prompt's embedding. vae_width, vae_levels, vae_resnets: of the Wan autoencoder, its
    first width, the multiples of it at each resolution level, and blocks a level.
    """

    height: int = 480
    width: int = 832
    frames: int = 81
    num_layers: int = 20
    num_attention_heads: int = 20
    attention_head_dim: int = 112
    caption_channels: int = 2304
    text_tokens: int = 300
    vae_width: int = 96
    vae_levels: tuple[int, ...] = (1, 2, 4, 4)
    vae_resnets: int = 2


class SanaVideo(DiffusersVideoModel[SanaVideoConfig]):
    """SANA-Video through diffusers' `SanaVideoPipeline`."""

    pipeline_class = "SanaVideoPipeline"
    card = "vcorr_diffusers:cards/sana-video.yaml"
    branches = ("uncond", "cond")
    frames_argument = "frames"
    compression = Compression(spatial=8, temporal=4, patch=2)

    def sites(self) -> tuple[Site, ...]:
        """The linear self-attention of every block."""
        config, block = self.config, "transformer_blocks.{}"
        return attention_sites(f"{block}.attn1", config.num_layers, config.num_attention_heads, "linear", block=block)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Multiples of 32 pixels, though a token covers 16."""
        side = Sizes(_SIDE, _SIDE)
        return {**super().sizes(site), "height": side, "width": side}

    @property
    def encoding(self) -> PromptEncoding:
        """Gemma with its mask, and the pipeline's own instruction to enhance the prompt before it."""
        tokens, name = self.config.text_tokens, "complex_human_instruction"
        instruction = inspect.signature(type(self.pipe).__call__).parameters[name].default
        options = {"max_sequence_length": tokens, "clean_caption": False, name: instruction}
        return PromptEncoding(tokens, self.config.caption_channels, mask=1, options=options)

    def load(self, device: str, dtype: str, weights: str) -> None:
        """See the base class."""
        super().load(device, dtype, weights)
        self._show_attention()

    def adopt(self, pipe: Any, device: str) -> None:
        """See the base class."""
        super().adopt(pipe, device)
        self._show_attention()

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding and mask."""
        text = self.embed(prompt)
        return {
            "encoder_hidden_states": text["prompt_embeds"].to(self.pipe.transformer.dtype),
            "encoder_attention_mask": text["prompt_attention_mask"],
            "attention_kwargs": None,
            "return_dict": False,
        }

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        return {
            "hidden_states": latents.to(self.pipe.transformer.dtype),
            "timestep": timestep.expand(1),
            **condition,
        }

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt, and the size as it is, not the nearest of a list."""
        return {**super().call_inputs(clip, grid), "use_resolution_binning": False}

    def build(self, seed: int) -> Any:
        """The pipeline with random weights, without text encoder."""
        import diffusers
        import torch

        config = self.config
        width = config.num_attention_heads * config.attention_head_dim
        transformer = diffusers.SanaVideoTransformer3DModel(
            num_layers=config.num_layers,
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=config.attention_head_dim,
            num_cross_attention_heads=config.num_attention_heads,
            cross_attention_head_dim=config.attention_head_dim,
            cross_attention_dim=width,
            caption_channels=config.caption_channels,
            mlp_ratio=3.0,
        )
        vae = diffusers.AutoencoderKLWan(
            base_dim=config.vae_width, dim_mult=list(config.vae_levels), num_res_blocks=config.vae_resnets
        )
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 8.0}
        with torch.device("cpu"):  # its tables go through numpy, wherever the networks are built
            scheduler = diffusers.DPMSolverMultistepScheduler(**flow)
        return diffusers.SanaVideoPipeline(None, None, vae, transformer, scheduler)

    def _show_attention(self) -> None:
        from vcorr_diffusers.linear import show_linear_attention

        show_linear_attention(self.pipe.transformer.transformer_blocks)
