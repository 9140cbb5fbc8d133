"""The baseline that searches the pixels free of the token grid.

Shape legend: N query points, T frames, H x W pixels, P window positions, D values of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vcorr.baselines.baseline import Baseline, video_of
from vcorr.baselines.distances import around_zero, nearest, squared_distances
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, Readout

SEARCH_STEP = 2
"""Pixels between the windows that `DenseSearch` compares."""


class DenseSearch(Baseline):
    """Dense pixel search: the hardest baseline that looks at one window alone.

    The stride x stride window of the query's frame centred at the query (at the nearest whole pixel; moved inside where
    it would leave the frame) is compared with the windows of a frame at every second pixel in x and in y, counted from
    its own place and over the whole frame, by their L2 distance over the three channels. The answer is the query
    moved as the window has. Of equally near windows the one that moved least wins.
    """

    readout: ClassVar[Readout] = "free"

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; every move is a whole number of search steps."""
        side, video = self.config.stride, video_of(clip)
        corners = _corners(clip.queries.xy, side, *video.shape[1:3])
        moves = np.zeros((len(corners), len(video), 2))
        for asked_in, group in clip.queries.by_frame():
            for members, places in _search_classes(corners[group], side, *video.shape[1:3]):
                moves[group[members]] = _found(video, asked_in, side, corners[group[members]], places)
        return moves


def _found(
    video: NDArray[np.uint8], asked_in: int, side: int, origin: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(members, T, 2): how far the windows at `origin` in frame `asked_in` have moved among `places` in each frame."""
    moves = np.zeros((len(origin), len(video), 2))
    offsets = (places[None] - origin[:, None]).astype(np.float64)  # (members, P, 2)
    distance = (offsets**2).sum(-1)
    wanted = _windows(video[asked_in], side, origin)
    for frame in (frame for frame in range(len(video)) if frame != asked_in):
        best = nearest(squared_distances(wanted, _windows(video[frame], side, places)), distance)
        moves[:, frame] = np.take_along_axis(offsets, best[:, None, None], axis=1)[:, 0]
    return moves


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


def _windows(frame: NDArray[np.uint8], side: int, corners: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
    """(P, D): the side x side windows of a frame (H, W, 3) at upper left pixels (x, y), around zero."""
    every = np.lib.stride_tricks.sliding_window_view(frame, (side, side), axis=(0, 1))
    return around_zero(every[corners[:, 1], corners[:, 0]].reshape(len(corners), -1))
