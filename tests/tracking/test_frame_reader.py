"""Reading target frames from the passes that hold them, against float64 written out frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vcorr import TokenGrid
from vcorr.contract.variants import CORRECTED
from vcorr.functional.query_points import QueryPoints
from vcorr.functional.token_costs import MatchedTokens
from vcorr.kernels.kernel_choice import use_kernels
from vcorr.tracking import frame_reader
from vcorr.tracking.frame_reader import FrameReader, Piece

GRID = TokenGrid(4, 3, 5, (16, 16), 4)
POINTS = np.array([[3, 4], [40, 20], [70, 47], [41, 21]], np.float32)
ORDERS = {
    "one pass": [[(0, 1)], [(0, 3)]],
    "one pass each": [[(0, 1)], [(1, 2)], [(0, 2)]],
    "two passes": [[(0, 1), (1, 1)], [(1, 2), (0, 3)], [(0, 2), (1, 3)]],
    "one pass, then two": [[(1, 3)], [(0, 1), (1, 1)], [(0, 2), (1, 2)]],
}
"""Of each target frame, the passes that hold it and its places there."""


def draw(seed, symmetric):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(2, 4, 3, 5, 8, generator=generator) for _ in range(2))
    return MatchedTokens(q, k, 0.5, symmetric)


def correlate(costs, source, target):
    """Returns C of all tokens of two frames in float64, (P, P)."""
    q, k = (tensor.double().flatten(2, 3) for tensor in (costs.left, costs.right))
    there = (q[:, source] @ k[:, target].mT * costs.scale).softmax(-1).mean(0)
    back = (q[:, target] @ k[:, source].mT * costs.scale).softmax(-1).mean(0)
    return (there + back.T) / 2 if costs.symmetric else there


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernels", ["plain", "fused"])
@pytest.mark.parametrize("at_once", [1, 100])
def test_frames_in_any_passes_are_read_as_in_float64(symmetric, order, kernels, at_once, monkeypatch):
    monkeypatch.setattr(frame_reader, "frames_at_once", lambda tokens: at_once)
    passes = [[draw(seed, symmetric), draw(seed + 10, symmetric)] for seed in (0, 1)]  # of two layers each
    frames = [[Piece(passes[number], latent) for number, latent in views] for views in ORDERS[order]]
    reader = FrameReader(QueryPoints(POINTS), GRID, passes[0][0], CORRECTED, "cycle")
    with use_kernels(kernels):
        found = reader.place([reader.read(frames[:1]), reader.read(frames[1:])])
    np.testing.assert_array_equal(found.xy[:, 0], POINTS)
    own = GRID.tokens_at(POINTS)
    for place, views in enumerate(ORDERS[order], start=1):
        every = [(costs, latent) for number, latent in views for costs in passes[number]]
        there = torch.stack([correlate(costs, 0, latent) for costs, latent in every]).mean(0)
        back = torch.stack([correlate(costs, latent, 0) for costs, latent in every]).mean(0)
        best = there[own].argmax(1)
        np.testing.assert_allclose(found.xy[:, place], POINTS + GRID.centres[best] - GRID.centres[own], rtol=1e-6)
        returned = back[best].argmax(1)
        away = np.linalg.norm(GRID.in_strides(GRID.centres[returned] - GRID.centres[own]), axis=1)
        np.testing.assert_allclose(found.confidence[:, place], 1 / (1 + away), rtol=1e-6)
