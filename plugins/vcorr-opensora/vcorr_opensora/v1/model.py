"""The adapter of Open-Sora 1.2.

Attention that sees space and time apart: in each of 28 pairs of blocks, one among the tokens of a frame and one among
those of a place. Text comes through cross-attention. Batches guidance as (with text, without). The autoencoder codes
chunks of 17 frames, each causally: its first frame is a latent of its own, every four frames after it share one.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Site, TokenGrid
from vcorr.contract.records import Factorised, Unrotated
from vcorr.diffusion import DiffusersVideoModel, Sizes, VideoConfig, WeightsSource
from vcorr_opensora import released
from vcorr_opensora.v1.chunks import ChunkedCompression

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vcorr_opensora.v1.pipeline import MaskedText


@dataclass(frozen=True, kw_only=True)
class OpenSora1Config(VideoConfig):
    """Options of Open-Sora 1.2; the defaults are those of the release, whose width of 426 pixels does not divide into
    tokens.

    fps: what the network is told. aesthetic_score: what the prompt is told, as the released sampler does it; 0 leaves
    it out.
    """

    fps: int = 24
    aesthetic_score: float = 6.5


class OpenSora1(DiffusersVideoModel[OpenSora1Config]):
    """Open-Sora 1.2, text to video, through a pipeline and networks of this plugin.

    Random weights come without the text encoder: the prompt's embedding is then standard normal noise, seeded by its
    text.
    """

    pipeline_class = "vcorr_opensora.v1.pipeline:OpenSora1Pipeline"
    branches = ("cond", "uncond")
    steps = 30
    compression = ChunkedCompression()

    def sites(self) -> Sequence[Site]:
        """Returns the self-attention of every block in order of execution: even layers spatial, odd ones temporal."""
        kinds = (
            ("spatial_blocks", Factorised("spatial"), None),
            ("temporal_blocks", Factorised("temporal"), _UNROTATED),
        )
        return tuple(
            Site(
                2 * pair + index,
                f"{blocks}.{pair}.attn",
                self.network["num_attention_heads"],
                "factorised",
                block=f"{blocks}.{pair}",
                block_axes="fnc",
                factorised=factorised,
                unrotated=unrotated,
            )
            for pair in range(self.network["depth"])
            for index, (blocks, factorised, unrotated) in enumerate(kinds)
        )

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Any number of frames with two latents."""
        return {**super().sizes(site), "frames": Sizes(5, 1)}

    def locate(self, weights: str) -> WeightsSource:
        """As of every model; a folder has to be laid out as the release is."""
        folder = Path(weights).expanduser()
        if weights == "hub":
            return released.hub_source(released.V1, self.model_card())
        if released.V1.fills(folder):
            return released.folder_source(released.V1, self.model_card(), folder)
        return super().locate(weights)

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w): the means of both posteriors, shifted and scaled."""
        from vcorr.diffusion.latents import to_model_range

        vae = self.pipe.vae
        latents: Tensor = vae.encode(to_model_range(video, self.device, vae.dtype))
        return latents

    def text_limit(self) -> int:
        """The text tokens of the transformer."""
        return int(self.network["max_text_seq_length"])

    def prompt(self, clip: Clip) -> str:
        """The clip's text with what the release appends to it; see the base class."""
        return super().prompt(replace(clip, prompt=scored(clip.prompt, self.config.aesthetic_score)))

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The encoded prompt, or its stand-in where there is no text encoder."""
        return {"text": self._text(self.prompt(clip)), "fps": self.config.fps}

    def _text(self, prompt: str) -> MaskedText:
        from vcorr.diffusion.latents import prompt_noise
        from vcorr.diffusion.prompts import random_mask
        from vcorr_opensora.v1.pipeline import MaskedText

        tokens = self.text_limit()
        if self.pipe.text_encoder is not None:
            encoded: MaskedText = self.pipe.encode_prompt(prompt, tokens)
            return encoded
        noise = prompt_noise((1, tokens, self.network["text_embed_dim"]), prompt)
        return MaskedText(
            noise.to(self.device, self.pipe.transformer.dtype), random_mask(tokens, prompt).to(self.device)
        )


_UNROTATED = Unrotated("q_norm", "k_norm", "bhnd")


def scored(prompt: str, score: float) -> str:
    """A prompt as the model was trained to read it: in lower case, with a score of its looks; an empty one stays so."""
    text = prompt.strip().lower()
    return f"{text} aesthetic score: {score:.1f}." if text and score else text
