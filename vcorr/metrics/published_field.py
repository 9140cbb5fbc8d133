"""Quirks of the published DiffTrack code that need no tensors: where it samples its field of matches in space and time.

Source: DiffTrack (arXiv 2506.17220) and its public code; docs/protocol.md, difftrack read-out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid

MARGIN_SHARE = 64
"""The published margin is the frame's width divided by 64, in x as in y."""


@dataclass(frozen=True)
class FieldSamples:
    """The four tokens of frame 1 around every sampling position, as a pair of columns and a pair of rows.

    corners: (N, 2, 2) int64, [:, 0] the two columns, [:, 1] the two rows, clipped to the grid.
    weights: (N, 2, 2) float64 in [0, 1], the bilinear weight of each; 0 for a corner beyond the grid.
    """

    corners: NDArray[np.int64]
    weights: NDArray[np.float64]


def field_samples(grid: TokenGrid, queries: ArrayLike) -> FieldSamples:
    """Returns where the field is sampled: bilinearly, with align_corners and zero padding, in float32 as published.

    The normalised position is 2u/(n - mu) - 1, with u = x/s and mu = w/64 for both axes. It means the index
    u (n - 1)/(n - mu) among the n tokens of an axis.

    Args:
        grid: the grid of the tokens.
        queries: (N, 2) raster pixels in frame 0, inside the frame.

    Raises:
        UsageError: the grid is at least 64 times as wide as high; the published formula then has no value.
    """
    margin = grid.cols / MARGIN_SHARE
    if margin >= grid.rows:
        raise UsageError(
            f"difftrack's read-out has no value on {grid.rows} x {grid.cols} tokens: its margin, the width divided by "
            f"{MARGIN_SHARE}, is as large as the height.",
            hint="Use variant 'corrected'.",
        )
    size = np.array([grid.cols, grid.rows])
    position = grid.in_strides(queries).astype(np.float32)
    normalised = position / (size - margin).astype(np.float32) * np.float32(2) - np.float32(1)
    index = (normalised + np.float32(1)) / np.float32(2) * (size - 1).astype(np.float32)
    corners = np.floor(index).astype(np.int64)[..., None] + np.arange(2)
    weights = np.maximum(0.0, 1.0 - np.abs(index[..., None].astype(np.float64) - corners))
    inside = (corners >= 0) & (corners < size[:, None])
    return FieldSamples(np.clip(corners, 0, size[:, None] - 1), np.where(inside, weights, 0.0))


def find_exchanged_tokens(grid: TokenGrid, queries: ArrayLike) -> NDArray[np.int64]:
    """Returns the row-major indices (N,) of the tokens whose attention the published code summarises.

    x/s is rounded, half to even, and taken for the row; y/s for the column. Both are clipped to the grid.
    """
    rounded = np.rint(grid.in_strides(queries).astype(np.float32)).astype(np.int64)
    rows, cols = np.clip(rounded, 0, [grid.rows - 1, grid.cols - 1]).T
    return np.asarray(rows * grid.cols + cols)


def stretch_latents(latents: int, frames: int) -> NDArray[np.float64]:
    """Returns the position of each frame among F latents that are stretched over T frames, (T,) in latents.

    It is (t + 0.5) F/T - 0.5, as with align_corners=False, clipped to the first and the last latent.
    """
    return np.clip((np.arange(frames) + 0.5) * (latents / frames) - 0.5, 0, latents - 1)
