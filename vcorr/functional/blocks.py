"""Checks tensors, and cuts loops into pieces that fit in memory, for all kernels of the functional API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import product

import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid
from vcorr.functional.arguments import check_floats

BLOCK = 1 << 24
"""Number of elements of one intermediate matrix: 64 MiB of float32. At most four exist at the same time."""

MEAN = -1
"""In a `Piece`, in place of heads: the mean over all heads."""

Piece = tuple[slice | int, slice, Tensor]
"""Heads (or MEAN), query tokens, and their correlation with all tokens of a frame, (A, U, P) or (U, P)."""


def blocks(heads: int, rows: int, cols: int, most: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Yields slices over heads and rows that cut heads x rows x cols into pieces of at most `most` elements (`BLOCK`).

    A piece has at least one row of one head. Several whole heads make one piece if they fit.
    """
    most = most or BLOCK
    row_step = _rows_at_once(rows, cols, most)
    head_step = max(1, min(heads, most // (row_step * cols)))
    return product(_slices(heads, head_step), _slices(rows, row_step))


def row_slices(rows: int, cols: int) -> list[slice]:
    """Returns slices over rows that cut rows x cols into pieces of at most `BLOCK` elements, or of one row."""
    return _slices(rows, _rows_at_once(rows, cols, BLOCK))


def _rows_at_once(rows: int, cols: int, most: int) -> int:
    return max(1, min(rows, most // cols))


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def check_tokens(name: str, value: Tensor, grid: TokenGrid) -> None:
    """Checks that `value` has the shape (H, F, h, w, d) and fits the grid.

    Raises:
        UsageError: it does not; the message begins with `name`.
    """
    check_floats(name, value)
    check_grid(grid)
    if value.ndim != 5 or value.shape[1:4] != (grid.frames, grid.rows, grid.cols) or 0 in value.shape:
        raise UsageError(
            f"{name}: expected shape (H, F, h, w, d) with ({grid.frames}, {grid.rows}, {grid.cols}) in the middle, got "
            f"{tuple(value.shape)}."
        )


def plain_precision(device: torch.device) -> AbstractContextManager[object]:
    """Turns autocast off: inside a model's forward pass it could compute the products in half precision."""
    return torch.autocast(device.type, enabled=False)
