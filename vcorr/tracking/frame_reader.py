"""Reads positions and confidences of query points from the correlations of target frames.

Shapes: N query points, U distinct query tokens, J target frames, P = h*w tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.probe_protocols import TokenCosts
from vcorr.contract.variants import Switches
from vcorr.functional.landing import make_landing, to_positions
from vcorr.functional.paired_tokens import frames_at_once
from vcorr.functional.published_code import Landed
from vcorr.functional.query_points import QueryPoints, QueryTokens, upload
from vcorr.functional.token_costs import pair_frames
from vcorr.tracking.track_options import Visibility

QUERY_LATENT = 0
"""The latent frame of the queries: they are in the first frame of every chunk."""


@dataclass(frozen=True)
class Piece:
    """One view of a target frame: the correlations of all layers in one pass, and the frame's place in the chunk."""

    costs: Sequence[TokenCosts]
    latent: int


@dataclass(frozen=True)
class FrameRead:
    """What J target frames say. landed: (J, U, 2) pixels, as a landing gives them. confidence: (J, U) in [0, 1]."""

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
        self.grid, self._variant, self._visibility = grid, variant, visibility

    def read(self, frames: Sequence[Sequence[Piece]]) -> FrameRead:
        """Returns what target frames say, each from the mean of its correlations over all passes that hold it."""
        read = [self._read_together(part) for part in self._split(frames)]
        return FrameRead(torch.cat([each.landed for each in read]), torch.cat([each.confidence for each in read]))

    def place(self, reads: Sequence[FrameRead]) -> Followed:
        """Returns the queries in their own frame and then in all frames that were read, copied to the host at once."""
        tokens = self.tokens
        landed = _behind([read.landed for read in reads], 0.0)
        xy = to_positions(landed, QueryTokens(tokens.xy, tokens.tokens, tokens.index, tokens.weights, QUERY_LATENT))
        confidence = self._spread(_behind([read.confidence for read in reads], 1.0))
        found = torch.cat([xy, confidence[..., None]], dim=-1).cpu().numpy()
        return Followed(found[..., :2], found[..., 2])

    def _split(self, frames: Sequence[Sequence[Piece]]) -> Iterator[list[Sequence[Piece]]]:
        """Yields neighbouring frames that are read together: in equally many passes, and as many as memory allows."""
        for views, alike in groupby(frames, key=len):
            part = list(alike)
            parts = -(-len(part) * views // frames_at_once(self.grid.tokens_per_frame))
            size = -(-len(part) // parts)
            yield from (part[start : start + size] for start in range(0, len(part), size))

    def _read_together(self, frames: Sequence[Sequence[Piece]]) -> FrameRead:
        views = _Views(frames, both=self._visibility == "cycle", device=self.tokens.tokens.device)
        tokens = self.tokens.tokens
        rows = views.rows(tokens)
        landed = self._landing.land(rows.softmax(dim=-1).float() if self._variant.second_softmax else rows, tokens)
        return FrameRead(landed.offsets, self._confide(views, rows, landed))

    def _spread(self, confidence: Tensor) -> Tensor:
        """Returns the confidence of each query, (N, F), from the confidence of its token, (U, F)."""
        if self.tokens.weights is not None:  # every point is visible
            return confidence.new_ones(len(self.tokens.xy), confidence.shape[1])
        return confidence.index_select(0, self.tokens.index)

    def _confide(self, views: _Views, rows: Tensor, landed: Landed) -> Tensor:
        if self._visibility == "always":
            return rows.new_ones(rows.shape[:2], dtype=torch.float32)
        # a second softmax makes ties, so the best token is the one before it
        peak, best = rows.float().max(dim=-1) if self._variant.second_softmax else (landed.peak, landed.best)
        if self._visibility == "peak":
            return peak.float()
        back = views.back_rows(best).float().argmax(dim=-1)
        away = self._centres[back] - self._centres[self.tokens.tokens]
        error: Tensor = torch.linalg.vector_norm(away, dim=-1)
        return 1 / (1 + error)

    @cached_property
    def _centres(self) -> Tensor:
        """(P, 2), the centre of each token in token strides."""
        strides = self.grid.in_strides(self.grid.centres).astype(np.float32)
        return upload(strides, self.tokens.tokens.device)


def _behind(read: Sequence[Tensor], first: float) -> Tensor:
    """Returns what was read of all frames, (U, 1 + J, ...), with `first` for the frame of the queries before them."""
    own = read[0].new_full((1, *read[0].shape[1:]), first)
    return torch.cat([own, *read]).transpose(0, 1)


class _Views:
    """Target frames in the passes that hold them. C of a frame is its mean over these passes.

    Args:
        frames: the V views of each of the J target frames.
        both: whether the way back is asked for.
        device: of the correlations.
    """

    def __init__(self, frames: Sequence[Sequence[Piece]], *, both: bool, device: torch.device) -> None:
        self._views = len(frames[0])
        by_pass: dict[int, list[tuple[int, Piece]]] = {}
        for place, piece in enumerate(chain.from_iterable(zip(*frames, strict=True))):
            by_pass.setdefault(id(piece.costs), []).append((place, piece))
        parts = list(by_pass.values())
        self._sizes = [len(part) for part in parts]
        self._pairs = [
            pair_frames(part[0][1].costs, QUERY_LATENT, [piece.latent for _, piece in part], both=both)
            for part in parts
        ]
        # of each row of all passes one after the other: its frame; and where the views of each frame are among them
        places = np.array([place for part in parts for place, _ in part])
        self._frames, self._rows = upload(places % len(frames), device), upload(np.argsort(places), device)

    def rows(self, tokens: Tensor) -> Tensor:
        """Returns C of query tokens (U,) with every target frame, (J, U, P)."""
        return self._mean([pairs.rows(tokens) for pairs in self._pairs])

    def back_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (J, U) of every target frame with the frame of the queries, (J, U, P)."""
        if len(self._pairs) == 1:
            return self._pairs[0].back_rows(tokens)
        asked = tokens.index_select(0, self._frames).split(self._sizes)
        return self._mean([pairs.back_rows(own) for pairs, own in zip(self._pairs, asked, strict=True)])

    def _mean(self, parts: Sequence[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]  # one pass holds every frame once, in order
        rows = torch.cat(list(parts)).index_select(0, self._rows)
        return rows.reshape(self._views, len(rows) // self._views, *rows.shape[1:]).mean(dim=0)
