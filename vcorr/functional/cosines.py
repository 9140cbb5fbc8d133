"""Brings vectors to unit length, so that a scaled dot product of two of them is a cosine over a temperature."""

from __future__ import annotations

import torch
from torch import Tensor

from vcorr.functional.arguments import check_floats
from vcorr.functional.blocks import plain_precision


@torch.no_grad()
def unit_vectors(tensor: Tensor) -> Tensor:
    """Brings the vectors along the last axis to Euclidean length 1, in float32.

    `match(u, u, grid, queries, scale=1 / temperature)` with u = unit_vectors(features) compares by cosine. Features of
    an attention head, of all heads or of a block have no scale of their own; so no factor on them changes the result.

    Args:
        tensor: (..., c); float32, bfloat16 or float16.

    Returns:
        float32, of the same shape and on the same device. A vector of zeros stays zero: its cosine with every vector is
        0. A vector with NaN or infinity becomes NaN.

    Raises:
        UsageError: `tensor` is no tensor of real floats.
    """
    check_floats("tensor", tensor)
    with plain_precision(tensor.device):
        vectors = tensor.float()
        # first the largest number, then the length: squares of very large or very small numbers leave float32
        peak = vectors.abs().amax(dim=-1, keepdim=True)
        vectors = vectors / peak.where(peak != 0, 1.0)
        length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        return vectors / length.where(length != 0, 1.0)
