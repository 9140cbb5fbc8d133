"""Holds what adapters share whose networks map pixels to tokens, without noise: one pass per clip, no generation.

Shape legend: T video frames, H x W pixels, F x h x w tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcorr import (
    Clip,
    ModelCard,
    RunSettings,
    Site,
    TokenGrid,
    UsageError,
    VideoModelBase,
    load_card,
    not_loaded,
    option,
)
from vcorr.capture import TokenLayout
from vcorr.diffusion import Sizes, check_size, frames_to_read, size_in_words
from vcorr_vision.pixels import IMAGENET, Normalisation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vcorr.capture import Recorder

SEVERAL_FRAMES = Sizes(2, 1)
"""Frames that a network takes which reads one at a time: one for the queries and one to match with."""


@dataclass(frozen=True, kw_only=True)
class PixelConfig:
    """Options of every model that reads pixels (`--set model.KEY=VALUE`)."""

    frames: int | None = option(
        None,
        "Largest number of video frames to read; null for all frames of a clip.",
        unit="frames",
        least=1,
    )


C = TypeVar("C", bound=PixelConfig)


@dataclass(frozen=True)
class FrameSize:
    """Height and width of the frames that a network reads, and the sides of its tokens, in pixels."""

    height: int
    width: int
    patch: tuple[int, int]
    """(height, width) of a token."""


class PixelModel(VideoModelBase, ABC, Generic[C]):
    """A network that reads pixels, as a `vcorr.VideoModel`: one pass per clip, no steps, no generation."""

    card: ClassVar[str]
    """Model card, "package:path/in/package.yaml"."""
    steps: int = 0
    modes = ("renoise",)

    def __init__(self, config: C) -> None:
        self.config = config
        self.device = "cpu"
        self._network: Any = None
        self._normalisation = IMAGENET

    # --------------------------------------------------------------------------------------- what a subclass overrides

    @abstractmethod
    def sites(self) -> Sequence[Site]:
        """Returns the places that can be read, without loading anything."""

    @abstractmethod
    def frame_size(self, clip: Clip) -> FrameSize:
        """Returns the size of the frames that the network reads from a clip; raises UsageError if there is none."""

    @abstractmethod
    def inputs(self, pixels: Tensor) -> Mapping[str, Any]:
        """Returns the keyword arguments of one pass. pixels: (T, 3, H, W), normalised."""

    @property
    def tubelet(self) -> int:
        """Number of frames that a token covers."""
        return 1

    @property
    def layout(self) -> TokenLayout:
        """The sequence of tokens: only the tokens of the video."""
        return TokenLayout()

    def frame_sizes(self) -> Sizes:
        """Returns the numbers of frames that the network can read."""
        return SEVERAL_FRAMES

    @property
    def most_frames(self) -> int | None:
        """Largest number of frames to read; None for all frames of a clip."""
        return self.config.frames

    def passes(self, video: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
        """Returns the frames of each pass: all frames in one."""
        return (video,)

    # -------------------------------------------------------------------------------------------------------- contract

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the token grid of `clip`, which is the same at every site.

        Raises:
            UsageError: height, width or frames do not fit, or there is no video.
        """
        title = self.model_card().title
        video, covered = video_of(clip, title), 1 if clip.stills else self.tubelet
        size = self.frame_size(clip)
        frames = self.count_stills(video, title) if clip.stills else self.frames_of(video, clip, title)
        rows, cols = size.patch
        return TokenGrid(
            frames=frames // covered,
            rows=size.height // rows,
            cols=size.width // cols,
            stride=(cols, rows),
            video_frames=frames,
            temporal_ratio=covered,
            causal=False,
        )

    def frames_of(self, video: NDArray[np.uint8], clip: Clip, title: str) -> int:
        """Returns the number of frames to read from a clip."""
        allowed, most = self.frame_sizes(), self.most_frames
        if most is None:
            return frames_to_read(clip, len(video) + 1, allowed, title)
        check_size("frames", most, allowed, title)
        return frames_to_read(clip, most, allowed, title)

    def count_stills(self, video: NDArray[np.uint8], title: str) -> int:
        """Returns the number of stills, which each fill a token in time; raises UsageError if it does not fit."""
        stills, allowed = len(video), self.frame_sizes()
        if stills * self.tubelet not in allowed:
            raise UsageError(
                f"{stills} frames to read one by one fill {stills * self.tubelet} frames of a pass; {title} takes "
                f"{allowed}."
            )
        return stills

    def model_card(self) -> ModelCard:
        """Returns the model's card."""
        return load_card(self.card, type(self).__name__)

    @property
    def network(self) -> Any:
        """The loaded network.

        Raises:
            PluginError: nothing is loaded yet.
        """
        if self._network is None:
            raise not_loaded(self)
        return self._network

    @property
    def normalisation(self) -> Normalisation:
        """Normalisation of the pixels: the folder's own, or ImageNet's."""
        return self._normalisation

    def pixels(self, frames: NDArray[np.uint8], dtype: torch.dtype) -> Tensor:
        """Returns frames (T, H, W, 3) as the network takes them, (T, channels, H, W)."""
        return self.normalisation.apply(frames, self.device, dtype)

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
        """Runs one pass over the clip, or several passes over parts of its frames; a model without noise has one step.

        Raises:
            UsageError: the mode is not renoise, or the clip does not have the size of `grid`.
        """
        if settings.mode != "renoise":
            raise UsageError(
                f"{self.model_card().title} reads videos and generates none.", hint=f"Leave out --mode {settings.mode}."
            )
        import torch

        video, module = self._check_size(clip), self.network
        if clip.stills:
            video = np.repeat(video, self.tubelet, axis=0)
        dtype = next(module.parameters()).dtype
        attached = recorder.attach(module, self.sites(), self.layout, partial(self.grid, clip))
        with torch.no_grad(), attached, recorder.step(-1):
            for frames in self.passes(video):
                module(**self.inputs(self.pixels(frames, dtype)))

    def _check_size(self, clip: Clip) -> NDArray[np.uint8]:
        grid, video = self.grid(clip, None), video_of(clip, self.model_card().title)
        expected = (grid.video_frames, round(grid.height), round(grid.width))
        if video.shape[:3] != expected:
            raise UsageError(
                f"Clip {clip.id} is {size_in_words(video.shape)}; the model reads {size_in_words(expected)}.",
                hint="vcorr.fit_clip(clip, model.grid(clip, None)) brings it to that size.",
            )
        return video


def video_of(clip: Clip, title: str) -> NDArray[np.uint8]:
    """Returns the clip's video; raises UsageError if it has none. title: of the model, for the message."""
    if clip.video is None:
        raise UsageError(f"Clip {clip.id} has no video, and {title} makes none.", hint="Choose data with videos.")
    return clip.video


@dataclass(frozen=True, kw_only=True)
class Batched:
    """The option of models that read one frame at a time."""

    batch: int | None = option(
        None,
        "Frames per pass; null for all frames in one pass. Several passes need less memory for one layer, and "
        "more for many layers: the tensors that probes read are kept until the last pass.",
        unit="frames",
        least=1,
    )


def batches(video: NDArray[np.uint8], batch: int | None) -> Iterable[NDArray[np.uint8]]:
    """Returns the frames of each pass: `batch` frames at a time, or all.

    Raises:
        UsageError: batch is less than 1.
    """
    each = batch or len(video)
    if batch is not None and batch < 1:
        raise UsageError(f"model.batch={batch}: a pass reads at least 1 frame.")
    return (video[start : start + each] for start in range(0, len(video), each))
