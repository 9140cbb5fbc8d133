"""Reads positions from a correlation: the best token of a frame, or the mean of centres around it.

Shapes, as in `vcorr.functional.matching`: U distinct query tokens, P = h*w tokens of a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.functional.blocks import BLOCK, blocks
from vcorr.functional.published_code import FieldLanding, Landed, sample_field
from vcorr.functional.query_points import QueryTokens, upload


@dataclass(frozen=True)
class Landing:
    """Reads positions from C.

    centres: (P, 2) pixels; rows, cols: (P,) int16, of every token of a frame. stride: (2,), pixels of a token.
    """

    centres: Tensor
    rows: Tensor
    cols: Tensor
    radius: int
    stride: Tensor

    @classmethod
    def of(cls, grid: TokenGrid, radius: int, device: torch.device) -> Landing:
        """Returns the landing for `grid`, which reads within `radius` tokens of the best one."""
        centres = upload(grid.centres, device)
        rows, cols = np.divmod(np.arange(grid.tokens_per_frame), grid.cols)
        reach = min(radius, max(grid.rows, grid.cols))  # no token is farther away, and int16 ends at 32767
        stride = upload(np.array(grid.stride, dtype=np.float32), device)
        return cls(centres, upload(rows.astype(np.int16), device), upload(cols.astype(np.int16), device), reach, stride)

    def offsets(self, cost: Tensor, tokens: Tensor) -> Tensor:
        """Returns the motion in pixels, (..., U, 2), that C (..., U, P) means for the query `tokens` (U,).

        Only the ratios for one query token matter, so C may have any positive factor. NaN in them gives NaN.
        """
        return self.land(cost, tokens).offsets

    def land(self, cost: Tensor, tokens: Tensor) -> Landed:
        """Returns `offsets`, and the peak and the best token of C (..., U, P)."""
        peak, best = cost.max(dim=-1)  # the first of equal values
        offsets = self.centres[best] - self.centres[tokens]
        if self.radius:
            offsets = offsets + self._refine(cost, best)
        return Landed(offsets.masked_fill(peak.isnan()[..., None], math.nan), peak, best)

    def _refine(self, cost: Tensor, best: Tensor) -> Tensor:
        """Returns `_refinement` of C, a quarter of a block at a time: it takes several matrices of this size."""
        rows = cost.reshape(-1, *cost.shape[-2:])
        heads, count, width = rows.shape
        tokens = best.reshape(heads, count)
        found = self.centres.new_empty(heads, count, 2)
        for a, r in blocks(heads, count, width, max(1, BLOCK // 4)):
            found[a, r] = self._refinement(rows[a, r], tokens[a, r])
        return found.reshape(*best.shape, 2)

    def _refinement(self, cost: Tensor, best: Tensor) -> Tensor:
        """Returns the offset from the best token's centre to the C-weighted mean of centres within `radius` tokens."""
        near = (self.rows - self.rows[best][..., None]).abs_() <= self.radius
        near &= (self.cols - self.cols[best][..., None]).abs_() <= self.radius
        weights = cost.where(near, 0.0)
        weights /= weights.sum(dim=-1, keepdim=True)
        # products and sums, not a matrix product: they are exact also where the device may use TF32
        return torch.stack(
            [(weights * (axis - axis[best][..., None])).sum(dim=-1) for axis in self.centres.unbind(-1)], dim=-1
        )


def make_landing(grid: TokenGrid, points: QueryTokens, radius: int, device: torch.device) -> Landing | FieldLanding:
    """Returns what reads positions from C: its `offsets(cost, tokens)` gives (..., U, 2) for C (..., U, P).

    The points keep it, so its tables are uploaded once for all layers and steps.

    Raises:
        UsageError: a radius is given, and the points are sampled from a field.
    """
    if radius and points.weights is not None:
        raise UsageError(f"radius: the field read-out of difftrack takes no radius, got {radius}.")
    if (grid, radius) not in points.landings:
        made = Landing.of(grid, radius, device) if points.weights is None else FieldLanding.of(grid, device)
        points.landings[grid, radius] = made
    landing: Landing | FieldLanding = points.landings[grid, radius]
    return landing


def to_positions(offsets: Tensor, points: QueryTokens) -> Tensor:
    """Converts what a landing reads for distinct tokens, (..., U, F, 2), to positions of queries, (..., N, F, 2)."""
    if points.weights is not None:
        return sample_field(offsets, points, points.weights)
    return points.xy[:, None] + offsets.index_select(offsets.ndim - 3, points.index)
