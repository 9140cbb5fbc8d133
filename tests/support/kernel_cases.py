"""Small drawn cases for the fused kernels, and the correlation in float64 that says which token is best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

from vcorr import TokenGrid

SIZES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "heads": st.integers(1, 3),
        "frames": st.integers(2, 3),
        "rows": st.integers(1, 5),
        "cols": st.integers(1, 9),
        "width": st.sampled_from([1, 8, 17, 64, 80]),
        "points": st.integers(1, 6),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
        "layout": st.sampled_from(["heads first", "heads last", "scattered"]),
    }
)
"""Sizes of cases: ragged tiles, widths beyond one step, and the layouts in which models keep their tokens."""


@dataclass(frozen=True)
class Case:
    """q, k: (H, F, h, w, d). points: (N, 2) raster pixels in frame 0."""

    q: torch.Tensor
    k: torch.Tensor
    grid: TokenGrid
    points: np.ndarray

    @classmethod
    def draw(
        cls, *, seed, heads, frames, rows, cols, width, points, dtype=torch.float32, layout="heads first", sharp=1.0
    ):
        generator = torch.Generator().manual_seed(seed)
        shape = (heads, frames, rows, cols, width)
        q, k = ((torch.randn(shape, generator=generator) * sharp).to(dtype) for _ in range(2))
        grid = TokenGrid(frames=frames, rows=rows, cols=cols, stride=(16, 8), temporal_ratio=4)
        inside = np.random.default_rng(seed).uniform(0, 1, (points, 2)) * [grid.width, grid.height]
        return cls(lay_out(q, layout), lay_out(k, layout), grid, inside.astype(np.float32))


def lay_out(tensor, layout):
    """Returns equal values with other strides: (F, h, w, H, d) in memory, or channels that lie apart."""
    if layout == "heads last":
        return tensor.permute(1, 2, 3, 0, 4).contiguous().permute(3, 0, 1, 2, 4)
    if layout == "scattered":
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    return tensor


def correlate(case, frame, *, symmetric=True, scale=None):
    """Follows docs/protocol.md in float64: C of all tokens of frame 0 with a frame, (H, P, P), per head."""
    q, k = (tensor.double().flatten(2, 3) for tensor in (case.q, case.k))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    cost = (q[:, 0] @ k[:, frame].mT * scale).softmax(-1)
    return cost + (q[:, frame] @ k[:, 0].mT * scale).softmax(-1).mT if symmetric else cost
