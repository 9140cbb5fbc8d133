"""Adapts HunyuanVideo 1.5.

Attention is full 3D over video and text tokens. The text comes from three encoders and follows the video. It is
reordered so that padding comes last; the mask of every call hides the padding. Guidance runs as two passes, which the
pipeline's guider labels. A token is one latent: the autoencoder compresses space by 16 and is causal in time.

Shape legend: n text tokens, c width of an embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Rotary, TokenGrid, Unrotated, option
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig

if TYPE_CHECKING:
    from torch import Tensor

_TOKENS, _QUOTED_TOKENS = 1000, 256
"""Text tokens of a prompt, without the pipeline's template, and of its quoted words; padding included."""
_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class HunyuanVideo15Config(VideoConfig):
    """Options of `hunyuanvideo-1.5` and `hunyuanvideo-1.5-720p`, in addition to the options of every model."""

    guidance_scale: float | None = option(
        None,
        "Strength of guidance in generate mode; `--cfg` replaces it. null for the strength of the weights' guider.",
        least=0,
    )
    negative_prompt: str = option("", "Text of the unconditional branch.")
    flow_shift: float | None = option(
        None,
        "Shift of the noise schedule; null for the shift of the weights' scheduler.",
    )


class HunyuanVideo15(DiffusersVideoModel[HunyuanVideo15Config]):
    """HunyuanVideo 1.5 from text, through diffusers' `HunyuanVideo15Pipeline`.

    Random weights have no text encoders: their 7 billion random parameters would only turn the prompt into random
    numbers. The embeddings are then standard normal noise, with a seed computed from the prompt's text. The prompt and
    its quoted words, if any, each have one text token per word and one more; the other text tokens are padding.
    """

    pipeline_class = "vcorr_hunyuanvideo.guided:GuidedPipeline"
    saved_as = ("HunyuanVideo15Pipeline", "GuidedPipeline")
    text = "after"
    guided_branches = 2
    attention = "transformer_blocks.{}.attn"  # without the attention of the text refiner
    unrotated = Unrotated(axes="bnhd")

    @property
    def rotary(self) -> Rotary:
        """The rotary layout: channels per axis, from the configuration."""
        return Rotary.blocks(self.network["rope_axes_dim"], theta=self.network.get("rope_theta", 256.0))

    @property
    def compression(self) -> Compression:
        """4x16x16 at the released sizes, with one latent per token."""
        vae = self.config_of("vae")
        spatial, temporal = vae["spatial_compression_ratio"], vae["temporal_compression_ratio"]
        return Compression(spatial=spatial, temporal=temporal, patch=self.network["patch_size"])

    def text_limit(self) -> int:
        """Returns the limit of a prompt, without the tokens of the pipeline's template."""
        return _TOKENS

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the prompt and the negative prompt (random embeddings without text encoders), and guidance."""
        prompt, negative = self.prompt(clip), self.config.negative_prompt
        guidance = {"guidance_scale": self.config.guidance_scale}
        if self.pipe.text_encoder is not None:
            return {**guidance, "prompt": prompt, "negative_prompt": negative}
        unwanted = {f"negative_{name}": part for name, part in self._random_text(negative).items()}
        return {**guidance, **self._random_text(prompt), **unwanted}

    def _random_text(self, prompt: str) -> dict[str, Tensor]:
        """Draws embeddings (1, n, c) and masks (1, n) of the prompt and of its quoted words.

        Keys are argument names of the pipeline's call.
        """
        from vcorr.diffusion import prompt_noise, random_mask

        sizes, quoted = self.network, " ".join(_QUOTED.findall(prompt))
        parts = {
            "prompt_embeds": prompt_noise((1, _TOKENS, sizes["text_embed_dim"]), prompt),
            "prompt_embeds_mask": random_mask(_TOKENS, prompt),
            "prompt_embeds_2": prompt_noise((1, _QUOTED_TOKENS, sizes["text_embed_2_dim"]), quoted, "glyphs"),
            "prompt_embeds_mask_2": random_mask(_QUOTED_TOKENS, quoted) & bool(quoted),
        }
        return {name: part.to(self.device, self.pipe.transformer.dtype) for name, part in parts.items()}
