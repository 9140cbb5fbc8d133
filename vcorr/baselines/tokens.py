"""Baselines that match tokens of pixels, as attention matches its tokens.

Shapes: N query points, T frames, r x c tokens, D values of a token.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.baselines.baseline import Baseline, video_of
from vcorr.baselines.distances import around_zero, nearest, square_distances
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip


class TokenSearch(Baseline):
    """Finds the token of each frame that is most similar to the query's token, in the video without noise.

    The query moves by the difference between the centres of the two tokens, so it can move by whole tokens alone. Of
    equally similar tokens, the one nearest to the query's token wins. Subclasses say what is compared.
    """

    @abstractmethod
    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """Returns what is compared by L2 distance, (T, r*c, D) whole numbers.

        pixels: (T, r*c, s*s*3), the pixels of all tokens.
        """

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """Returns the motions as in `Baseline`; each is a whole number of strides."""
        described = self.describe(token_pixels(video_of(clip), grid))
        own = grid.tokens_at(clip.queries.xy)
        moves = np.zeros((len(own), grid.frames, 2))
        for asked_in, group in clip.queries.by_frame():
            tokens, query_of = np.unique(own[group], return_inverse=True)
            moves[group] = _find_moves(described, asked_in, tokens, grid)[query_of]
        return moves


class TokenPatches(TokenSearch):
    """Compares the patches of tokens: all stride x stride pixels, over the three channels, without normalisation."""

    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """Returns the pixels themselves, centred at zero."""
        return around_zero(pixels)


class NearestColour(TokenSearch):
    """Compares the mean colours of tokens over stride x stride pixels: three numbers, without texture or position."""

    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """Returns sums instead of means: their distances have the same order and are exact."""
        colours = pixels.reshape(*pixels.shape[:2], -1, 3)
        return np.asarray(colours.sum(axis=2, dtype=np.int64), dtype=np.float64)


def _find_moves(
    described: NDArray[np.floating[Any]], asked_in: int, tokens: NDArray[np.int64], grid: TokenGrid
) -> NDArray[np.float64]:
    """Returns the motion from each token of frame `asked_in` to the most similar one of each frame, (tokens, T, 2)."""
    offsets = (grid.centres[None] - grid.centres[tokens][:, None]).astype(np.float64)  # (tokens, r*c, 2)
    distance = (offsets**2).sum(-1)
    moves = np.zeros((len(tokens), grid.frames, 2))
    for frame in (frame for frame in range(grid.frames) if frame != asked_in):
        best = nearest(square_distances(described[asked_in][tokens], described[frame]), distance)
        moves[:, frame] = np.take_along_axis(offsets, best[:, None, None], axis=1)[:, 0]
    return moves


def token_pixels(video: NDArray[np.uint8], grid: TokenGrid) -> NDArray[np.uint8]:
    """Returns the pixels of every token, row by row, (T, r*c, D)."""
    stride, frames = round(grid.stride[0]), len(video)
    split = video.reshape(frames, grid.rows, stride, grid.cols, stride, 3)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(frames, grid.tokens_per_frame, -1)
