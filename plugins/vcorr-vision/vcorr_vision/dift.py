"""DIFT: what Stable Diffusion's UNet makes of a noisy frame, each frame by itself.

Shape legend: T video frames, C latent channels, F x h x w latents; F = T, every frame is a latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vcorr import Clip, RunSettings, Site, TokenGrid, UsageError
from vcorr.contract.records import BlockAxes, Factorised
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig, WeightsSource
from vcorr.diffusion.options import PromptUse

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vcorr.capture.recorder import Recorder

MAP: BlockAxes = "fchw"
"""How an up block puts out what DIFT reads: a map of channels a frame."""


@dataclass(frozen=True, kw_only=True)
class DIFTConfig(VideoConfig):
    """Options of both: those of every diffusion model. The prompt is empty unless asked for."""

    prompt: PromptUse = "empty"


@dataclass(frozen=True)
class Place:
    """One self-attention module.

    name: its path. hidden: the module whose output is read as hidden state, and its axes. level: how often the
    resolution has been halved there.
    """

    name: str
    level: int
    hidden: str
    axes: BlockAxes = "bnc"


def places(levels: int, layers: int) -> Iterator[Place]:
    """The self-attention modules of the UNet in the order they run: down, through the middle, up again.

    The first one of an up block is of the resolution of what the up block before it puts out, which is what DIFT reads:
    it is the hidden state there. At all others that is the output of the transformer block.
    """
    deepest = levels - 1
    for level in range(deepest):
        for layer in range(layers):
            yield _place(f"down_blocks.{level}.attentions.{layer}", level)
    yield _place("mid_block.attentions.0", deepest)
    for block in range(1, levels):
        for layer in range(layers + 1):
            found = _place(f"up_blocks.{block}.attentions.{layer}", deepest - block)
            yield found if layer else replace(found, hidden=f"up_blocks.{block - 1}", axes=MAP)


def _place(transformer: str, level: int) -> Place:
    block = f"{transformer}.transformer_blocks.0"
    return Place(f"{block}.attn1", level, block)


class DIFT(DiffusersVideoModel[DIFTConfig]):
    """Stable Diffusion on the frames of a video, in renoise mode alone: it makes images and no videos.

    The pipeline is asked for as many images of one prompt as the video has frames, so that its batch is the frames.
    """

    modes = ("renoise",)
    pipeline_class = "StableDiffusionPipeline"
    denoiser = "unet"
    branches = ("uncond", "cond")
    latent_axes = "fchw"
    frames_argument = "num_images_per_prompt"
    frame_inputs = ("sample", "encoder_hidden_states")
    # by the pipeline's CLIP text encoder, padded
    encoding = PromptEncoding(77, "cross_attention_dim", options={"num_images_per_prompt": 1})

    @property
    def _places(self) -> tuple[Place, ...]:
        return tuple(places(len(self.network["block_out_channels"]), self.network["layers_per_block"]))

    def sites(self) -> Sequence[Site]:
        """The self-attention modules, in the order of execution."""
        heads = self.network[
            "attention_head_dim"
        ]  # of every level, or of each: what diffusers calls the number of them
        return tuple(
            Site(
                layer,
                place.name,
                heads if isinstance(heads, int) else heads[place.level],
                "factorised",
                block=place.hidden,
                block_axes=place.axes,
                factorised=Factorised("spatial"),
            )
            for layer, place in enumerate(self._places)
        )

    @property
    def compression(self) -> Compression:
        """1x8x8 at the released sizes: each frame is a latent."""
        return Compression(spatial=2 ** (len(self.config_of("vae")["block_out_channels"]) - 1), temporal=1, patch=1)

    def compression_at(self, site: Site | None) -> Compression:
        """A token is a latent at the first level, and twice as large from level to level."""
        level = self._places[site.layer].level if site is not None else 0
        return replace(self.compression, patch=2**level)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Whole tokens at the deepest level, and any number of frames."""
        coarsest = self.compression.spatial * 2 ** (len(self.network["block_out_channels"]) - 1)
        return {"height": Sizes(coarsest, coarsest), "width": Sizes(coarsest, coarsest), "frames": Sizes(2, 1)}

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """As of every diffusion model.

        Raises:
            UsageError: there is no video to read, and none can be made.
        """
        if clip.video is None:
            raise self._makes_no_video()
        return super().grid(clip, site)

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
        """One pass a step over all frames, each with noise of its own.

        Raises:
            UsageError: a mode that makes videos; see also that of every diffusion model.
        """
        if settings.mode == "generate":
            raise self._makes_no_video()
        return super().run(clip, settings, recorder)

    def _makes_no_video(self) -> UsageError:
        return UsageError(
            f"{self.model_card().title} reads videos and generates none: it makes single images.",
            hint="Choose data with videos, and leave out --mode generate.",
        )

    def read(self, source: WeightsSource, dtype: torch.dtype) -> Any:
        """The pipeline without its safety checker, whose images nobody sees, and with DDIM's steps, as DIFT has it."""
        from diffusers import DDIMScheduler

        from vcorr.diffusion.loading import load_pipeline

        assert source.folder is not None  # what `locate` found
        unchecked = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipe = load_pipeline(self.pipeline_class, source.folder, dtype, **unchecked)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        return pipe

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w), frame by frame."""
        from vcorr.diffusion.latents import encode_frames

        return encode_frames(self.pipe.vae, video, self.device)
