"""Adapts the CogVideoX models.

Attention is full 3D over text and video tokens, text first. Guidance batches the branches as (uncond, cond). The
autoencoder is causal: frame 0 has a latent frame of its own, and each further group of four frames shares one. A token
of CogVideoX-1.5 covers two latent frames; the pipeline pads an odd number of latent frames in front. The image-to-video
models receive the latents of an image in additional channels.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vcorr import Clip, Rotary, Site, TokenGrid, Unrotated, UsageError
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class CogVideoX(DiffusersVideoModel[VideoConfig]):
    """CogVideoX through diffusers' `CogVideoXPipeline`.

    Random weights have no text encoder: its 4.7 billion random parameters would only turn the prompt into random
    numbers. The prompt embedding is then standard normal noise, with a seed computed from the prompt's text.
    """

    pipeline_class = "CogVideoXPipeline"
    text = "before"
    branches = ("uncond", "cond")
    latent_axes = "bfchw"

    @property
    def unrotated(self) -> Unrotated | None:  # type: ignore[override]  # the network decides it
        """None for the 2B models, which add sines to the tokens and have no rotary embedding."""
        return Unrotated() if self.network["use_rotary_positional_embeddings"] else None

    @property
    def rotary(self) -> Rotary | None:
        """The rotary layout: time turns a quarter of each head's channels, y and x turn three eighths each.

        CogVideoX-1.5 counts positions in tokens. Older models fit a video of another size into the middle of the
        trained size, and count positions in tokens of the trained size.
        """
        network, pack = self.network, self.compression
        if not network["use_rotary_positional_embeddings"]:
            return None
        width = network["attention_head_dim"]
        widths = (width // 4, width // 8 * 3, width // 8 * 3)
        if pack.front_padded:
            return Rotary.blocks(widths)
        tokens = (self.config.height // pack.stride, self.config.width // pack.stride)
        if 0 in tokens:
            raise UsageError(
                f"model.height={self.config.height} and model.width={self.config.width} are less than one token.",
                hint=f"A token has {pack.stride} x {pack.stride} pixels.",
            )
        trained = (network["sample_height"] // pack.patch, network["sample_width"] // pack.patch)
        (step_y, start_y), (step_x, start_x) = _fit(tokens, trained)
        return Rotary.blocks(widths, steps=(1.0, step_y, step_x), starts=(0.0, start_y / step_y, start_x / step_x))

    @property
    def compression(self) -> Compression:
        """4x8x8 and patches of 2x2 at the released sizes."""
        vae, temporal_patch = self.config_of("vae"), self.network["patch_size_t"] or 1
        return Compression(
            spatial=2 ** (len(vae["block_out_channels"]) - 1),
            temporal=vae["temporal_compression_ratio"],
            patch=self.network["patch_size"],
            temporal_patch=temporal_patch,
            front_padded=temporal_patch > 1,
        )

    @property
    def encoding(self) -> PromptEncoding:
        """T5, padded to the number of text tokens that the transformer takes."""
        tokens = self.network["max_text_seq_length"]
        return PromptEncoding(tokens, "text_embed_dim", options={"max_sequence_length": tokens})

    @property
    def text_tokens(self) -> int:
        """Number of text tokens, padding included, because the model does not mask padding."""
        return int(self.network["max_text_seq_length"])

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the sizes that divide into tokens and that have positions; learned positions fit one size only."""
        found, network, spatial = dict(super().sizes(site)), self.network, self.compression.spatial
        for name in ("height", "width"):
            last = network[f"sample_{name}"] * spatial
            if network["use_learned_positional_embeddings"]:
                found[name] = Sizes(last, 1, last)
            elif self.compression.front_padded:
                found[name] = Sizes(found[name].first, found[name].step, last)
        return found

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the token grid of the clip; see the base class.

        Raises:
            UsageError: also when the model has learned the positions of another number of frames.
        """
        grid, frames = super().grid(clip, site), self.network["sample_frames"]
        latents, _ = self.compression.time(frames)
        if self.network["use_learned_positional_embeddings"] and grid.frames != latents:
            raise UsageError(
                f"{self.model_card().title} has learned the positions of {frames} frames and takes no other number; "
                f"this clip has {grid.video_frames}.",
                hint=f"Choose longer clips, and --set model.frames={frames}.",
            )
        return grid

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Encodes (T, H, W, 3) uint8 RGB as (1, C, F, h, w).

        Padding in front repeats the first latent frame, as in training.
        """
        import torch

        latents = super().encode(video)
        padding = self.compression.padding(len(video))
        return torch.cat([latents[:, :, :1]] * padding + [latents], dim=2) if padding else latents

    def decode(self, latents: Tensor, video_frames: int) -> NDArray[np.uint8]:
        """Inverts `encode`; removes the padding in front, as the pipeline does."""
        return super().decode(latents[:, :, self.compression.padding(video_frames) :], video_frames)

    def check_makes(self, grid: TokenGrid) -> None:
        """Checks that the autoencoder can decode the grid's number of frames.

        It decodes latent frames in pairs, and decodes the first one alone only if their number is odd.

        Raises:
            UsageError: the grid's number of latent frames is even.
        """
        ratio, frames = self.compression.temporal, grid.video_frames
        latents = (frames - 1) // ratio + 1
        if latents % 2 == 0:
            raise UsageError(
                f"{self.model_card().title} cannot make {frames} frames from {latents} latent frames: it decodes only "
                f"odd numbers of latent frames.",
                hint=f"The nearest counts it makes are {frames - ratio} and {frames + ratio}: --set model.frames=...",
            )


def _fit(tokens: tuple[int, int], trained: tuple[int, int]) -> list[tuple[float, float]]:
    """Returns the distance between tokens and the position of the first one, along y and along x.

    The unit is a token of the trained size. The numbers equal what diffusers' `get_resize_crop_region_for_grid` and
    `get_3d_rotary_pos_embed` compute.
    """
    (rows, cols), (high, wide) = tokens, trained
    tall = rows / cols > high / wide
    sides = (high, round(high / rows * cols)) if tall else (round(wide / cols * rows), wide)
    found = []
    for count, side, whole in zip(tokens, sides, trained, strict=True):
        first = round((whole - side) / 2)
        last = (first + side) * (count - 1) / count
        found.append(((last - first) / max(count - 1, 1) or 1.0, float(first)))
    return found


class CogVideoXImageToVideo(CogVideoX):
    """CogVideoX that starts from an image, through diffusers' `CogVideoXImageToVideoPipeline`.

    The image is frame 0 of the clip's video, in every mode. The pipeline's own code computes its latents: it draws a
    sample of the autoencoder's posterior from the seed.
    """

    pipeline_class = "CogVideoXImageToVideoPipeline"
    needs_image = True


class CogVideoXStillToVideo(CogVideoXImageToVideo):
    """CogVideoX-2B-I2V by the community (NimVideo), which was trained with the image repeated in every frame."""

    pipeline_class = "vcorr_cogvideox.still:StillToVideoPipeline"
    saved_as = ("CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "StillToVideoPipeline")
