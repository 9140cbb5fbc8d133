"""Adapts Open-Sora 2.0.

Attention is full 3D over text and video tokens, text first. 19 blocks have separate streams for text and video, and 38
blocks have one stream for both. Guidance batches the branches as (with text and image, with the image only, with
neither). The autoencoder is HunyuanVideo's, which is causal: frame 0 has a latent frame of its own, and each further
group of four frames shares one.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Site, TokenGrid, Unrotated, option
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, WeightsSource, attention_sites
from vcorr_opensora import released

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr_opensora.pipeline import Text


TEXT_TOKENS = 512
"""Number of tokens to which prompts are padded, and the largest number that a prompt may have."""


@dataclass(frozen=True, kw_only=True)
class OpenSora2Config(VideoConfig):
    """Options of Open-Sora 2.0; the defaults are the release's.

    The model was released for 192x336 and 576x1024 pixels, also for portrait and other formats, and for up to 129
    frames. The autoencoder works in tiles of 256 pixels, as in the release; `vae_tiling` also splits the frames.
    """

    fps: int = option(
        24,
        'Completes the prompt, as in the released sampler ("24 FPS."); 0 leaves it out.',
        unit="frames per second",
        least=0,
    )
    motion_score: int = option(
        4,
        'Completes the prompt, as in the released sampler ("4 motion score."); 0 leaves it out.',
        least=0,
    )
    image_guidance: float = option(3.0, "Strength of guidance by the image, for the image-to-video model.", least=0)


class OpenSora2(DiffusersVideoModel[OpenSora2Config]):
    """Open-Sora 2.0, text to video, through a pipeline of this plugin.

    Random weights have no text encoders: their 4.9 billion random parameters would only turn the prompt into random
    numbers. The prompt's embeddings are then standard normal noise, with a seed computed from its text.
    """

    pipeline_class = "vcorr_opensora.pipeline:OpenSoraPipeline"
    saved_as = ("OpenSoraPipeline",)
    text = "before"
    branches = ("cond", "uncond", "uncond_without_image")
    latent_axes = ""  # the pipeline packs latents into patches
    compression = Compression(spatial=8, temporal=4, patch=2)

    def sites(self) -> Sequence[Site]:
        """Returns the joint attention of every block; blocks with two streams come first."""
        first, second = (self.network[name] for name in ("num_layers", "num_single_layers"))
        kinds = (("transformer_blocks.{}", first, 0), ("single_transformer_blocks.{}", second, first))
        return tuple(
            site
            for block, count, start in kinds
            for site in attention_sites(
                f"{block}.attn",
                count,
                self.network["num_attention_heads"],
                first=start,
                block=block,
                block_output=1,  # a block returns text, then video
                unrotated=Unrotated(axes="bnhd"),
            )
        )

    def locate(self, weights: str) -> WeightsSource:
        """Locates weights as the base class does; also in folders with the layout of the release, and in the cache."""
        folder = Path(os.path.expanduser(weights))
        if weights == "hub":
            return released.hub_source(released.V2, self.model_card())
        if released.V2.fills(folder):
            return released.folder_source(released.V2, self.model_card(), folder)
        return super().locate(weights)

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the pipeline; see the base class."""
        super().load(device, dtype, weights)
        if self.config.vae_tiling:
            self.pipe.vae.use_framewise_encoding = self.pipe.vae.use_framewise_decoding = True

    def text_limit(self) -> int:
        """Returns the number of text tokens of the transformer."""
        return TEXT_TOKENS

    def prompt(self, clip: Clip) -> str:
        """Returns the clip's text with the release's completion; see the base class."""
        return super().prompt(
            replace(clip, prompt=complete_prompt(clip.prompt, self.config.fps, self.config.motion_score))
        )

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """Returns patches of the latents, followed in each token by the channels of the image condition."""
        import torch

        from vcorr_opensora.sampling import patchify

        tokens = patchify(latents.to(own.dtype))
        return torch.cat([tokens, own[..., tokens.shape[-1] :]], dim=-1)

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """Returns the timestep from 0 to 1; the scheduler counts from 0 to 1000."""
        return super().timestep_input(timestep / 1000, own, first / 1000)

    def as_latents(self, output: Tensor, latents: Tensor) -> Tensor:
        """Returns the latents of the patches."""
        from vcorr_opensora.sampling import PATCH, unpatchify

        _, channels, frames, height, width = latents.shape
        return unpatchify(output[..., : channels * PATCH**2], frames, height // PATCH, width // PATCH)

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the encoded prompts (random ones without text encoders), the image and its guidance strength."""
        texts = {"text": self._text(self.prompt(clip)), "negative_text": self._text("")}
        if not self.needs_image:
            return texts
        return {**texts, "image": self.image(clip, grid), "image_guidance_scale": self.config.image_guidance}

    def _text(self, prompt: str) -> Text:
        from vcorr.diffusion import prompt_noise
        from vcorr_opensora.pipeline import Text

        if self.pipe.text_encoder is not None:
            encoded: Text = self.pipe.encode_prompt(prompt, self.text_limit())
            return encoded
        tokens = prompt_noise((1, TEXT_TOKENS, self.network["joint_attention_dim"]), prompt)
        pooled = prompt_noise((1, self.network["pooled_projection_dim"]), prompt, "pooled")
        return Text(*(part.to(self.device, self.pipe.transformer.dtype) for part in (tokens, pooled)))


class OpenSora2ImageToVideo(OpenSora2):
    """Open-Sora 2.0, image to video: the same weights, which receive the latents of the first frame.

    The image is frame 0 of the clip's video, in both modes. The seed draws its latents from the autoencoder's
    posterior.
    """

    needs_image = True


def complete_prompt(prompt: str, fps: int, motion_score: int) -> str:
    """Completes a prompt as in the training: a sentence, then the frames per second and a score of the motion.

    It leaves out a part that is 0, and the frames per second if the prompt ends with them. An empty prompt stays empty.
    """
    sentence = prompt.strip()
    if not sentence:
        return sentence
    if not sentence.endswith("."):
        sentence += "."
    if fps and not re.search(r"\d FPS\.$", sentence):
        sentence += f" {fps} FPS."
    return f"{sentence} {motion_score} motion score." if motion_score else sentence
