"""The adapter of HunyuanVideo.

Full 3D attention over video and text tokens, text last and padded; the mask of every call hides the padding. 20 blocks
keep video and text apart outside the attention, 40 more treat them as one sequence. Guidance is a number the network
was distilled for, one pass a step; a second, unconditional pass follows only where `true_cfg_scale` asks for it. The
autoencoder is causal: the first frame is a latent of its own, every four frames after it share one.

Shape legend: n text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Rotary, Site, TokenGrid, Unrotated
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, attention_sites

if TYPE_CHECKING:
    from torch import Tensor

TEXT_TOKENS = 256
"""Of a prompt, padding included, beside the pipeline's template."""


@dataclass(frozen=True, kw_only=True)
class HunyuanVideoConfig(VideoConfig):
    """Options of `hunyuanvideo`, beside those of every model. Height, width and frames default to those of DiffTrack's
    analysis.

    embedded_guidance: the strength of guidance that is an input of the network, in both modes; `--guidance` replaces it
    in generate mode. true_cfg_scale: above 1, generate mode also runs the negative prompt, as a second pass.
    negative_prompt: its text. flow_shift: of the noise schedule, that of the weights unless given.
    """

    embedded_guidance: float = 6.0
    true_cfg_scale: float = 1.0
    negative_prompt: str = ""
    flow_shift: float | None = None


class HunyuanVideo(DiffusersVideoModel[HunyuanVideoConfig]):
    """HunyuanVideo through diffusers' `HunyuanVideoPipeline`.

    Random weights come without the text encoders, whose 8 billion parameters would only turn the prompt into other
    random numbers: both prompt embeddings are then standard normal noise, seeded by the prompt's text, and as many of
    the text tokens count as real as the prompt has words, and one more.
    """

    pipeline_class = "HunyuanVideoPipeline"
    text = "after"
    embedded_guidance = True
    unrotated = Unrotated(axes="bnhd")

    def sites(self) -> Sequence[Site]:
        """The joint attention of both kinds of blocks, numbered through. That of the text's refiner is not among it."""
        double, single = self.network["num_layers"], self.network["num_single_layers"]
        kinds = (("transformer_blocks.{}", double, 0), ("single_transformer_blocks.{}", single, double))
        return tuple(
            site
            for block, count, first in kinds  # they put out the video tokens, then the text tokens
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
        """The channels of each axis, as the configuration says."""
        return Rotary.blocks(self.network["rope_axes_dim"], theta=self.network.get("rope_theta", 256.0))

    @property
    def compression(self) -> Compression:
        """4x8x8 and patches of 2x2 at the released sizes."""
        vae = self.config_of("vae")
        spatial, temporal = vae["spatial_compression_ratio"], vae["temporal_compression_ratio"]
        return Compression(spatial=spatial, temporal=temporal, patch=self.network["patch_size"])

    def text_limit(self) -> int:
        """Of the first text encoder, beside the tokens of the pipeline's template; the second pools a beginning."""
        return TEXT_TOKENS

    def load(self, device: str, dtype: str, weights: str) -> None:
        """See the base class."""
        from vcorr.diffusion import shift_schedule

        super().load(device, dtype, weights)
        if self.config.flow_shift is not None:
            shift_schedule(self.pipe, self.config.flow_shift)

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """In the dtype of the latents, which the pipeline keeps in float32 at the first step alone."""
        found = super().timestep_input(timestep, own, first)
        return found if float(timestep) == float(first) else found.to(self.pipe.transformer.dtype)

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt, or its stand-in where there are no text encoders, and both kinds of guidance.

        A negative prompt is given only where it is asked for: with one, and its own strength, the pipeline runs it.
        """
        config, prompt = self.config, self.prompt(clip)
        guidance = {"guidance_scale": config.embedded_guidance, "true_cfg_scale": config.true_cfg_scale}
        negative = config.negative_prompt if config.true_cfg_scale > 1 else None
        if self.pipe.text_encoder is not None:
            limit = {"max_sequence_length": TEXT_TOKENS}
            return {**guidance, **limit, "prompt": prompt, "negative_prompt": negative}
        unwanted = {} if negative is None else self._stand_in(negative)
        return {**guidance, **self._stand_in(prompt), **{f"negative_{name}": part for name, part in unwanted.items()}}

    def _stand_in(self, prompt: str) -> dict[str, Tensor]:
        """(1, n, text_embed_dim), (1, pooled_projection_dim) and the mask (1, n), as the pipeline's call names them."""
        from vcorr.diffusion import prompt_noise, random_mask

        parts = {
            "prompt_embeds": prompt_noise((1, TEXT_TOKENS, self.network["text_embed_dim"]), prompt),
            "pooled_prompt_embeds": prompt_noise((1, self.network["pooled_projection_dim"]), prompt, "pooled"),
            "prompt_attention_mask": random_mask(TEXT_TOKENS, prompt),
        }
        return {name: part.to(self.device, self.pipe.transformer.dtype) for name, part in parts.items()}
