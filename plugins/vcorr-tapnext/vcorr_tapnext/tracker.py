"""Holds the tracker `tapnext`: TAPNext++ (arXiv 2604.10582), which predicts tracks frame by frame.

It calls the network of the package `tapnet` with the input of the authors' own wrapper. The network is causal, so
frames before a query are tracked in the reversed video.

Shape legend: N points, S frames in tracking order, H x W pixels of the video, s pixels along a side of the network's
frames.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from vcorr import (
    Queries,
    TrackerBase,
    Tracks,
    UsageError,
    check_finite,
    check_tracking_input,
    choose_tracker_device,
    identify_network,
    repeat_exactly,
    track_both_ways,
)
from vcorr.diffusion import seed_generators
from vcorr_tapnext import sources
from vcorr_tapnext.config import NAME, VERSION, TapNextConfig

Floats: TypeAlias = NDArray[np.float32]

SIDE = 256
"""Height and width, in pixels, of the frame in which the network gives positions, whatever the size of its input."""


class TapNext(TrackerBase):
    """TAPNext++ (`vcorr.Tracker`). The first video loads the network, which is then kept.

    Raises:
        UsageError: an option is out of range.
    """

    def __init__(self, config: TapNextConfig) -> None:
        _check(config)
        self.config = config
        self._loaded: nn.Module | None = None

    def identity(self) -> dict[str, str]:
        """Returns what the tracks depend on, in addition to the options: weights, package version, type of device.

        Raises:
            MissingError: the package or the weights are not in reach.
            UsageError: there is no such device, or the checkpoint cannot be read or does not fit.
        """
        device = self._device
        sources.check_package(self.config.size)
        checkpoint = sources.find_checkpoint(self.config.checkpoint, self.config.size)
        self._network()  # reports a wrong file now, and not after a model has sampled a clip
        return identify_network(checkpoint, "tapnet", device)

    def track(self, video: NDArray[np.uint8], queries: Queries | Floats) -> Tracks:
        """Follows queries in any frame over a video (T, H, W, 3) uint8; queries (N, 2) are pixels in frame 0.

        Queries of one frame are tracked together, in groups of at most `points`; queries of other frames do not
        influence them.

        Raises:
            UsageError: the video or the queries cannot be tracked, or the checkpoint does not fit.
            MissingError: the package or the weights are not in reach.
        """
        known = check_tracking_input(video, queries)
        sure = np.ones((len(known), len(video)), dtype=np.float32)

        def follow(order: NDArray[np.intp], points: Floats) -> tuple[Floats, NDArray[np.bool_]]:
            if len(order) == 1:
                return points[:, None], np.ones((len(points), 1), dtype=np.bool_)
            xy, probability = self._follow(video[order], points)
            sure[np.ix_(known.t == order[0], order[1:])] = probability[:, 1:]
            return xy, probability > self.config.visibility

        xy, visible = track_both_ways(follow, len(video), known)
        visible[np.arange(len(known)), known.t] = True  # of the query itself the network only makes an estimate
        height, width = video.shape[1:3]
        inside = ((xy >= 0) & (xy <= [width, height])).all(axis=-1)
        visible &= inside
        sure[~inside] = 0  # so that any threshold on the confidence gives hidden points there
        return Tracks(xy, visible, NAME, VERSION, confidence=sure)

    def _follow(self, video: NDArray[np.uint8], points: Floats) -> tuple[Floats, Floats]:
        """Returns positions (N, S, 2) and probabilities of visibility (N, S) of points in the first of S frames."""
        groups = np.array_split(points, math.ceil(len(points) / self.config.points))
        found = [self._follow_group(video, group) for group in groups]
        return np.concatenate([xy for xy, _ in found]), np.concatenate([sure for _, sure in found])

    def _follow_group(self, video: NDArray[np.uint8], points: Floats) -> tuple[Floats, Floats]:
        """Returns the same for one group; it reads frame by frame, so that memory does not grow with the video."""
        network, device = self._network(), self._device
        unit = np.array([SIDE / video.shape[2], SIDE / video.shape[1]], dtype=np.float32)
        tracks, sure, state = [], [], None
        with torch.no_grad(), repeat_exactly():
            for frame in video:
                asked = {"query_points": _queries(points * unit, device)} if state is None else {"state": state}
                yx, _, logits, state = network(video=_resize(frame, self.config.size, device), **asked)
                tracks.append(yx[0, 0].flip(-1).float().cpu().numpy())
                sure.append(logits[0, 0, :, 0].float().sigmoid().cpu().numpy())
        inner: Floats = np.stack(tracks, axis=1)
        probability: Floats = np.stack(sure, axis=1)
        xy = inner / unit
        check_finite(NAME, xy, probability)
        return xy, probability

    @property
    def _device(self) -> torch.device:
        return choose_tracker_device(self.config.device)

    def _network(self) -> nn.Module:
        if self._loaded is None:
            path = sources.find_checkpoint(self.config.checkpoint, self.config.size)
            self._loaded = self._load(path).to(self._device, torch.float32).eval()
        return self._loaded

    def _load(self, path: Path) -> nn.Module:
        """Builds the network and loads the weights of a checkpoint into it."""
        build = sources.network_type(self.config.size)
        weights = sources.read_weights(path)
        with seed_generators(0):  # building draws random weights; what a model samples must not change
            network: nn.Module = build(image_size=(SIDE, SIDE))
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[:2]
            raise UsageError(
                f"tracker.checkpoint: {path} does not fit {NAME}: {' '.join(line.strip() for line in reason)}",
                hint=f"The tracker expects {sources.file_name(self.config.size)}.",
            ) from error
        return network


def _queries(xy: Floats, device: torch.device) -> Tensor:
    """Returns N positions (x, y) in the first frame as (1, N, 3): frame, y, x."""
    asked = np.concatenate([np.zeros((len(xy), 1), dtype=np.float32), xy[:, ::-1]], axis=1)
    return torch.from_numpy(asked.astype(np.float32))[None].to(device)


def _resize(frame: NDArray[np.uint8], size: int, device: torch.device) -> Tensor:
    """Resizes a frame (H, W, 3) bilinearly to (1, 1, s, s, 3) float32, -1 to 1."""
    pixels: Any = torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
    return (resized / 127.5 - 1).permute(0, 2, 3, 1)[None]


def _check(config: TapNextConfig) -> None:
    if not 0 <= config.visibility < 1:
        raise UsageError(f"tracker.visibility of {NAME} must be at least 0 and below 1, got {config.visibility}.")
    if config.points < 1:
        raise UsageError(f"tracker.points of {NAME} must be at least 1, got {config.points}.")
    if config.size not in sources.WEIGHTS:
        sizes = " or ".join(map(str, sources.WEIGHTS))
        raise UsageError(f"tracker.size of {NAME} must be {sizes}, got {config.size}.")
