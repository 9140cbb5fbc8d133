"""Baselines that do not look at the video.

Shapes: N query points, T frames.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.baselines.baseline import Baseline
from vcorr.baselines.distances import nearest, square_distances
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip


class ZeroMotion(Baseline):
    """Every point stays at its query: the floor of every accuracy, measured as a model of its own."""

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """Returns no motion."""
        return np.zeros((len(clip.queries), grid.frames, 2))


class RandomToken(Baseline):
    """A token drawn uniformly from all tokens of the frame, for every point and frame: the score of guessing.

    The query moves by the difference between the centres of this token and its own. The draw depends on the run's seed,
    the clip's id, the query's position and the frame. It does not depend on the query's frame, other queries and their
    order, the number of frames, or a library's generator.
    """

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """Returns the motions as in `Baseline`; each is a whole number of strides."""
        own = grid.tokens_at(clip.queries.xy)
        drawn = np.array([_draws(f"{seed}/{clip.id}", query, grid) for query in clip.queries.xy], dtype=np.int64)
        drawn = drawn.reshape(len(own), grid.frames)  # also without queries
        drawn[np.arange(len(own)), clip.queries.t] = own
        return (grid.centres[drawn] - grid.centres[own][:, None]).astype(np.float64)


class PositionOnly(Baseline):
    """A rotary position embedding of tokens that all have the same content: what position alone predicts.

    Query and key of every token are the same constant. They are turned by the angles of the token's row and column, as
    CogVideoX turns the numbers of a head (`ROTARY_WIDTH` numbers each, `ROTARY_BASE`). The angle of the latent frame is
    the same for all tokens of a frame and changes no match. The key nearest to the query wins, where their product is
    largest; of equal ones, the token nearest to the query's token.

    The probe `qk-position` does the same with a model's own layers, where queries and keys differ in their mean
    content.
    """

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """Returns the motions as in `Baseline`; the same in every frame but the query's own."""
        turned = _rotary(grid)
        own = grid.tokens_at(clip.queries.xy)
        offsets = (grid.centres[None] - grid.centres[own][:, None]).astype(np.float64)  # (N, r*c, 2)
        best = nearest(square_distances(turned[own], turned), (offsets**2).sum(-1))
        move = np.take_along_axis(offsets, best[:, None, None], axis=1)  # (N, 1, 2)
        return np.asarray(move * (np.arange(grid.frames) != clip.queries.t[:, None])[..., None])


ROTARY_WIDTH = 24
"""How many of a head's 64 numbers turn with the row, and how many with the column.

Source: Yang et al., CogVideoX, arXiv 2408.06072, section 2.2.
"""
ROTARY_BASE = 10_000.0


def _rotary(grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the constant 1 in every pair of numbers, turned by a token's row and column, (r*c, 2 * ROTARY_WIDTH)."""
    frequencies = ROTARY_BASE ** -(np.arange(0, ROTARY_WIDTH, 2) / ROTARY_WIDTH)
    rows, cols = np.divmod(np.arange(grid.tokens_per_frame), grid.cols)
    angles = np.concatenate([rows[:, None] * frequencies, cols[:, None] * frequencies], axis=1)
    return np.concatenate([np.cos(angles) - np.sin(angles), np.cos(angles) + np.sin(angles)], axis=1)


def _draws(name: str, query: NDArray[np.float32], grid: TokenGrid) -> NDArray[np.int64]:
    """Draws one token per frame, (T,), from 64 bits per frame of a hash of variable length."""
    x, y = (float(value) for value in query)
    digest = hashlib.shake_256(f"{name}/{x!r},{y!r}".encode()).digest(8 * grid.frames)
    return (np.frombuffer(digest, dtype="<u8") % grid.tokens_per_frame).astype(np.int64)
