"""The adapter of the CogVideoX models.

Full 3D attention over text and video tokens, text first; batches guidance as (uncond, cond). The autoencoder is
causal: the first frame is a latent of its own, every four frames after it share one. CogVideoX-1.5 puts two latents
into a token; an odd number of latents is padded in front. The image-to-video models see the latents of an image in
further channels.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vcorr import Clip, Rotary, Site, TokenGrid, UsageError
from vcorr.contract.records import Unrotated
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class CogVideoX(DiffusersVideoModel[VideoConfig]):
    """CogVideoX through diffusers' `CogVideoXPipeline`.

    Random weights come without the text encoder, whose 4.7 billion parameters would only turn the prompt into other
    random numbers: the prompt embedding is then standard normal noise, seeded by the prompt's text.
    """

    pipeline_class = "CogVideoXPipeline"
    text = "before"
    branches = ("uncond", "cond")
    latent_axes = "bfchw"

    @property
    def unrotated(self) -> Unrotated | None:
        """The 2B models add sines to the tokens in place of a rotary embedding."""
        return Unrotated() if self.network["use_rotary_positional_embeddings"] else None

    @property
    def rotary(self) -> Rotary | None:
        """A quarter of a head turns with time, the rest with y and x alike.

        CogVideoX-1.5 counts tokens. The models before it count in tokens of the size they were trained on: another
        size is fitted into the middle of that one.
        """
        network, pack = self.network, self.compression
        if not network["use_rotary_positional_embeddings"]:
            return None
        width = network["attention_head_dim"]
        widths = (width // 4, width // 8 * 3, width // 8 * 3)
        if pack.front_padded:
            return Rotary.blocks(widths)
        tokens = (self.config.height // pack.stride, self.config.width // pack.stride)
        trained = (network["sample_height"] // pack.patch, network["sample_width"] // pack.patch)
        (step_y, start_y), (step_x, start_x) = _fitted(tokens, trained)
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
        """T5, padded to the text tokens of the transformer."""
        tokens = self.network["max_text_seq_length"]
        return PromptEncoding(tokens, "text_embed_dim", options={"max_sequence_length": tokens})

    @property
    def text_tokens(self) -> int:
        """All of them, padding included: it is not masked."""
        return int(self.network["max_text_seq_length"])

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Whatever divides into tokens, as far as there are positions; learned ones fit one height and width."""
        found, network, spatial = dict(super().sizes(site)), self.network, self.compression.spatial
        for name in ("height", "width"):
            last = network[f"sample_{name}"] * spatial
            if network["use_learned_positional_embeddings"]:
                found[name] = Sizes(last, 1, last)
            elif self.compression.front_padded:
                found[name] = Sizes(found[name].first, found[name].step, last)
        return found

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """How tokens lie over the clip; see the base class.

        Raises:
            UsageError: also when the positions that the model has learned are those of another number of frames.
        """
        grid, frames = super().grid(clip, site), self.network["sample_frames"]
        if self.network["use_learned_positional_embeddings"] and grid.video_frames != frames:
            raise UsageError(
                f"{self.model_card().title} has learned the positions of {frames} frames and takes no other number; "
                f"this clip has {grid.video_frames}.",
                hint=f"Choose longer clips, and --set model.frames={frames}.",
            )
        return grid

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w); padding in front repeats the first latent, as in training."""
        import torch

        latents = super().encode(video)
        padding = self.compression.padding(len(video))
        return torch.cat([latents[:, :, :1]] * padding + [latents], dim=2) if padding else latents

    def decode(self, latents: Tensor, video_frames: int) -> NDArray[np.uint8]:
        """The inverse of `encode`; the padding in front is left out, as the pipeline does."""
        return super().decode(latents[:, :, self.compression.padding(video_frames) :], video_frames)

    def check_makes(self, grid: TokenGrid) -> None:
        """The autoencoder decodes latents in pairs, and the first frame by itself only among an odd number of them.

        Raises:
            UsageError: it cannot decode so many frames.
        """
        ratio, frames = self.compression.temporal, grid.video_frames
        latents = (frames - 1) // ratio + 1
        if latents % 2 == 0:
            raise UsageError(
                f"{self.model_card().title} cannot make {frames} frames in {latents} latents: it decodes odd numbers.",
                hint=f"The nearest counts it makes are {frames - ratio} and {frames + ratio}: --set model.frames=...",
            )


def _fitted(tokens: tuple[int, int], trained: tuple[int, int]) -> list[tuple[float, float]]:
    """Along y and x, how far apart tokens are and where the first one is, in tokens of the size of the training.

    As diffusers' `get_resize_crop_region_for_grid` and `get_3d_rotary_pos_embed` compute it.
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

    The image is frame 0 of the clip's video, in every mode. Its latents are made by the pipeline's own code; they are a
    sample of the autoencoder's posterior, drawn from the seed.
    """

    pipeline_class = "CogVideoXImageToVideoPipeline"
    needs_image = True


class CogVideoXStillToVideo(CogVideoXImageToVideo):
    """The community's CogVideoX-2B-I2V, which was trained with the image repeated in every frame."""

    pipeline_class = "vcorr_cogvideox.still:StillToVideoPipeline"
    saved_as = ("CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "StillToVideoPipeline")
