"""Query points, checked once on the CPU and turned into the tokens they read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vcorr.errors import UsageError
from vcorr.geometry import TokenGrid


@dataclass(frozen=True)
class QueryTokens:
    """Checked query points on the device that matches them.

    xy: (N, 2) float32 pixels. tokens: (U,) int64, the distinct tokens under the queries, ascending row-major indices.
    index: (N,) int64, which of `tokens` each query reads.
    """

    xy: Tensor
    tokens: Tensor
    index: Tensor


def locate_queries(grid: TokenGrid, queries: Tensor | ArrayLike, device: torch.device | str) -> QueryTokens:
    """Checks queries and looks up their tokens; the result can be used for every layer and step on the same grid.

    The work is done on the CPU. Queries that live there are uploaded without waiting for the device; queries that live
    on a GPU must be copied back first, which waits for all work queued on it.

    Args:
        grid: the token grid.
        queries: (N, 2) raster pixels in frame 0.
        device: where q and k are.

    Raises:
        UsageError: not an (N, 2) array of numbers, or a position that is not finite or outside the frame.
    """
    points = as_points(queries)
    try:
        tokens, index = np.unique(grid.tokens_at(points), return_inverse=True)
    except UsageError as error:
        raise UsageError(f"queries: {error.message}", hint=error.hint) from error
    return QueryTokens(upload(points, device), upload(tokens, device), upload(index, device))


def as_points(queries: Tensor | ArrayLike) -> NDArray[np.float32]:
    """Queries as an (N, 2) float32 array in host memory.

    Raises:
        UsageError: they are not (N, 2) numbers.
    """
    if isinstance(queries, Tensor):
        queries = queries.detach().to("cpu", torch.float32).numpy()
    try:
        points = np.asarray(queries, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"queries: expected (N, 2) numbers, got {type(queries).__name__}.") from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise UsageError(f"queries: expected shape (N, 2) with (x, y) last, got {points.shape}.")
    return points


def upload(array: ArrayLike, device: torch.device | str) -> Tensor:
    """A copy of a small host array on `device`, without waiting for the device's queue."""
    # the copy owns its memory: the caller may change the array afterwards
    return torch.from_numpy(np.array(array)).to(device, non_blocking=True)
