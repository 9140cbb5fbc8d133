"""The base class and the options of the baselines.

Shapes: N query points, T frames, H x W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import VideoModelBase
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.option_notes import option
from vcorr.contract.records import Clip, Readout, RunSettings, Site

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Options of the baselines."""

    stride: int = option(
        8,
        "Side of a token. It is also the side of the patches of token-patches and of the windows of dense-search and"
        " zncc-search.",
        unit="pixels",
        least=1,
    )


class Baseline(VideoModelBase, ABC):
    """Base class of the baselines: a model without sites and weights that makes one prediction per clip."""

    readout: ClassVar[Readout] = "token"
    modes = ("renoise",)

    def __init__(self, config: BaselineConfig) -> None:
        if config.stride < 1:
            raise UsageError(f"model.stride must be at least 1 pixel, got {config.stride}.")
        self.config = config

    def sites(self) -> Sequence[Site]:
        """Returns no sites: there is no attention to read."""
        return ()

    def weights_id(self, weights: str) -> str:
        """Returns "none", whatever `--weights` says."""
        return "none"

    def load(self, device: str, dtype: str, weights: str) -> None:  # one of the model's methods
        """Loads nothing."""

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns a grid with one latent per video frame, and as many whole tokens as fit into a frame.

        Raises:
            UsageError: the clip has no video, or is smaller than a token.
        """
        stride = self.config.stride
        frames, height, width = video_of(clip).shape[:3]
        if min(height, width) < stride:
            raise UsageError(f"Clip {clip.id} of {height}x{width} pixels is smaller than a token of {stride} pixels.")
        return TokenGrid(frames=frames, rows=height // stride, cols=width // stride, stride=(stride, stride))

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
        """Predicts the positions of every query of the clip.

        Raises:
            UsageError: the mode is not renoise, the clip has another size than `grid` says, or a query is outside the
                frame.
        """
        if settings.mode not in self.modes:
            raise UsageError(
                f"Baselines read videos; they cannot run in {settings.mode} mode.", hint="Use --mode renoise."
            )
        grid, video = self.grid(clip, None), video_of(clip)
        if video.shape[1:3] != (round(grid.height), round(grid.width)):
            raise UsageError(
                f"Clip {clip.id} of {video.shape[1]}x{video.shape[2]} pixels does not divide into tokens of "
                f"{self.config.stride} pixels.",
                hint="vcorr.fit_clip(clip, model.grid(clip, None)) resizes and cuts it.",
            )
        grid.check_inside(clip.queries.xy)
        moves = self.moves(clip, grid, settings.seed)
        recorder.answer((clip.queries.xy[:, None] + moves).astype(np.float32), grid, readout=self.readout)

    @abstractmethod
    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """Returns the predicted motion of each query in each frame, (N, T, 2) pixels (x, y); 0 in its own frame.

        The motion of a query does not depend on the other queries. seed: seed of the run.
        """


def video_of(clip: Clip) -> NDArray[np.uint8]:
    """Returns the clip's video (T, H, W, 3).

    Raises:
        UsageError: the clip has no video.
    """
    if clip.video is None:
        raise UsageError(f"Clip {clip.id} has no video to search.", hint="Baselines need data with video.")
    return clip.video
