"""The adapter of HunyuanVideo 1.5.

Full 3D attention over video and text tokens. The text comes from three encoders, is repacked so that real tokens stand
before padding, and follows the video; the mask of every call hides the padding. Guidance runs as two passes, which the
pipeline's guider labels. Tokens are latents: the autoencoder shrinks space by 16 and is causal in time.

Shape legend: n text tokens, c width of an embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Rotary, TokenGrid, Unrotated
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig

if TYPE_CHECKING:
    from torch import Tensor

_TOKENS, _QUOTED_TOKENS = 1000, 256
"""Of a prompt, beside the pipeline's template, and of the words it quotes; padding included."""
_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class HunyuanVideo15Config(VideoConfig):
    """Options of `hunyuanvideo-1.5` and `hunyuanvideo-1.5-720p`, beside those of every model.

    guidance_scale: of generate mode, where `--guidance` replaces it; that of the weights unless given. negative_prompt:
    what guidance leads away from. flow_shift: of the noise schedule, that of the weights unless given.
    """

    guidance_scale: float | None = None
    negative_prompt: str = ""
    flow_shift: float | None = None


class HunyuanVideo15(DiffusersVideoModel[HunyuanVideo15Config]):
    """HunyuanVideo 1.5 from text, through diffusers' `HunyuanVideo15Pipeline`.

    Random weights come without the text encoders, whose 7 billion parameters would only turn the prompt into other
    random numbers: the embeddings are then standard normal noise, seeded by the prompt's text; as many tokens count as
    real as the prompt, and as what it quotes, has words, and one more.
    """

    pipeline_class = "vcorr_hunyuanvideo.guided:GuidedPipeline"
    saved_as = ("HunyuanVideo15Pipeline", "GuidedPipeline")
    text = "after"
    attention = "transformer_blocks.{}.attn"  # that of the text's refiner is not read
    unrotated = Unrotated(axes="bnhd")

    @property
    def rotary(self) -> Rotary:
        """The channels of each axis, as the configuration says."""
        return Rotary.blocks(self.network["rope_axes_dim"], theta=self.network.get("rope_theta", 256.0))

    @property
    def compression(self) -> Compression:
        """4x16x16, a latent a token, at the released sizes."""
        vae = self.config_of("vae")
        spatial, temporal = vae["spatial_compression_ratio"], vae["temporal_compression_ratio"]
        return Compression(spatial=spatial, temporal=temporal, patch=self.network["patch_size"])

    def text_limit(self) -> int:
        """Of the prompt, beside the tokens of the pipeline's template."""
        return _TOKENS

    def load(self, device: str, dtype: str, weights: str) -> None:
        """See the base class."""
        from vcorr.diffusion import shift_schedule

        super().load(device, dtype, weights)
        if self.config.flow_shift is not None:
            shift_schedule(self.pipe, self.config.flow_shift)

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt and the negative one, or their stand-ins where there are no text encoders, and guidance."""
        prompt, negative = self.prompt(clip), self.config.negative_prompt
        guidance = {"guidance_scale": self.config.guidance_scale}
        if self.pipe.text_encoder is not None:
            return {**guidance, "prompt": prompt, "negative_prompt": negative}
        unwanted = {f"negative_{name}": part for name, part in self._stand_in(negative).items()}
        return {**guidance, **self._stand_in(prompt), **unwanted}

    def _stand_in(self, prompt: str) -> dict[str, Tensor]:
        """(1, n, c) and the mask (1, n), of the prompt and of the words it quotes, as the pipeline names them."""
        from vcorr.diffusion import prompt_noise, random_mask

        sizes, quoted = self.network, " ".join(_QUOTED.findall(prompt))
        parts = {
            "prompt_embeds": prompt_noise((1, _TOKENS, sizes["text_embed_dim"]), prompt),
            "prompt_embeds_mask": random_mask(_TOKENS, prompt),
            "prompt_embeds_2": prompt_noise((1, _QUOTED_TOKENS, sizes["text_embed_2_dim"]), quoted, "glyphs"),
            "prompt_embeds_mask_2": random_mask(_QUOTED_TOKENS, quoted) & bool(quoted),
        }
        return {name: part.to(self.device, self.pipe.transformer.dtype) for name, part in parts.items()}
