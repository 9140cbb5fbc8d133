"""Matches tokens by their L2 distance, with the corrected read-out; nothing here waits for the device.

Shapes: U distinct query tokens, P = h*w tokens of a frame, c values of a token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid
from vcorr.functional.blocks import row_slices
from vcorr.functional.query_points import QueryTokens, upload


def match_nearest(f: Tensor, grid: TokenGrid, points: QueryTokens) -> Tensor:
    """Returns where the token of each query goes: to the nearest token of every frame, (N, F, 2) pixels (x, y).

    Distances are computed from differences in float32, so equal tokens have distance 0. Of equally near tokens, the one
    nearest in the frame to the query's token wins. NaN in a distance gives NaN.

    Args:
        f: (F, h, w, c) float32.
        grid: of these tokens.
        points: the queries, looked up for the variant `corrected`.

    Raises:
        UsageError: f does not fit the grid.
    """
    check_grid(grid)
    if f.ndim != 4 or f.shape[:3] != (grid.frames, grid.rows, grid.cols):
        raise UsageError(
            f"f: expected shape (F, h, w, c) with ({grid.frames}, {grid.rows}, {grid.cols}) first, got "
            f"{tuple(f.shape)}."
        )
    tokens, values, own = points.tokens, f.flatten(1, 2), points.latent
    offsets = torch.zeros(len(tokens), grid.frames, 2, dtype=torch.float32, device=f.device)
    centres = upload(grid.centres, f.device)
    for part in row_slices(len(tokens), grid.tokens_per_frame):
        moves = centres[None] - centres[tokens[part], None]
        wanted = values[own].index_select(0, tokens[part])
        for frame in (frame for frame in range(grid.frames) if frame != own):
            offsets[part, frame] = _nearest_moves(wanted, values[frame], moves)
    return points.xy[:, None] + offsets.index_select(0, points.index)


def measure_distances(wanted: Tensor, tokens: Tensor) -> Tensor:
    """Returns the L2 distance of each wanted token (U, c) to each of the tokens (P, c), (U, P); equal tokens have 0."""
    return torch.cdist(wanted, tokens, compute_mode="donot_use_mm_for_euclid_dist")


def _nearest_moves(wanted: Tensor, tokens: Tensor, moves: Tensor) -> Tensor:
    """Returns the motion of each wanted token (U, c) to the nearest of the tokens (P, c), (U, 2).

    moves: (U, P, 2), the motion to each token.
    """
    distance = measure_distances(wanted, tokens)
    least = distance.min(dim=1, keepdim=True).values
    far = moves.square().sum(-1).masked_fill(distance != least, math.inf)
    best = far.argmin(dim=1)[:, None, None].expand(-1, 1, 2)
    return moves.gather(1, best)[:, 0].masked_fill(least.isnan(), math.nan)
