"""Baselines that do not look at the video.

Shape legend: N query points, T frames.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.baselines.baseline import Baseline
from vcorr.baselines.distances import nearest, squared_distances
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip


class ZeroMotion(Baseline):
    """Every point stays where it is in its query frame: the floor of every accuracy, as a row of its own."""

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; none."""
        return np.zeros((len(clip.queries), grid.frames, 2))


class RandomToken(Baseline):
    """A token drawn uniformly from all tokens of the frame, for every point and frame: what guessing is worth.

    The answer is the query moved by the difference of the centres of that token and its own. What is drawn depends on
    the run's seed, the clip's id, the query's position and the frame: not on the frame the query is in, other queries,
    their order, how many frames follow, or any library's generator.
    """

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; every move is a whole number of strides."""
        own = grid.tokens_at(clip.queries.xy)
        drawn = np.array([_draws(f"{seed}/{clip.id}", query, grid) for query in clip.queries.xy], dtype=np.int64)
        drawn = drawn.reshape(len(own), grid.frames)  # also without queries
        drawn[np.arange(len(own)), clip.queries.t] = own
        return (grid.centres[drawn] - grid.centres[own][:, None]).astype(np.float64)


class PositionOnly(Baseline):
    """A rotary position embedding whose tokens all have the same content: what place alone answers.

    Query and key of a token at row y and column x are the same constant, turned by the angles of y and of x as
    CogVideoX turns those of a head (`ROTARY_WIDTH` numbers for each, `ROTARY_BASE`); the latent's own angle is the same
    for all tokens of a frame and changes no match. The key nearest to the query wins, which is where their product is
    greatest; of equals the token nearest to the query's.

    The probe `qk-position` asks the same of a model's own layers, where queries and keys differ in their mean content.
    """

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; the same in every frame but the query's own."""
        turned = _rotary(grid)
        own = grid.tokens_at(clip.queries.xy)
        offsets = (grid.centres[None] - grid.centres[own][:, None]).astype(np.float64)  # (N, r*c, 2)
        best = nearest(squared_distances(turned[own], turned), (offsets**2).sum(-1))
        move = np.take_along_axis(offsets, best[:, None, None], axis=1)  # (N, 1, 2)
        return np.asarray(move * (np.arange(grid.frames) != clip.queries.t[:, None])[..., None])


ROTARY_WIDTH = 24
"""Of the 64 numbers of a head, those that turn with the row, and those that turn with the column (Yang et al.,
CogVideoX, arXiv 2408.06072, section 2.2)."""
ROTARY_BASE = 10_000.0


def _rotary(grid: TokenGrid) -> NDArray[np.float64]:
    """(r*c, 2 * ROTARY_WIDTH): the constant 1 in every pair of numbers, turned by each token's row and column."""
    frequencies = ROTARY_BASE ** -(np.arange(0, ROTARY_WIDTH, 2) / ROTARY_WIDTH)
    rows, cols = np.divmod(np.arange(grid.tokens_per_frame), grid.cols)
    angles = np.concatenate([rows[:, None] * frequencies, cols[:, None] * frequencies], axis=1)
    return np.concatenate([np.cos(angles) - np.sin(angles), np.cos(angles) + np.sin(angles)], axis=1)


def _draws(name: str, query: NDArray[np.float32], grid: TokenGrid) -> NDArray[np.int64]:
    """(T,): a token for each frame, from 64 bits a frame of a hash that is as long as it is asked to be."""
    x, y = (float(value) for value in query)
    digest = hashlib.shake_256(f"{name}/{x!r},{y!r}".encode()).digest(8 * grid.frames)
    return (np.frombuffer(digest, dtype="<u8") % grid.tokens_per_frame).astype(np.int64)
