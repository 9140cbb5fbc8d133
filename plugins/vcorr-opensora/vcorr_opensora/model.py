"""The adapters of Open-Sora 2.0.

Full 3D attention over text and video tokens, text first, in 19 blocks with a stream for each and 38 with one for both.
Batches guidance as (with text and image, with the image alone, with neither). The autoencoder is HunyuanVideo's:
causal, the first frame a latent of its own, every four frames after it share one.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Site, TokenGrid
from vcorr.contract.records import Unrotated
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, WeightsSource, attention_sites
from vcorr_opensora import released

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr_opensora.pipeline import Text


TEXT_TOKENS = 512
"""What prompts are padded to, and the most that is read of them."""


@dataclass(frozen=True, kw_only=True)
class OpenSora2Config(VideoConfig):
    """Options of Open-Sora 2.0; the defaults are those of the release.

    Released sizes of video are 192x336 and 576x1024, upright and others too, up to 129 frames. `vae_tiling` lets the
    autoencoder work in tiles of time as well; tiles of 256 pixels are as released.

    fps, motion_score: what the prompt is told, as the released sampler does it: "... 24 FPS. 4 motion score."; 0 leaves
    a part out. image_guidance: strength of guidance by the image, of the image-to-video model.
    """

    fps: int = 24
    motion_score: int = 4
    image_guidance: float = 3.0


class OpenSora2(DiffusersVideoModel[OpenSora2Config]):
    """Open-Sora 2.0, text to video, through a pipeline of this plugin.

    Random weights come without the text encoders, whose 4.9 billion parameters would only turn the prompt into other
    random numbers: the prompt's embeddings are then standard normal noise, seeded by its text.
    """

    pipeline_class = "vcorr_opensora.pipeline:OpenSoraPipeline"
    saved_as = ("OpenSoraPipeline",)
    text = "before"
    branches = ("cond", "uncond", "uncond_without_image")
    latent_axes = ""  # packed into patches
    compression = Compression(spatial=8, temporal=4, patch=2)

    def sites(self) -> Sequence[Site]:
        """The joint attention of every block, those with two streams first."""
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
                block_output=1,  # blocks put out text, then video
                unrotated=Unrotated(axes="bnhd"),
            )
        )

    def locate(self, weights: str) -> WeightsSource:
        """As of every model; folders may also be laid out as the release is, and so is the hub's repository."""
        folder = Path(weights).expanduser()
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
        """The text tokens of the transformer."""
        return TEXT_TOKENS

    def prompt(self, clip: Clip) -> str:
        """The clip's text with what the release appends to it; see the base class."""
        return super().prompt(replace(clip, prompt=described(clip.prompt, self.config.fps, self.config.motion_score)))

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """Patches of the latents, beside those of the condition on an image."""
        import torch

        from vcorr_opensora.sampling import patchify

        tokens = patchify(latents.to(own.dtype))
        return torch.cat([tokens, own[..., tokens.shape[-1] :]], dim=-1)

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """From 0 to 1, where the scheduler counts to 1000."""
        return super().timestep_input(timestep / 1000, own, first / 1000)

    def as_latents(self, output: Tensor, latents: Tensor) -> Tensor:
        """Latents of patches."""
        from vcorr_opensora.sampling import PATCH, unpatchify

        _, channels, frames, height, width = latents.shape
        return unpatchify(output[..., : channels * PATCH**2], frames, height // PATCH, width // PATCH)

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The encoded prompts, or their stand-ins where there are no text encoders; the image and how it guides."""
        texts = {"text": self._text(self.prompt(clip)), "negative_text": self._text("")}
        if not self.needs_image:
            return texts
        return {**texts, "image": self.image(clip, grid), "image_guidance_scale": self.config.image_guidance}

    def _text(self, prompt: str) -> Text:
        from vcorr.diffusion.latents import prompt_noise
        from vcorr_opensora.pipeline import Text

        if self.pipe.text_encoder is not None:
            encoded: Text = self.pipe.encode_prompt(prompt, self.text_limit())
            return encoded
        tokens = prompt_noise((1, TEXT_TOKENS, self.network["joint_attention_dim"]), prompt)
        pooled = prompt_noise((1, self.network["pooled_projection_dim"]), prompt, "pooled")
        return Text(*(part.to(self.device, self.pipe.transformer.dtype) for part in (tokens, pooled)))


class OpenSora2ImageToVideo(OpenSora2):
    """Open-Sora 2.0, image to video: the same weights, told the latents of the first frame.

    The image is frame 0 of the clip's video, in both modes; its latents are a sample of the autoencoder's posterior,
    drawn from the seed.
    """

    needs_image = True


def described(prompt: str, fps: int, motion_score: int) -> str:
    """A prompt as the model was trained to read it: a sentence, then the frames a second and a score of its motion.

    An empty prompt stays empty; so does a part that is 0, and frames a second that the prompt tells itself.
    """
    sentence = prompt.strip()
    if not sentence:
        return sentence
    if not sentence.endswith("."):
        sentence += "."
    if fps and not re.search(r"\d FPS\.$", sentence):
        sentence += f" {fps} FPS."
    return f"{sentence} {motion_score} motion score." if motion_score else sentence
