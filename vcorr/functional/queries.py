"""Query points, checked once on the CPU and turned into the tokens they read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vcorr.errors import UsageError
from vcorr.functional.arguments import host_numbers
from vcorr.geometry import TokenGrid, check_grid
from vcorr.metrics.difftrack import field_samples
from vcorr.variants import Variant, switches_of


@dataclass(frozen=True)
class QueryTokens:
    """Checked query points on the device that matches them.

    xy: (N, 2) float32 pixels. tokens: (U,) int64, the distinct tokens that are read, ascending row-major indices.
    index: (N,) int64, which of `tokens` each query reads. weights: None; or, for the field read-out of difftrack,
    (N, 4) float32 weights of the four tokens beside each query, and index is (N, 4) as well.
    """

    xy: Tensor
    tokens: Tensor
    index: Tensor
    weights: Tensor | None = None


def locate_queries(
    grid: TokenGrid, queries: Tensor | ArrayLike, device: torch.device | str, *, variant: Variant = "corrected"
) -> QueryTokens:
    """Checks queries and looks up their tokens; the result can be used for every layer and step on the same grid.

    The work is done on the CPU. Queries that live there are uploaded without waiting for the device; queries that live
    on a GPU must be copied back first, which waits for all work queued on it.

    Args:
        grid: the token grid.
        queries: (N, 2) raster pixels in frame 0.
        device: where q and k are.
        variant: "corrected", "difftrack" or `Switches` (`readout`).

    Raises:
        UsageError: not an (N, 2) array of numbers, or a position that is not finite or outside the frame.
    """
    points = checked_points(grid, queries)
    if switches_of(variant).readout == "field":
        return _locate_samples(grid, points, device)
    tokens, index = np.unique(grid.tokens_at(points), return_inverse=True)
    return QueryTokens(upload(points, device), upload(tokens, device), upload(index, device))


def checked_points(grid: TokenGrid, queries: Tensor | ArrayLike) -> NDArray[np.float32]:
    """Queries as an (N, 2) float32 array in host memory, all inside the frame.

    Raises:
        UsageError: they are not.
    """
    points = as_points(queries)
    check_grid(grid)
    try:
        grid.check_inside(points)
    except UsageError as error:
        raise UsageError(f"queries: {error.message}", hint=error.hint) from error
    return points


def as_points(queries: Tensor | ArrayLike) -> NDArray[np.float32]:
    """Queries as an (N, 2) float32 array in host memory.

    Raises:
        UsageError: they are not (N, 2) numbers.
    """
    numbers = host_numbers("queries", queries, "(N, 2)")
    with np.errstate(over="ignore"):  # what is too large for float32 is outside any frame, as infinity is
        points = numbers.astype(np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise UsageError(f"queries: expected shape (N, 2) with (x, y) last, got {points.shape}.")
    return points


def upload(array: ArrayLike, device: torch.device | str) -> Tensor:
    """A copy of a small host array on `device`, without waiting for the device's queue."""
    # the copy owns its memory: the caller may change the array afterwards
    return torch.from_numpy(np.array(array)).to(device, non_blocking=True)


def _locate_samples(grid: TokenGrid, points: NDArray[np.float32], device: torch.device | str) -> QueryTokens:
    samples = field_samples(grid, points)
    (cols, rows), (across, down) = samples.corners.transpose(1, 0, 2), samples.weights.transpose(1, 0, 2)
    beside = (rows[:, :, None] * grid.cols + cols[:, None]).reshape(-1, 4)
    weights = (down[:, :, None] * across[:, None]).reshape(-1, 4).astype(np.float32)
    tokens, index = np.unique(beside, return_inverse=True)
    index = index.reshape(beside.shape)  # numpy 2.0 and later disagree about its shape
    return QueryTokens(upload(points, device), upload(tokens, device), upload(index, device), upload(weights, device))
