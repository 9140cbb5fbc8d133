"""Holds the trackers `cotracker3-offline` and `cotracker3-online` (Karaev et al. 2024, arXiv 2410.11831).

They call the networks of the package `cotracker` directly and not through its predictors. The predictors have fixed
visibility thresholds, always add a grid of points to the queries, and overwrite the prediction in the query frame.

Shape legend: N points, T frames, S frames of a window, H x W pixels of the video, h x w pixels of the network's frames.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

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
    query_grid,
    read_checkpoint,
    repeat_exactly,
)
from vcorr_cotracker import sources
from vcorr_cotracker.config import OFFLINE, ONLINE, VERSION, Config, OfflineConfig, OnlineConfig

Floats: TypeAlias = NDArray[np.float32]


class CoTracker(TrackerBase, ABC):
    """What both trackers share (`vcorr.Tracker`). The first video loads the network, which is then kept.

    Raises:
        UsageError: an option is out of range.
    """

    name: ClassVar[str]
    file_name: ClassVar[str]
    """File name of the checkpoint, as released."""

    def __init__(self, config: Config) -> None:
        _check(config, self.name)
        self.config = config
        self._loaded: _Network | None = None

    def identity(self) -> dict[str, str]:
        """Returns what the tracks depend on, in addition to the options: weights, package version, type of device.

        Raises:
            MissingError: the package or the weights are not in reach.
            UsageError: there is no such device, or the checkpoint cannot be read or does not fit.
        """
        device = self._device
        sources.check_package(self.file_name)
        checkpoint = sources.find_checkpoint(self.config.checkpoint, self.file_name)
        self._load_predictor(checkpoint)  # reports a wrong file now, and not after a model has sampled a clip
        return sources.identify(checkpoint, device)

    def track(self, video: NDArray[np.uint8], queries: Queries | Floats) -> Tracks:
        """Follows queries in any frame over a video (T, H, W, 3) uint8; queries (N, 2) are pixels in frame 0.

        For frames before a query it makes a second pass over the reversed video, as the package's predictors do.

        Raises:
            UsageError: the video or the queries cannot be tracked, or the checkpoint does not fit.
            MissingError: the package or the weights are not in reach.
        """
        known = check_tracking_input(video, queries)
        frames, (height, width) = len(video), video.shape[1:3]
        xy = np.repeat(known.xy[:, None], frames, axis=1)
        visible = np.zeros(xy.shape[:2], dtype=bool)
        if frames > 1 and len(known):
            self._follow(video, known, xy, visible)
            if known.t.any():
                self._follow_back(video, known, xy, visible)
        own = (np.arange(len(known)), known.t)
        xy[own] = known.xy  # the network only estimates the given position
        visible[own] = True
        visible &= ((xy >= 0) & (xy <= [width, height])).all(axis=-1)
        return Tracks(xy, visible, self.name, VERSION)

    def _follow_back(self, video: NDArray[np.uint8], queries: Queries, xy: Floats, visible: NDArray[np.bool_]) -> None:
        """Fills the frames before each query that is not in frame 0."""
        late, last = np.flatnonzero(queries.t), len(video) - 1
        back, seen = np.empty_like(xy[late]), np.empty_like(visible[late])
        self._follow(video[::-1], Queries(last - queries.t[late], queries.xy[late]), back, seen)
        before = np.arange(len(video)) < queries.t[late, None]
        xy[late] = np.where(before[..., None], back[:, ::-1], xy[late])
        visible[late] = np.where(before, seen[:, ::-1], visible[late])

    def _follow(self, video: NDArray[np.uint8], queries: Queries, xy: Floats, visible: NDArray[np.bool_]) -> None:
        """Fills positions (N, T, 2) and visibility (N, T), one group of points at a time."""
        network = self._network()
        scale = _Scale(video.shape[1:3], network.size)
        support = self._support(*video.shape[1:3])
        with torch.no_grad(), repeat_exactly():
            seen = _resize_frames(video, network.size, self._device)
            for group in np.array_split(np.arange(len(queries)), math.ceil(len(queries) / self.config.points)):
                inputs = scale.queries(_join(queries[group], support), self._device)
                tracks, sure = self._predict(network.module, seen, inputs)
                check_finite(self.name, tracks, sure)
                own = slice(0, len(group))
                xy[group] = scale.pixels(tracks[0, :, own].transpose(0, 1).float().cpu().numpy())
                visible[group] = (sure[0, :, own] > self.config.visibility).T.cpu().numpy()

    def _support(self, height: int, width: int) -> Queries:
        side = self.config.support_grid
        return Queries.at(query_grid(side, height, width) if side else np.zeros((0, 2), dtype=np.float32))

    @abstractmethod
    def _predict(self, module: Any, video: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Predicts positions (1, T, N, 2) in the network's pixels, and a score of visibility (1, T, N)."""

    @abstractmethod
    def _build(self, predictors: Any) -> Any:
        """Builds the package's predictor, without weights."""

    @property
    def _device(self) -> torch.device:
        return choose_tracker_device(self.config.device)

    def _network(self) -> _Network:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> _Network:
        predictor = self._load_predictor(sources.find_checkpoint(self.config.checkpoint, self.file_name))
        height, width = predictor.interp_shape
        return _Network(predictor.model.to(self._device, torch.float32).eval(), (int(height), int(width)))

    def _load_predictor(self, path: Path) -> Any:
        """Builds the package's predictor and loads the weights of a checkpoint into it."""
        predictors = sources.predictor_module(self.file_name)
        weights = read_checkpoint(path, "model")
        with sources.keep_generators():
            predictor = self._build(predictors)
        try:
            predictor.model.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[:2]
            raise UsageError(
                f"tracker.checkpoint: {path} does not fit {self.name}: {' '.join(line.strip() for line in reason)}",
                hint=f"The tracker expects {self.file_name}; for another window length, set tracker.window_len.",
            ) from error
        return predictor


class Offline(CoTracker):
    """`cotracker3-offline`, which reads all frames together."""

    name = OFFLINE
    file_name = "scaled_offline.pth"

    def __init__(self, config: OfflineConfig) -> None:
        super().__init__(config)

    def _build(self, predictors: Any) -> Any:
        return predictors.CoTrackerPredictor(checkpoint=None, offline=True, v2=False, window_len=self.config.window_len)

    def _predict(self, module: Any, video: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        tracks, visible, _, _ = module(video=video, queries=queries, iters=self.config.iterations)
        return tracks, visible


class Online(CoTracker):
    """`cotracker3-online`, which reads windows that overlap by half and starts each from the tracks of the previous."""

    name = ONLINE
    file_name = "scaled_online.pth"

    def __init__(self, config: OnlineConfig) -> None:
        if config.window_len % 2:
            raise UsageError(f"tracker.window_len of {ONLINE} must be even, got {config.window_len}.")
        super().__init__(config)

    def _build(self, predictors: Any) -> Any:
        return predictors.CoTrackerOnlinePredictor(checkpoint=None, v2=False, window_len=self.config.window_len)

    def _predict(self, module: Any, video: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        window, frames = self.config.window_len, video.shape[1]
        module.init_video_online_processing()  # forgets the last video
        # a window that begins half a window before the end would add no new frames; the first window always runs
        for first in range(0, max(frames - window // 2, 1), window // 2):
            tracks, visible, confidence, _ = module(
                video=video[:, first : first + window], queries=queries, iters=self.config.iterations, is_online=True
            )
        return tracks, visible * confidence


class _Network(NamedTuple):
    """The network, and the size (h, w) of its frames."""

    module: nn.Module
    size: tuple[int, int]


class _Scale:
    """Converts between pixels of the video and pixels of the network.

    The network counts from the centre of the first pixel. Its frames are resized with aligned corners: centres of
    corner pixels map to centres of corner pixels.
    """

    def __init__(self, video: tuple[int, ...], network: tuple[int, int]) -> None:
        self._factor = np.array([(network[i] - 1) / (video[i] - 1) for i in (1, 0)])  # (x, y)

    def queries(self, queries: Queries, device: torch.device) -> Tensor:
        """Returns N queries as (1, N, 3): frame, x, y in pixels of the network."""
        inner = (queries.xy.astype(np.float64) - 0.5) * self._factor
        inputs = np.concatenate([queries.t[:, None], inner], axis=1).astype(np.float32)
        return torch.from_numpy(inputs)[None].to(device)

    def pixels(self, xy: Floats) -> Floats:
        """Returns positions (..., 2) of the network in pixels of the video."""
        found: Floats = (xy.astype(np.float64) / self._factor + 0.5).astype(np.float32)
        return found


def _join(one: Queries, other: Queries) -> Queries:
    return Queries(np.concatenate([one.t, other.t]), np.concatenate([one.xy, other.xy]))


def _resize_frames(video: NDArray[np.uint8], size: tuple[int, int], device: torch.device) -> Tensor:
    """Resizes a video to (1, T, 3, h, w) float32, 0 to 255.

    It works frame by frame, so that the video is never in memory as float32 at full size.
    """
    frames = (
        torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1)[None].float() for frame in video
    )
    return torch.cat([F.interpolate(frame, size, mode="bilinear", align_corners=True) for frame in frames])[None]


def _check(config: Config, name: str) -> None:
    if not 0 <= config.visibility < 1:
        raise UsageError(f"tracker.visibility of {name} must be at least 0 and below 1, got {config.visibility}.")
    for key, least in (("support_grid", 0), ("points", 1), ("window_len", 2), ("iterations", 1)):
        if getattr(config, key) < least:
            raise UsageError(f"tracker.{key} of {name} must be at least {least}, got {getattr(config, key)}.")
