"""Carries the mask of one frame through a video: by labels of tokens, or by points that a tracker follows.

Shape legend: T frames, H x W pixels, K labels, h x w tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.baselines.tokens import TokenSearch, token_pixels
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.probe_protocols import Probe
from vcorr.contract.protocols import Tracker, VideoModel
from vcorr.contract.records import NO_QUERIES, Clip, RunSettings
from vcorr.data.video_sizes import resize_video
from vcorr.functional.token_costs import NearestTokens
from vcorr.tracking.followed_site import SiteFacts
from vcorr.tracking.label_propagation import enlarge_labels, propagate_labels, share_labels
from vcorr.tracking.moved_masks import check_mask, move_masks
from vcorr.tracking.propagation_options import PropagationOptions
from vcorr.tracking.propagation_passes import LabelPropagator
from vcorr.tracking.track_options import TrackOptions

Labels = NDArray[np.uint8]


class MaskCarrier(Protocol):
    """Carries masks through videos."""

    def carry(self, clip: Clip, mask: Labels, frame: int = 0) -> Labels:
        """Returns the labels of every frame of a clip's video, (T, H, W); in the frame of the mask, the mask itself.

        Args:
            clip: with its video at its own size.
            mask: (H, W), labels of one frame.
            frame: number of this frame.

        Raises:
            UsageError: the mask has another size than the video, or there is no such frame.
        """
        ...

    def tokens(self, clip: Clip) -> tuple[int, int]:
        """Returns the rows and columns of tokens that take labels in a frame; pixels, where there are no tokens.

        Raises:
            UsageError: the clip cannot be read.
        """
        ...

    def passes(self, clip: Clip) -> int:
        """Returns the number of forward passes of a network for a clip; 0 without one."""
        ...

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip as one pass of the network reads it; the clip itself without a network."""
        ...


class TokenPropagator(Protocol):
    """Carries labels of tokens; `LabelPropagator` is one."""

    @property
    def facts(self) -> SiteFacts:
        """Where the labels come from."""
        ...

    def grid(self, clip: Clip) -> TokenGrid:
        """Returns the tokens of a frame; raises UsageError if the clip cannot be read."""
        ...

    def passes(self, clip: Clip) -> int:
        """Returns the number of forward passes of a network for a clip; 0 without one."""
        ...

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip as one pass of the network reads it; the clip itself without a network."""
        ...

    def propagate(self, clip: Clip, labels: Tensor, frame: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Yields every other frame with its labels (K, h, w)."""
        ...


@dataclass(frozen=True)
class CarriedByTokens:
    """Carries masks by labels of tokens."""

    propagator: TokenPropagator

    def carry(self, clip: Clip, mask: Labels, frame: int = 0) -> Labels:
        """Returns the labels of every frame; see `MaskCarrier`."""
        assert clip.video is not None  # datasets with masks have videos
        check_mask(clip.video, mask, frame)
        grid = self.propagator.grid(clip)
        video = resize_video(clip.video, round(grid.height), round(grid.width))
        small = replace(clip, video=video, queries=NO_QUERIES, tracks=None, layers=None)
        values = np.unique(mask)
        shares = share_labels(torch.from_numpy(mask[None] == values[:, None, None]), grid.rows, grid.cols)
        out = np.empty((len(video), *mask.shape), np.uint8)
        out[frame] = mask
        for number, labels in self.propagator.propagate(small, shares, frame):
            out[number] = values[enlarge_labels(labels, *mask.shape).numpy()]
        return out

    @property
    def facts(self) -> SiteFacts:
        """Where the labels come from."""
        return self.propagator.facts

    def tokens(self, clip: Clip) -> tuple[int, int]:
        """Returns the rows and columns of tokens; see `MaskCarrier`."""
        grid = self.propagator.grid(clip)
        return grid.rows, grid.cols

    def passes(self, clip: Clip) -> int:
        """Returns the number of forward passes; see `MaskCarrier`."""
        return self.propagator.passes(clip)

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip as one pass reads it; see `MaskCarrier`."""
        return self.propagator.typical_chunk(clip)


@dataclass(frozen=True)
class CarriedByPoints:
    """Carries masks by the points that a tracker follows."""

    tracker: Tracker

    def carry(self, clip: Clip, mask: Labels, frame: int = 0) -> Labels:
        """Returns the labels of every frame; see `MaskCarrier`."""
        assert clip.video is not None  # datasets with masks have videos
        return move_masks(self.tracker, clip.video, mask, frame).astype(np.uint8)

    def tokens(self, clip: Clip) -> tuple[int, int]:
        """Returns the size of a frame: points have no tokens."""
        assert clip.video is not None  # datasets with masks have videos
        height, width = clip.video.shape[1:3]
        return height, width

    def passes(self, clip: Clip) -> int:
        """Returns 0: what a tracker computes is not known."""
        return 0

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip itself."""
        return clip


@dataclass(frozen=True)
class PatchPropagator:
    """Carries labels with a baseline that compares the pixels of tokens, without a network. Its passes have all frames.

    The affinity of two tokens is 1 / (1 + distance), with the L2 distance of their pixels in [0, 1].
    """

    baseline: TokenSearch
    options: PropagationOptions
    facts = SiteFacts()

    def passes(self, clip: Clip) -> int:
        """Returns 0: there is no network."""
        return 0

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip itself."""
        return clip

    def grid(self, clip: Clip) -> TokenGrid:
        """Returns the tokens of the baseline; raises UsageError if a frame is smaller than a token."""
        return self.baseline.grid(clip, None)

    def propagate(self, clip: Clip, labels: Tensor, frame: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Yields every other frame with its labels; see `TokenPropagator`."""
        assert clip.video is not None  # the grid was made of it
        costs = [NearestTokens(self._describe(clip.video, self.grid(clip)))]
        for order in (range(frame, len(clip.video)), range(frame, -1, -1)):
            known = [labels]
            for position in range(1, len(order)):
                context = _find_context(position, self.options.context)
                given = torch.stack([known[p] for p in context])
                frames, options = [order[p] for p in context], self.options
                known.append(
                    propagate_labels(costs, given, frames, order[position], radius=options.radius, top_k=options.top_k)
                )
                yield order[position], known[position]

    def _describe(self, video: NDArray[np.uint8], grid: TokenGrid) -> Tensor:
        described = self.baseline.describe(token_pixels(video, grid)).astype(np.float32) / 255
        return torch.from_numpy(described.reshape(len(video), grid.rows, grid.cols, -1))


def carry_by_patches(model: object, options: PropagationOptions) -> CarriedByTokens | None:
    """Returns what carries labels with a baseline that compares tokens of pixels; None for any other model."""
    return CarriedByTokens(PatchPropagator(model, options)) if isinstance(model, TokenSearch) else None


def carry_by_sites(
    model: VideoModel,
    probe: Probe,
    layers: Sequence[int],
    settings: RunSettings,
    options: PropagationOptions,
    reading: TrackOptions,
) -> CarriedByTokens:
    """Returns what carries labels with a model at its sites; arguments and errors as of `LabelPropagator`."""
    return CarriedByTokens(LabelPropagator(model, probe, layers, settings, options, reading))


def _find_context(position: int, context: int) -> Sequence[int]:
    return [p for p in range(position) if p == 0 or p >= position - context]
