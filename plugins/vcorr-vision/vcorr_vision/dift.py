"""DIFT: what Stable Diffusion's UNet makes of a noisy frame, each frame by itself.

Shape legend: T video frames, C latent channels, F x h x w latents; F = T, every frame is a latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from vcorr import Clip, RunSettings, Site, TokenGrid, UsageError
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig, WeightsSource
from vcorr.diffusion.adapter import PromptUse
from vcorr.records import BlockAxes, Factorised

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
    """Options of both; see also those of every diffusion model.

    All but those are sizes of the networks: `--weights random` builds them as they are given here, and weights from
    elsewhere must agree with those that decide where the tokens are. block_out_channels: width of each resolution level
    of the UNet. layers_per_block: layers of each level. cross_attention_dim: width of the prompt's embedding.
    latent_channels: of the autoencoder. vae_channels: width of each of its levels, between which it halves the
    resolution; vae_layers_per_block: layers of each. text_tokens: what prompts are padded to.
    attention_head_dim: heads of the attention of every level, or of each, which is what diffusers calls them.
    """

    frames: int = 128
    prompt: PromptUse = "empty"
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    latent_channels: int = 4
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    text_tokens: int = 77
    attention_head_dim: int | tuple[int, ...] = 8

    @property
    def levels(self) -> int:
        """Resolutions of the UNet."""
        return len(self.block_out_channels)

    @property
    def heads(self) -> tuple[int, ...]:
        """Heads of the attention of each level."""
        each = self.attention_head_dim
        return (each,) * self.levels if isinstance(each, int) else each


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


C = TypeVar("C", bound=DIFTConfig)


class DIFT(DiffusersVideoModel[C]):
    """Stable Diffusion on the frames of a video, in renoise mode alone: it makes images and no videos."""

    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"
    denoiser: ClassVar[str] = "unet"
    branches = ("uncond", "cond")
    latent_axes: ClassVar[str] = "fchw"
    frames_argument: ClassVar[str] = "num_images_per_prompt"
    frame_inputs: ClassVar[tuple[str, ...]] = ("sample", "encoder_hidden_states")
    unet_options: ClassVar[Mapping[str, Any]] = {}
    """What the two UNets have different, beside their sizes."""
    prediction: ClassVar[str] = "epsilon"
    """What the network was trained to say."""

    @cached_property
    def _places(self) -> tuple[Place, ...]:
        return tuple(places(self.config.levels, self.config.layers_per_block))

    def sites(self) -> Sequence[Site]:
        """The self-attention modules, in the order of execution."""
        return tuple(
            Site(
                layer,
                place.name,
                self.config.heads[place.level],
                "factorised",
                block=place.hidden,
                block_axes=place.axes,
                factorised=Factorised("frame"),
            )
            for layer, place in enumerate(self._places)
        )

    @property
    def compression(self) -> Compression:
        """1x8x8 at the released sizes: each frame is a latent."""
        return Compression(spatial=2 ** (len(self.config.vae_channels) - 1), temporal=1, patch=1)

    def compression_at(self, site: Site | None) -> Compression:
        """A token is a latent at the first level, and twice as large from level to level."""
        level = self._places[site.layer].level if site is not None else 0
        return replace(self.compression, patch=2**level)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Whole tokens at the deepest level, and any number of frames."""
        coarsest = self.compression.spatial * 2 ** (self.config.levels - 1)
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

    @property
    def encoding(self) -> PromptEncoding:
        """By the pipeline's CLIP text encoder, padded."""
        config = self.config
        return PromptEncoding(config.text_tokens, config.cross_attention_dim, options={"num_images_per_prompt": 1})

    def read(self, source: WeightsSource, dtype: torch.dtype) -> Any:
        """The pipeline without its safety checker, whose images nobody sees, and with DDIM's steps, as DIFT has it."""
        from vcorr_vision.dift_networks import read_pipeline

        assert source.folder is not None  # what `locate` found
        return read_pipeline(self.pipeline_class, source.folder, dtype)

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_vision.dift_networks import build_pipeline

        return build_pipeline(self.config, self.prediction, self.unet_options)

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w), frame by frame."""
        from vcorr.diffusion.latents import encode_frames

        return encode_frames(self.pipe.vae, video, self.device)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding, once a frame."""
        embedding = self.embed(prompt)["prompt_embeds"]
        return {"encoder_hidden_states": embedding.repeat_interleave(grid.frames, dim=0)}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """Frames are the rows of the batch."""
        return {"sample": latents[0].transpose(0, 1), "timestep": timestep, **condition}

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes that decide where sites and tokens are, and those of the embedding."""
        found = self.pipe.vae.config.block_out_channels
        # The number of the autoencoder's levels decides the stride; their widths do not.
        same_depth = len(found) == len(self.config.vae_channels)
        return {**super().loaded_sizes(), "vae_channels": self.config.vae_channels if same_depth else tuple(found)}


@dataclass(frozen=True, kw_only=True)
class DIFT15Config(DIFTConfig):
    """Options of `dift-sd1.5`: the same number of heads at every level."""

    height: int = 512
    width: int = 512
    attention_head_dim: int = 8


class DIFT15(DIFT[DIFT15Config]):
    """DIFT on Stable Diffusion 1.5."""

    card: ClassVar[str] = "vcorr_vision:cards/dift-sd1.5.yaml"


@dataclass(frozen=True, kw_only=True)
class DIFT21Config(DIFTConfig):
    """Options of `dift-sd2.1`: heads of each level."""

    height: int = 768
    width: int = 768
    cross_attention_dim: int = 1024
    attention_head_dim: tuple[int, ...] = (5, 10, 20, 20)


class DIFT21(DIFT[DIFT21Config]):
    """DIFT on Stable Diffusion 2.1."""

    card: ClassVar[str] = "vcorr_vision:cards/dift-sd2.1.yaml"
    unet_options: ClassVar[Mapping[str, Any]] = {"use_linear_projection": True}
    prediction: ClassVar[str] = "v_prediction"
