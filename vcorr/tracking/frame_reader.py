"""Reads positions and confidences of query points from the correlations of one target frame.

Shapes: N query points, U distinct query tokens, P = h*w tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.probe_protocols import TokenCosts
from vcorr.contract.variants import Switches
from vcorr.functional.landing import make_landing
from vcorr.functional.matching import to_positions
from vcorr.functional.query_points import QueryPoints, QueryTokens, upload
from vcorr.tracking.track_options import Visibility

QUERY_LATENT = 0
"""The latent frame of the queries: they are in the first frame of every chunk."""


@dataclass(frozen=True)
class Piece:
    """One view of a target frame: the correlations of all layers in one pass, and the frame's place in the chunk."""

    costs: Sequence[TokenCosts]
    latent: int

    def rows(self, tokens: Tensor, *, back: bool = False) -> Tensor:
        """Returns C of query tokens with the target frame, (U, P), mean over layers; `back` exchanges the frames."""
        source, target = (self.latent, QUERY_LATENT) if back else (QUERY_LATENT, self.latent)
        return _mean([costs.rows(tokens, source=source, target=target) for costs in self.costs])


@dataclass(frozen=True)
class FrameRead:
    """What one target frame says. landed: (U, 2) pixels, as a landing gives them. confidence: (U,) in [0, 1]."""

    landed: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Followed:
    """Tracks of the queries of one frame. xy: (N, T, 2) float32 pixels. confidence: (N, T) float32 in [0, 1]."""

    xy: NDArray[np.float32]
    confidence: NDArray[np.float32]


class FrameReader:
    """Reads target frames for the query points of one frame.

    Args:
        points: the query points.
        grid: of a chunk that begins with their frame.
        costs: of any chunk, for the radius and the device.
        variant: decides the read-out and the second softmax.
        visibility: what the confidence is.

    Raises:
        UsageError: a point is outside the frame, or the read-out of the variant has no confidence of this kind.
    """

    def __init__(
        self, points: QueryPoints, grid: TokenGrid, costs: TokenCosts, variant: Switches, visibility: Visibility
    ) -> None:
        if variant.readout == "field" and visibility != "always":
            raise UsageError(
                f"track.visibility={visibility}: the read-out of difftrack samples a field of matches, which has no "
                "confidence of its own.",
                hint="The published code calls every point visible: --set track.visibility=always",
            )
        self.tokens: QueryTokens = points.locate(grid, costs.device, variant)
        self._landing = make_landing(grid, self.tokens, costs.radius, costs.device)
        self._grid, self._variant, self._visibility = grid, variant, visibility

    def read(self, pieces: Sequence[Piece]) -> FrameRead:
        """Returns what a target frame says, from the mean of its correlations over all passes that hold it."""
        tokens = self.tokens.tokens
        rows = _mean([piece.rows(tokens) for piece in pieces])
        if self._variant.second_softmax:
            landed = self._landing.offsets(rows.softmax(dim=-1).float(), tokens)
        else:
            landed = self._landing.offsets(rows, tokens)
        return FrameRead(landed, self._confide(pieces, rows.float()))

    def place(self, landed: Tensor, latent: int) -> Tensor:
        """Returns positions of the queries, (N, F, 2), from (U, F, 2); the query itself in the frame `latent`."""
        tokens = self.tokens
        return to_positions(landed, QueryTokens(tokens.xy, tokens.tokens, tokens.index, tokens.weights, latent))

    def spread(self, confidence: Tensor) -> Tensor:
        """Returns the confidence of each query, (N, F), from the confidence of its token, (U, F)."""
        if self.tokens.weights is not None:  # every point is visible
            return confidence.new_ones(len(self.tokens.xy), confidence.shape[1])
        return confidence.index_select(0, self.tokens.index)

    def _confide(self, pieces: Sequence[Piece], rows: Tensor) -> Tensor:
        if self._visibility == "always":
            return rows.new_ones(len(rows))
        peak, best = rows.max(dim=-1)
        if self._visibility == "peak":
            return peak
        back = _mean([piece.rows(best, back=True) for piece in pieces]).float().argmax(dim=-1)
        away = self._centres[back] - self._centres[self.tokens.tokens]
        error: Tensor = torch.linalg.vector_norm(away, dim=-1)
        return 1 / (1 + error)

    @cached_property
    def _centres(self) -> Tensor:
        """(P, 2), the centre of each token in token strides."""
        strides = self._grid.in_strides(self._grid.centres).astype(np.float32)
        return upload(strides, self.tokens.tokens.device)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(dim=0)
