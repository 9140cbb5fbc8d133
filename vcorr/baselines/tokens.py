"""Baselines that match tokens of pixels as attention matches its tokens.

Shape legend: N query points, T frames, r x c tokens, D values of a token.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.baselines.baseline import Baseline, video_of
from vcorr.baselines.distances import around_zero, nearest, squared_distances
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip


class TokenSearch(Baseline):
    """The token of each frame that is most like the token under the query in the query's own frame, without noise.

    The answer is the query moved by the difference of the two tokens' centres, so only motions by whole tokens can be
    found. Of tokens that are equally like it the one nearest to the query's token wins. Subclasses say what is
    compared.
    """

    @abstractmethod
    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """(T, r*c, s*s*3) pixels of every token to what is compared by its L2 distance, (T, r*c, D) whole numbers."""

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; every move is a whole number of strides."""
        described = self.describe(_token_pixels(video_of(clip), grid))
        own = grid.tokens_at(clip.queries.xy)
        moves = np.zeros((len(own), grid.frames, 2))
        for asked_in, group in clip.queries.by_frame():
            tokens, query_of = np.unique(own[group], return_inverse=True)
            moves[group] = _found(described, asked_in, tokens, grid)[query_of]
        return moves


class TokenPatches(TokenSearch):
    """Token-grid patches: all stride x stride pixels of a token, over the three channels, nothing normalised."""

    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """As in `TokenSearch`: the pixels themselves."""
        return around_zero(pixels)


class NearestColour(TokenSearch):
    """The mean colour of a token's stride x stride pixels: three numbers, no texture and no place in them."""

    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """As in `TokenSearch`: sums in place of means, whose distances rank alike and are exact."""
        colours = pixels.reshape(*pixels.shape[:2], -1, 3)
        return np.asarray(colours.sum(axis=2, dtype=np.int64), dtype=np.float64)


def _found(
    described: NDArray[np.floating[Any]], asked_in: int, tokens: NDArray[np.int64], grid: TokenGrid
) -> NDArray[np.float64]:
    """(tokens, T, 2): how far each token of frame `asked_in` is from the one most like it in each frame."""
    offsets = (grid.centres[None] - grid.centres[tokens][:, None]).astype(np.float64)  # (tokens, r*c, 2)
    distance = (offsets**2).sum(-1)
    moves = np.zeros((len(tokens), grid.frames, 2))
    for frame in (frame for frame in range(grid.frames) if frame != asked_in):
        best = nearest(squared_distances(described[asked_in][tokens], described[frame]), distance)
        moves[:, frame] = np.take_along_axis(offsets, best[:, None, None], axis=1)[:, 0]
    return moves


def _token_pixels(video: NDArray[np.uint8], grid: TokenGrid) -> NDArray[np.uint8]:
    """(T, r*c, D): the pixels of every token, row by row."""
    stride, frames = round(grid.stride[0]), len(video)
    split = video.reshape(frames, grid.rows, stride, grid.cols, stride, 3)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(frames, grid.tokens_per_frame, -1)
