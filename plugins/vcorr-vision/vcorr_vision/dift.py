"""Adapts DIFT, the features of Stable Diffusion's UNet for a noisy frame; each frame is read independently.

Shape legend: T video frames, C latent channels, F x h x w latents; F = T, because every frame has its own latent frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vcorr import BlockAxes, Clip, Factorised, RunSettings, Site, TokenGrid, UsageError
from vcorr.diffusion import (
    Compression,
    DiffusersVideoModel,
    PromptEncoding,
    PromptUse,
    Sizes,
    VideoConfig,
    WeightsSource,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vcorr.capture import Recorder

MAP: BlockAxes = "fchw"
"""Axes of an up block's output, which DIFT reads: a map of channels per frame."""


@dataclass(frozen=True, kw_only=True)
class DIFTConfig(VideoConfig):
    """Options of both models: the options of every diffusion model, but the prompt is empty by default."""

    prompt: PromptUse = "empty"


@dataclass(frozen=True)
class SelfAttention:
    """One self-attention module.

    name: its path. level: number of times that the resolution was halved before it. hidden: path of the module whose
    output is read as hidden state. axes: axes of that output.
    """

    name: str
    level: int
    hidden: str
    axes: BlockAxes = "bnc"


def self_attentions(levels: int, layers: int) -> Iterator[SelfAttention]:
    """Yields the self-attention modules of the UNet in order of execution: down blocks, middle block, up blocks.

    DIFT reads the output of an up block. The first module of the next up block has the same resolution, so this output
    is its hidden state. At all other modules, the hidden state is the output of the transformer block.
    """
    deepest = levels - 1
    for level in range(deepest):
        for layer in range(layers):
            yield _self_attention(f"down_blocks.{level}.attentions.{layer}", level)
    yield _self_attention("mid_block.attentions.0", deepest)
    for block in range(1, levels):
        for layer in range(layers + 1):
            found = _self_attention(f"up_blocks.{block}.attentions.{layer}", deepest - block)
            yield found if layer else replace(found, hidden=f"up_blocks.{block - 1}", axes=MAP)


def _self_attention(transformer: str, level: int) -> SelfAttention:
    block = f"{transformer}.transformer_blocks.0"
    return SelfAttention(f"{block}.attn1", level, block)


class DIFT(DiffusersVideoModel[DIFTConfig]):
    """Stable Diffusion on the frames of a video, in renoise mode only, because it makes images and no videos.

    The adapter asks the pipeline for one image per frame, all with one prompt, so that the batch rows are the frames.
    """

    modes = ("renoise",)
    pipeline_class = "StableDiffusionPipeline"
    denoiser = "unet"
    branches = ("uncond", "cond")
    latent_axes = "fchw"
    frames_argument = "num_images_per_prompt"
    frame_inputs = ("sample", "encoder_hidden_states")
    # the pipeline's CLIP text encoder pads prompts to 77 tokens
    encoding = PromptEncoding(77, "cross_attention_dim", options={"num_images_per_prompt": 1})

    @property
    def _self_attentions(self) -> tuple[SelfAttention, ...]:
        return tuple(self_attentions(len(self.network["block_out_channels"]), self.network["layers_per_block"]))

    def sites(self) -> Sequence[Site]:
        """Returns the self-attention modules, in order of execution."""
        # diffusers uses this name for the number of heads: one number, or one per level
        heads = self.network["attention_head_dim"]
        return tuple(
            Site(
                layer,
                module.name,
                heads if isinstance(heads, int) else heads[module.level],
                "factorised",
                block=module.hidden,
                block_axes=module.axes,
                factorised=Factorised("spatial"),
            )
            for layer, module in enumerate(self._self_attentions)
        )

    @property
    def compression(self) -> Compression:
        """1x8x8 at the released sizes; each frame has its own latent frame."""
        return Compression(spatial=2 ** (len(self.config_of("vae")["block_out_channels"]) - 1), temporal=1, patch=1)

    def compression_at(self, site: Site | None) -> Compression:
        """Returns the compression at a site: a token is one latent at the first level; its side doubles per level."""
        level = self._self_attentions[site.layer].level if site is not None else 0
        return replace(self.compression, patch=2**level)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the sizes with whole tokens at the deepest level; any number of frames from 2."""
        coarsest = self.compression.spatial * 2 ** (len(self.network["block_out_channels"]) - 1)
        return {"height": Sizes(coarsest, coarsest), "width": Sizes(coarsest, coarsest), "frames": Sizes(2, 1)}

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the token grid of a site, as every diffusion model does.

        Raises:
            UsageError: the clip has no video, and the model cannot generate one.
        """
        if clip.video is None:
            raise self._makes_no_video()
        return super().grid(clip, site)

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
        """Runs one pass per step over all frames, each with its own noise.

        Raises:
            UsageError: the mode is generate; see also the base class.
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
        """Reads the pipeline with DDIM steps, as in DIFT, and without its safety checker: no images are shown."""
        from diffusers import DDIMScheduler

        from vcorr.diffusion import load_pipeline

        assert source.folder is not None  # `locate` has found it
        unchecked: dict[str, Any] = {
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        pipe = load_pipeline(self.pipeline_class, source.folder, dtype, **unchecked)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        return pipe

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Encodes (T, H, W, 3) uint8 RGB as (1, C, F, h, w), frame by frame."""
        from vcorr.diffusion import encode_frames

        return encode_frames(self.pipe.vae, video, self.device)
