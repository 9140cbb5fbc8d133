"""The baselines that search the pixels without a token grid.

Shapes: N query points, T frames, H x W pixels, P window positions, D values of a window.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vcorr.baselines.baseline import Baseline, video_of
from vcorr.baselines.distances import around_zero, correlations, nearest, square_distances
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, Readout

SEARCH_STEP = 2
"""Distance, in pixels, between the windows that are compared."""


class WindowSearch(Baseline):
    """Finds the pixel window of each frame that is most similar to the window around the query.

    The query's window has stride x stride pixels and is centred at the query in the query's frame. It starts at whole
    pixels and is moved inside where it would leave the frame. It is compared with the windows of every other frame, at
    every second pixel in x and in y, counted from its own position. The query moves as its window moves to the most
    similar one; of equally similar windows, the one that moved least wins. Subclasses say what similar means.
    """

    readout: ClassVar[Readout] = "free"
    tie: ClassVar[float] = 0.0
    """Costs that differ by at most this much are equal."""

    @abstractmethod
    def costs(self, wanted: NDArray[np.floating[Any]], windows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Returns how unlike each wanted window each other window is, (A, B).

        wanted: (A, D), windows: (B, D), whole numbers of `around_zero`.
        """

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """Returns the motions as in `Baseline`; each is a whole number of search steps."""
        side, video = self.config.stride, video_of(clip)
        corners = _corners(clip.queries.xy, side, *video.shape[1:3])
        moves = np.zeros((len(corners), len(video), 2))
        for asked_in, group in clip.queries.by_frame():
            for members, candidates in _search_classes(corners[group], side, *video.shape[1:3]):
                moves[group[members]] = self._find_moves(video, asked_in, corners[group[members]], candidates)
        return moves

    def _find_moves(
        self, video: NDArray[np.uint8], asked_in: int, origin: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Returns how far the windows at `origin` in frame `asked_in` move in each frame, (members, T, 2) pixels.

        candidates: (P, 2), upper left pixels of the windows to compare with.
        """
        side = self.config.stride
        moves = np.zeros((len(origin), len(video), 2))
        offsets = (candidates[None] - origin[:, None]).astype(np.float64)  # (members, P, 2)
        distance = (offsets**2).sum(-1)
        wanted = _windows(video[asked_in], side, origin)
        for frame in (frame for frame in range(len(video)) if frame != asked_in):
            costs = self.costs(wanted, _windows(video[frame], side, candidates))
            best = nearest(costs, distance, self.tie)
            moves[:, frame] = np.take_along_axis(offsets, best[:, None, None], axis=1)[:, 0]
        return moves


class DenseSearch(WindowSearch):
    """Dense pixel search: compares windows by their L2 distance over the three channels, without normalisation."""

    def costs(self, wanted: NDArray[np.floating[Any]], windows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Returns squared distances, which are exact."""
        return square_distances(wanted, windows)


class ZnccSearch(WindowSearch):
    """Dense normalised cross-correlation (ZNCC): compares windows by the correlation of their values.

    A window is its values of all three channels together, minus their mean, with unit norm; so brightness and contrast
    do not count. A window without variance has correlation 0 with every window: as the query's window it stays where it
    is, and it is never better than a window with a positive correlation.
    """

    tie: ClassVar[float] = 1e-9  # the correlations are rounded in float64, by less than 1e-15

    def costs(self, wanted: NDArray[np.floating[Any]], windows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Returns correlations with their sign changed."""
        return -correlations(wanted, windows)


def _corners(queries: NDArray[np.float32], side: int, height: int, width: int) -> NDArray[np.int64]:
    """Returns the upper left pixel (x, y) of the window around each query, inside the frame, (N, 2)."""
    corners = np.floor(queries.astype(np.float64) - side / 2 + 0.5).astype(np.int64)
    return np.clip(corners, 0, np.array([width - side, height - side]))


def _search_classes(
    corners: NDArray[np.int64], side: int, height: int, width: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Groups queries that search the same windows.

    Yields:
        Indices of the queries of a group, and (P, 2) upper left pixels (x, y) of the windows: all those at whole search
        steps from the queries' own windows.
    """
    phases = corners % SEARCH_STEP
    for phase in np.unique(phases, axis=0):
        xs = np.arange(phase[0], width - side + 1, SEARCH_STEP)
        ys = np.arange(phase[1], height - side + 1, SEARCH_STEP)
        candidates = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        yield np.flatnonzero((phases == phase).all(axis=1)), candidates


def _windows(frame: NDArray[np.uint8], side: int, corners: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
    """Returns the side x side windows of a frame (H, W, 3) at upper left pixels (x, y), centred at zero, (P, D)."""
    every = np.lib.stride_tricks.sliding_window_view(frame, (side, side), axis=(0, 1))
    return around_zero(every[corners[:, 1], corners[:, 0]].reshape(len(corners), -1))
