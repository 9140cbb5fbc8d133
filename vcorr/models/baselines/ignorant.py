"""Baselines that do not look at the video.

Shape legend: N query points, T frames.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.geometry import TokenGrid
from vcorr.models.baselines.base import Baseline
from vcorr.records import Clip


class ZeroMotion(Baseline):
    """Every point stays where it is in frame 0: the floor of every accuracy, as a row of its own."""

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; none."""
        return np.zeros((len(clip.queries), grid.frames, 2))


class RandomToken(Baseline):
    """A token drawn uniformly from all tokens of the frame, for every point and frame: what guessing is worth.

    The answer is the query moved by the difference of the centres of that token and its own. What is drawn depends on
    the run's seed, the clip's id, the query's position and the frame: not on other queries, their order, how many
    frames follow, or any library's generator.
    """

    def moves(self, clip: Clip, grid: TokenGrid, seed: int) -> NDArray[np.floating[Any]]:
        """As in `Baseline`; every move is a whole number of strides."""
        own = grid.tokens_at(clip.queries)
        drawn = np.array([_draws(f"{seed}/{clip.id}", query, grid) for query in clip.queries], dtype=np.int64)
        drawn = drawn.reshape(len(own), grid.frames)  # also without queries
        drawn[:, 0] = own
        return (grid.centres[drawn] - grid.centres[own][:, None]).astype(np.float64)


def _draws(name: str, query: NDArray[np.float32], grid: TokenGrid) -> NDArray[np.int64]:
    """(T,): a token for each frame, from 64 bits a frame of a hash that is as long as it is asked to be."""
    x, y = (float(value) for value in query)
    digest = hashlib.shake_256(f"{name}/{x!r},{y!r}".encode()).digest(8 * grid.frames)
    return (np.frombuffer(digest, dtype="<u8") % grid.tokens_per_frame).astype(np.int64)
