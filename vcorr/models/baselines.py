"""Baselines: what can be answered from the pixels of the video alone, without any model. numpy only.

All of them answer once a video frame, on a grid whose latents are the frames, and at the size the clip has.

Shape legend: N query points, T frames, H x W pixels, r x c tokens, P window positions, D values of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vcorr.errors import UsageError
from vcorr.geometry import TokenGrid
from vcorr.records import Clip, Readout, RunSettings, Site

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder

SEARCH_STEP = 2
"""Pixels between the windows that `DenseSearch` compares."""

_EXACT_FLOAT32 = 2**24
"""Whole numbers below this are exact in float32, and so is any sum of them that stays below it."""


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Options of the baselines.

    stride: pixels along one side of a token; of the patches of token-patches and of the windows of dense-search.
    """

    stride: int = 8


class Baseline:
    """What the baselines share: no sites, no weights, one answer a clip (`vcorr.protocols.VideoModel`)."""

    steps: int = 1
    readout: ClassVar[Readout] = "token"

    def __init__(self, config: BaselineConfig) -> None:
        if config.stride < 1:
            raise UsageError(f"model.stride must be at least 1 pixel, got {config.stride}.")
        self.config = config

    def sites(self) -> Sequence[Site]:
        """None: there is no attention to read."""
        return ()

    def weights_id(self, weights: str) -> str:
        """There are none, whatever `--weights` says."""
        return "none"

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Nothing to load."""

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """One latent a frame, and as many whole tokens as the frame holds.

        Raises:
            UsageError: the clip has no video, or is smaller than a token.
        """
        stride = self.config.stride
        frames, height, width = _video(clip).shape[:3]
        if min(height, width) < stride:
            raise UsageError(f"Clip {clip.id} of {height}x{width} pixels is smaller than a token of {stride} pixels.")
        return TokenGrid(frames=frames, rows=height // stride, cols=width // stride, stride=(stride, stride))

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
        """Answers every query of the clip.

        Raises:
            UsageError: generate mode, a clip of another size than `grid` says, or a query outside the frame.
        """
        if settings.mode != "renoise":
            raise UsageError(
                f"Baselines read videos; they cannot run in {settings.mode} mode.", hint="Use --mode renoise."
            )
        grid, video = self.grid(clip, None), _video(clip)
        if video.shape[1:3] != (round(grid.height), round(grid.width)):
            raise UsageError(
                f"Clip {clip.id} of {video.shape[1]}x{video.shape[2]} pixels does not divide into tokens of "
                f"{self.config.stride} pixels.",
                hint="vcorr.stages.fit.fit_clip(clip, model.grid(clip, None)) brings it to that size.",
            )
        grid.check_inside(clip.queries)
        moves = self.moves(video, clip.queries, grid)
        recorder.answer((clip.queries[:, None] + moves).astype(np.float32), grid, readout=self.readout)

    def moves(
        self, video: NDArray[np.uint8], queries: NDArray[np.float32], grid: TokenGrid
    ) -> NDArray[np.floating[Any]]:
        """(N, T, 2): by how many pixels (x, y) each query has moved in each frame; 0 in the first."""
        return np.zeros((len(queries), len(video), 2))


class ZeroMotion(Baseline):
    """Every point stays where it is in frame 0: the floor of every accuracy, as a row of its own."""


class TokenPatches(Baseline):
    """Token-grid patches: pixels matched as attention matches tokens.

    The stride x stride pixels of the token under the query in frame 0 are compared with those of every token of a
    frame by their L2 distance over the three channels, without noise and without any normalisation. The answer is the
    query moved by the difference of the two tokens' centres, so only motions by whole tokens can be found. Of equally
    near patches the one nearest to the query's token wins.
    """

    def moves(
        self, video: NDArray[np.uint8], queries: NDArray[np.float32], grid: TokenGrid
    ) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; every move is a whole number of strides."""
        patches = _patches(video, grid)  # (T, r*c, D)
        tokens, query_of = np.unique(grid.tokens_at(queries), return_inverse=True)
        offsets = (grid.centres[None] - grid.centres[tokens][:, None]).astype(np.float64)  # (tokens, r*c, 2)
        distance = (offsets**2).sum(-1)
        moves = np.zeros((len(tokens), len(video), 2))
        for frame in range(1, len(video)):
            best = _nearest(_squared_distances(patches[0][tokens], patches[frame]), distance)
            moves[:, frame] = np.take_along_axis(offsets, best[:, None, None], axis=1)[:, 0]
        return moves[query_of]


class DenseSearch(Baseline):
    """Dense pixel search: the hardest baseline that looks at one window alone.

    The stride x stride window of frame 0 centred at the query (at the nearest whole pixel; moved inside where it
    would leave the frame) is compared with the windows of a frame at every second pixel in x and in y, counted from
    its own place and over the whole frame, by their L2 distance over the three channels. The answer is the query
    moved as the window has. Of equally near windows the one that moved least wins.
    """

    readout: ClassVar[Readout] = "free"

    def moves(
        self, video: NDArray[np.uint8], queries: NDArray[np.float32], grid: TokenGrid
    ) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; every move is a whole number of search steps."""
        side = self.config.stride
        corners = _corners(queries, side, *video.shape[1:3])
        moves = np.zeros((len(queries), len(video), 2))
        for members, places in _search_classes(corners, side, *video.shape[1:3]):
            origin = corners[members]
            offsets = (places[None] - origin[:, None]).astype(np.float64)  # (members, P, 2)
            distance = (offsets**2).sum(-1)
            wanted = _windows(video[0], side, origin)
            for frame in range(1, len(video)):
                best = _nearest(_squared_distances(wanted, _windows(video[frame], side, places)), distance)
                moves[members, frame] = np.take_along_axis(offsets, best[:, None, None], axis=1)[:, 0]
        return moves


def _video(clip: Clip) -> NDArray[np.uint8]:
    if clip.video is None:
        raise UsageError(f"Clip {clip.id} has no video to search.", hint="Baselines need data with video.")
    return clip.video


def _patches(video: NDArray[np.uint8], grid: TokenGrid) -> NDArray[np.uint8]:
    """(T, r*c, D): the pixels of every token, row by row."""
    stride, frames = round(grid.stride[0]), len(video)
    split = video.reshape(frames, grid.rows, stride, grid.cols, stride, 3)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(frames, grid.tokens_per_frame, -1)


def _corners(queries: NDArray[np.float32], side: int, height: int, width: int) -> NDArray[np.int64]:
    """(N, 2): the upper left pixel (x, y) of the window around each query, inside the frame."""
    corners = np.floor(queries.astype(np.float64) - side / 2 + 0.5).astype(np.int64)
    return np.clip(corners, 0, np.array([width - side, height - side]))


def _search_classes(
    corners: NDArray[np.int64], side: int, height: int, width: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Queries that search the same places, and these places.

    Yields:
        Indices of the queries, and (P, 2) upper left pixels (x, y): all that are whole search steps from their own.
    """
    phases = corners % SEARCH_STEP
    for phase in np.unique(phases, axis=0):
        xs = np.arange(phase[0], width - side + 1, SEARCH_STEP)
        ys = np.arange(phase[1], height - side + 1, SEARCH_STEP)
        places = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        yield np.flatnonzero((phases == phase).all(axis=1)), places


def _windows(frame: NDArray[np.uint8], side: int, corners: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(P, D): the side x side windows of a frame (H, W, 3) at upper left pixels (x, y)."""
    every = np.lib.stride_tricks.sliding_window_view(frame, (side, side), axis=(0, 1))
    return every[corners[:, 1], corners[:, 0]].reshape(len(corners), -1)


def _squared_distances(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
    """(A, D) and (B, D) to (A, B), exact whole numbers.

    |a - b|² = |a|² - 2 a·b + |b|², with the values moved around zero. No term and no partial sum exceeds 4 · 128² · D:
    in float32 while that is exact, in float64 otherwise.
    """
    exact = np.dtype(np.float32 if 4 * 128**2 * a.shape[1] < _EXACT_FLOAT32 else np.float64)
    left: NDArray[np.floating[Any]] = a.astype(exact) - 128
    right: NDArray[np.floating[Any]] = b.astype(exact) - 128
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None]
    return np.asarray(squares - 2 * (left @ right.T))


def _nearest(cost: NDArray[np.floating[Any]], distance: NDArray[np.float64]) -> NDArray[np.int64]:
    """(A, B) to (A,): where the cost is least and, among equal costs, the distance."""
    least = cost.min(axis=1, keepdims=True)
    return np.asarray(np.where(cost == least, distance, np.inf).argmin(axis=1))
