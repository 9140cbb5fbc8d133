"""Adapts HunyuanVideo.

Attention is full 3D over video and text tokens, text last and padded; the mask of every call hides the padding. 20
blocks have separate streams for video and text, and 40 blocks have one stream for both. Guidance is distilled: its
strength is an input of the network, with one pass per step. An unconditional second pass runs only if `true_cfg_scale`
is above 1. The autoencoder is causal: frame 0 has a latent frame of its own, and each further group of four frames
shares one.

Shape legend: n text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Rotary, RunSettings, Site, TokenGrid, Unrotated, option
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, attention_sites

if TYPE_CHECKING:
    from torch import Tensor

TEXT_TOKENS = 256
"""Text tokens of a prompt, padding included, without the pipeline's template."""


@dataclass(frozen=True, kw_only=True)
class HunyuanVideoConfig(VideoConfig):
    """Options of `hunyuanvideo`, in addition to the options of every model.

    The defaults of height, width and frames are from DiffTrack's analysis.
    """

    embedded_guidance: float = option(
        6.0,
        "Strength of guidance, which is an input of the network in both modes; `--cfg` replaces it in generate mode.",
        least=0,
    )
    true_cfg_scale: float = option(
        1.0,
        "Above 1, generate mode also runs the negative prompt, as a second pass.",
        least=0,
    )
    negative_prompt: str | None = option(
        None,
        "Text of the negative prompt; null for the authors' text, which is on the card.",
    )
    flow_shift: float | None = option(
        None,
        "Shift of the noise schedule, in every mode; null for the authors' value.",
    )


class HunyuanVideo(DiffusersVideoModel[HunyuanVideoConfig]):
    """HunyuanVideo through diffusers' `HunyuanVideoPipeline`.

    Random weights have no text encoders: their 8 billion random parameters would only turn the prompt into random
    numbers. Both prompt embeddings are then standard normal noise, with a seed computed from the prompt's text. The
    number of text tokens that are not padding is the number of words plus one.
    """

    pipeline_class = "HunyuanVideoPipeline"
    text = "after"
    embedded_guidance = True
    unrotated = Unrotated(axes="bnhd")

    def sites(self) -> Sequence[Site]:
        """Returns the joint attention of both kinds of blocks, numbered in order, without the text refiner's."""
        double, single = self.network["num_layers"], self.network["num_single_layers"]
        kinds = (("transformer_blocks.{}", double, 0), ("single_transformer_blocks.{}", single, double))
        return tuple(
            site
            for block, count, first in kinds  # a block returns the video tokens, then the text tokens
            for site in attention_sites(
                f"{block}.attn",
                count,
                self.network["num_attention_heads"],
                first=first,
                block=block,
                unrotated=self.unrotated,
                rotary=self.rotary,
            )
        )

    @property
    def rotary(self) -> Rotary:
        """The rotary layout: channels per axis, from the configuration."""
        return Rotary.blocks(self.network["rope_axes_dim"], theta=self.network.get("rope_theta", 256.0))

    @property
    def compression(self) -> Compression:
        """4x8x8 and patches of 2x2 at the released sizes."""
        vae = self.config_of("vae")
        spatial, temporal = vae["spatial_compression_ratio"], vae["temporal_compression_ratio"]
        return Compression(spatial=spatial, temporal=temporal, patch=self.network["patch_size"])

    def text_limit(self) -> int:
        """Returns the limit of the first text encoder, without the template; the second pools only the beginning."""
        return TEXT_TOKENS

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """Returns the timestep in float32 at the first step, then in the latents' dtype, as the pipeline does."""
        found = super().timestep_input(timestep, own, first)
        return found if float(timestep) == float(first) else found.to(self.pipe.transformer.dtype)

    def guidance_branches(self, settings: RunSettings) -> int:
        """Returns 2 if `true_cfg_scale` asks for an unconditional pass, else 1, whatever `--cfg` says."""
        return 2 if self.config.true_cfg_scale > 1 else 1

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the prompt (a random embedding without text encoders) and both kinds of guidance.

        It passes the negative prompt only if `true_cfg_scale` is above 1, because the pipeline then runs it.
        """
        config, prompt = self.config, self.prompt(clip)
        guidance = {"guidance_scale": config.embedded_guidance, "true_cfg_scale": config.true_cfg_scale}
        negative = self.setting("negative_prompt") if config.true_cfg_scale > 1 else None
        if self.pipe.text_encoder is not None:
            limit = {"max_sequence_length": TEXT_TOKENS}
            return {**guidance, **limit, "prompt": prompt, "negative_prompt": negative}
        unwanted = {} if negative is None else self._random_text(negative)
        return {
            **guidance,
            **self._random_text(prompt),
            **{f"negative_{name}": part for name, part in unwanted.items()},
        }

    @property
    def unused_settings(self) -> frozenset[str]:
        """The negative prompt, unless `true_cfg_scale` is above 1."""
        return frozenset() if self.config.true_cfg_scale > 1 else frozenset({"negative_prompt"})

    def _random_text(self, prompt: str) -> dict[str, Tensor]:
        """Draws the embeddings (1, n, text_embed_dim) and (1, pooled_projection_dim) and the mask (1, n) of a prompt.

        Keys are argument names of the pipeline's call.
        """
        from vcorr.diffusion import prompt_noise, random_mask

        parts = {
            "prompt_embeds": prompt_noise((1, TEXT_TOKENS, self.network["text_embed_dim"]), prompt),
            "pooled_prompt_embeds": prompt_noise((1, self.network["pooled_projection_dim"]), prompt, "pooled"),
            "prompt_attention_mask": random_mask(TEXT_TOKENS, prompt),
        }
        return {name: part.to(self.device, self.pipe.transformer.dtype) for name, part in parts.items()}
