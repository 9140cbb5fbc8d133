"""Adapts Open-Sora 1.2.

Attention is factorised: each of 28 pairs of blocks has one with spatial and one with temporal attention. Text enters
through cross-attention. Guidance batches the branches as (with text, without). The autoencoder encodes chunks of 17
frames. A chunk is causal: its first frame has a latent frame of its own, and each further group of four frames shares
one.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Factorised, Site, TokenGrid, Unrotated, option
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
    """Options of Open-Sora 1.2; defaults as released, except the width of 426, which gives no whole tokens."""

    fps: int = option(24, "Frames per second, an input of the network.", unit="frames per second")
    aesthetic_score: float = option(
        6.5,
        "Completes the prompt, as in the released sampler; 0 leaves it out.",
        least=0,
    )


class OpenSora1(DiffusersVideoModel[OpenSora1Config]):
    """Open-Sora 1.2, text to video, through a pipeline and networks of this plugin.

    Random weights have no text encoder: the prompt's embedding is then standard normal noise, with a seed computed from
    its text.
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
        """Returns the sizes of the base class, with any number of frames from 5, which have two latent frames."""
        return {**super().sizes(site), "frames": Sizes(5, 1)}

    def locate(self, weights: str) -> WeightsSource:
        """Locates weights as the base class does; a folder has to have the layout of the release."""
        folder = Path(os.path.expanduser(weights))
        if weights == "hub":
            return released.hub_source(released.V1, self.model_card())
        if released.V1.fills(folder):
            return released.folder_source(released.V1, self.model_card(), folder)
        return super().locate(weights)

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Encodes (T, H, W, 3) uint8 RGB as (1, C, F, h, w): the means of both posteriors, shifted and scaled."""
        from vcorr.diffusion import to_model_range

        vae = self.pipe.vae
        latents: Tensor = vae.encode(to_model_range(video, self.device, vae.dtype))
        return latents

    def text_limit(self) -> int:
        """Returns the number of text tokens of the transformer."""
        return int(self.network["max_text_seq_length"])

    def prompt(self, clip: Clip) -> str:
        """Returns the clip's text with the release's completion; see the base class."""
        return super().prompt(replace(clip, prompt=complete_prompt(clip.prompt, self.config.aesthetic_score)))

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the encoded prompt (a random one without a text encoder) and the frames per second."""
        return {"text": self._text(self.prompt(clip)), "fps": self.config.fps}

    def _text(self, prompt: str) -> MaskedText:
        from vcorr.diffusion import prompt_noise, random_mask
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


def complete_prompt(prompt: str, score: float) -> str:
    """Completes a prompt as in the training: lower case and an aesthetic score. An empty prompt stays empty."""
    text = prompt.strip().lower()
    return f"{text} aesthetic score: {score:.1f}." if text and score else text
