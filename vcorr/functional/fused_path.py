"""Brings matching, rows of correlation and attention summaries to the fused kernels (`vcorr.kernels`), where these run.

Plain torch is the reference and does the rest: the second softmax of difftrack and large radii.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vcorr.functional.correlation import Costs
from vcorr.functional.landing import Landing, to_positions
from vcorr.functional.paired_tokens import PairedTokens
from vcorr.functional.published_code import FieldLanding, RoundedCosts
from vcorr.functional.query_points import QueryTokens
from vcorr.functional.shared_sums import SharedSums
from vcorr.kernels.kernel_choice import give_up, takes
from vcorr.kernels.paths_used import note_path
from vcorr.kernels.segment_rows import SegmentRows, weigh_segments
from vcorr.kernels.token_matches import (
    WIDEST_WINDOW,
    WINDOW_WIDTH,
    Scores,
    Slots,
    Sums,
    Window,
    find_best,
    place_best,
    place_queries,
    read_tokens,
    refine_best,
)
from vcorr.kernels.token_rows import RowSums, write_rows
from vcorr.kernels.token_sums import merge_tokens, sum_frames

Result = TypeVar("Result")


def fuse_positions(
    costs: Costs | RoundedCosts, landing: Landing | FieldLanding, *, each: bool, with_mean: bool
) -> Tensor | None:
    """Computes the positions of the queries in all frames, in pixels, with the fused kernels.

    Returns (N, F, 2), or (S, N, F, 2) for `each` head; None where plain torch must compute.
    """
    if isinstance(costs, RoundedCosts) or not _can_read(costs, landing) or not takes(costs.q, costs.k):
        return None
    found = _attempt(lambda: _read_positions(costs, landing, Slots(each, with_mean)), costs.q.device)
    return found if found is None or each else found[0]


def _attempt(compute: Callable[[], Result], device: torch.device) -> Result | None:
    """Returns what the kernels compute; None if they fail, so that plain torch must compute."""
    try:
        found = compute()
    except torch.OutOfMemoryError:
        raise  # plain torch needs more
    except Exception as error:  # whatever the compiler or the driver raises: plain torch still computes
        give_up(error, device)
        return None
    note_path("fused")
    return found


def _can_read(costs: Costs, landing: Landing | FieldLanding) -> bool:
    """Says whether the kernels have this read-out; a second softmax makes ties that only its rounding decides."""
    if costs.second_softmax:
        return False
    radius = 0 if isinstance(landing, FieldLanding) else landing.radius
    return not radius or (radius <= WIDEST_WINDOW and costs.q.shape[-1] <= WINDOW_WIDTH)


def _read_positions(costs: Costs, landing: Landing | FieldLanding, slots: Slots) -> Tensor:
    """Returns (S, N, F, 2)."""
    q = merge_tokens(costs.q)
    k = q if costs.k is costs.q else merge_tokens(costs.k)
    points = costs.points
    scores = Scores(q, k, points.tokens, points.latent, costs.scale, costs.softmax, costs.symmetric)
    shared = _SharedScores(scores, costs.sums)
    sums = shared.sum_both() if costs.softmax else None
    keys = find_best(scores, sums, slots, shared.take_rows)
    if isinstance(landing, FieldLanding):
        return to_positions(place_best(keys, landing.positions, points.latent), points)
    found = place_queries(keys, landing.centres, points.tokens, points.latent, points.index, points.xy)
    if sums is not None and landing.radius:
        window = Window(landing.radius, *costs.q.shape[2:4])
        near = refine_best(scores, sums, read_tokens(keys), slots, window).index_select(1, points.index)
        near *= landing.stride
        found[:, :, : points.latent] += near[:, :, : points.latent]
        found[:, :, points.latent + 1 :] += near[:, :, points.latent :]
    return found


@dataclass(frozen=True)
class _SharedScores:
    """What several readers of one q and k need of the same scores; each is computed once."""

    scores: Scores
    shared: SharedSums

    def sum_forward(self) -> Tensor:
        what = ("fused, forward", self.scores.scale, self.scores.own)
        return self.shared.once(what, self.scores.sum_forward, of=self.scores.tokens)

    def sum_both(self) -> Sums:
        """Returns the sums of both directions, or of the one that is wanted."""
        forward, what = self.sum_forward(), ("fused, reverse", self.scores.scale, self.scores.own)
        return Sums(forward, self.shared.once(what, self.scores.sum_reverse) if self.scores.both else None)

    def take_rows(self) -> tuple[Tensor, Tensor]:
        return self.shared.once(("fused, rows", self.scores.own), self.scores.take_rows, of=self.scores.tokens)


def fuse_head_sums(costs: Costs, frames: Sequence[int]) -> Tensor | None:
    """Computes C of the query tokens with all other `frames`, (J, U, P), summed over heads, with the fused kernels.

    They write these rows, as they do for tracking. Returns None where plain torch must compute.
    """
    if not costs.softmax or costs.second_softmax or not takes(costs.q, costs.k):
        return None
    points, scale, symmetric = costs.points, costs.scale, costs.symmetric

    def compute() -> Tensor:
        site = PairedTokens.of(costs.q, costs.k, points.latent, frames, scale=scale, symmetric=symmetric)
        scores = Scores(site.left, site.right, points.tokens, points.latent, scale, symmetric=symmetric)
        sums = _SharedScores(scores, costs.sums).sum_both()
        left, right = site.take_frames()
        rows = RowSums(sums.forward, False, sums.reverse)
        return write_rows(left, right, points.tokens, rows, scale=scale, share=1.0)

    return _attempt(compute, costs.q.device)


def fuse_pair_rows(site: PairedTokens, tokens: Tensor, *, both: bool) -> Tensor | None:
    """Computes C of the frame's tokens (U,), (J, U, P), with the fused kernels; None where plain torch must compute.

    both: whether `fuse_back_rows` comes afterwards, which then shares all sums.
    """

    def compute() -> Tensor:
        left, right = site.take_frames()
        if both and site.symmetric:
            sums = RowSums(_forward_sums(site, left, right), True, _reverse_sums(site, left, right))
        else:
            few = sum_frames(left, right, own=0, scale=site.scale, tokens=tokens)
            sums = RowSums(few, False, _reverse_sums(site, left, right) if site.symmetric else None)
        return write_rows(left, right, tokens, sums, scale=site.scale, share=1 / site.terms)

    return _attempt(compute, site.left.device) if takes(site.left, site.right) else None


def fuse_back_rows(site: PairedTokens, tokens: Tensor) -> Tensor | None:
    """Computes C of tokens (J, U) of the other frames, (J, U, P), with the fused kernels; None as above."""

    def compute() -> Tensor:
        left, right = site.take_frames()
        columns = _forward_sums(site, left, right) if site.symmetric else None
        sums, at = RowSums(_reverse_sums(site, left, right), True, columns), tokens.contiguous()
        return write_rows(left, right, at, sums, scale=site.scale, share=1 / site.terms, back=True)

    return _attempt(compute, site.left.device) if takes(site.left, site.right) else None


def _forward_sums(site: PairedTokens, left: Tensor, right: Tensor) -> Tensor:
    if site.sums.forward is None:
        site.sums.forward = sum_frames(left, right, own=0, scale=site.scale)
    return site.sums.forward


def _reverse_sums(site: PairedTokens, left: Tensor, right: Tensor) -> Tensor:
    if site.sums.reverse is None:
        site.sums.reverse = sum_frames(left, right, own=0, scale=site.scale, moving_left=True)
    return site.sums.reverse


def fuse_rows(
    q: Tensor, k: Tensor, k_text: Tensor, points: QueryTokens, hidden: Tensor | None, sums: SharedSums | None
) -> tuple[Tensor, Tensor] | None:
    """Computes sums and peaks of attention per segment with the fused kernels; None where plain torch must compute.

    q, k: (H, F, h, w, d). k_text: (H, n, d). hidden: (n,) bool, True for text tokens to leave out. sums: of q and k.
    Returns sums and peaks, each (U, 1 + F): the text first, NaN without text.
    """
    if not takes(q, k, k_text):
        return None
    text = k_text if k_text.stride(-1) == 1 else k_text.contiguous()

    def compute() -> SegmentRows:
        scores = Scores(merge_tokens(q), merge_tokens(k), points.tokens, points.latent, q.shape[-1] ** -0.5)
        known = _SharedScores(scores, (sums or SharedSums()).of_heads(tuple(range(q.shape[0]))))
        return weigh_segments(scores, text, hidden=hidden, others=known.sum_forward(), take_rows=known.take_rows)

    rows = _attempt(compute, q.device)
    return None if rows is None else _without_text(rows, k_text, hidden)


def _without_text(rows: SegmentRows, k_text: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sets the text to NaN if there is none, or if all of it is hidden."""
    if not k_text.shape[1]:
        for values in rows:
            values[:, 0] = math.nan
    elif hidden is not None:
        for values in rows:
            values[:, 0].masked_fill_(hidden.all(), math.nan)
    return rows.sums, rows.peaks
