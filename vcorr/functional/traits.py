"""Cheap traits of an attention head, from the attention of the query tokens alone (docs/probes.md).

Shapes: U query tokens, F latent frames, P tokens of a frame, n text tokens, N query points, K traits.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.variants import Variant
from vcorr.functional.arguments import check_floats
from vcorr.functional.attention import TokenWeights, locate_rows, weigh_tokens, without_latent
from vcorr.functional.blocks import plain_precision
from vcorr.functional.query_points import QueryPoints

SINKS = 4
"""Number of tokens that count as sinks, as many as StreamingLLM keeps."""
STATES = 256
"""Most query tokens that the second eigenvalue takes into account, because its cost grows with their cube."""
DOUBLINGS = 9
"""How often the power of a transition matrix is doubled for its second eigenvalue."""


@torch.no_grad()
def head_traits(
    q: Tensor,
    k: Tensor,
    k_text: Tensor,
    grid: TokenGrid,
    queries: Tensor | ArrayLike | QueryPoints,
    *,
    query_frame: int = 0,
    variant: Variant = "corrected",
    key_mask: Tensor | None = None,
) -> Tensor:
    """Describes a head by where the attention of its query tokens goes.

    a(x, y) is the attention of query token x, a softmax over all tokens, text and video, averaged over the heads given.
    x is at place p of the query latent i. m_j is the sum of a(x, ·) over latent j, and d_j = a(x, place p of latent j).
    Sums over j leave out the query latent i. All values are in [0, 1]. In this order (`TRAITS`):

    own_frame: m_i / (m_i + sum of m_j), the share of the query's own latent in its attention to the video.
    temporal: D / (m_i + D) with D = sum of d_j, the same place in other latents against the own latent. Over 1/2 the
        head is temporal, under it spatial. Sparse VideoGen (arXiv 2502.01776) divides heads into these two classes; it
        compares the outputs under two masks, which needs the values as well, and this compares the attention.
    diagonal: D / sum of m_j, the share of the same place in the attention to other latents: the strength of the
        diagonals of the attention map (arXiv 2504.10317).
    smoothness: 1 - sum of |s_j' - s_j| / sum of (s_j' + s_j), for s_j = d_j / m_j and the next latent j'. 1 means that
        the diagonal is equally strong in all other latents, 0 that it comes and goes. After TeDiO (arXiv 2605.14136),
        which calls generated motion coherent where temporal diagonals are smooth.
    sinks: the attention to the 4 tokens, text or video, that get most attention of all query tokens together. After
        StreamingLLM (arXiv 2309.17453), which keeps 4 sinks; for video models arXiv 2504.10317.
    second_eigenvalue: size of the second largest eigenvalue of the map of the query tokens to each other, each row
        divided by its sum; the same for all points. Near 1, attention falls apart into groups of tokens that keep to
        themselves; near 0, all tokens attend to the same places. Erel et al. (arXiv 2507.17657) weight heads by it. At
        most `STATES` query tokens are used, evenly chosen in order of their places.

    Args:
        q: (H, F, h, w, d), queries as they enter the attention product. For one head, pass q[a : a + 1].
        k: (H, F, h, w, d), keys of the video tokens.
        k_text: (H, n, d), keys of the text tokens; n may be 0.
        grid: the grid of the tokens, F x h x w.
        queries: (N, 2) raster pixels in `query_frame`, inside the frame; or `QueryPoints`.
        query_frame: the video frame of the queries; `QueryPoints` know theirs.
        variant: as for `attention_rows` (`lookup`, `pooling`).
        key_mask: (n,) bool, True for real text tokens, False for padding, which is left out; None if all are real.

    Returns:
        (N, 6) float32 on q's device. NaN where a trait does not exist: no attention to other latents (diagonal), fewer
        than two of them or nothing on the diagonal (smoothness).

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    check_floats("q", q)
    points = locate_rows(grid, queries, q.device, query_frame=query_frame, variant=variant)
    return traits_of(weigh_tokens(q, k, k_text, grid, points, variant=variant, key_mask=key_mask))


def traits_of(weights: TokenWeights) -> Tensor:
    """Computes the traits of `head_traits` from attention weights, (N, K), without waiting for the device."""
    points = weights.points
    with plain_precision(weights.video.device):
        own, mass = weights.own.sum(1), weights.others.sum(2)
        places = points.tokens[:, None, None].expand(-1, weights.video.shape[1], 1)
        along = without_latent(weights.video.gather(2, places)[..., 0], points.latent)
        cross, diagonal = mass.sum(1), along.sum(1)
        eigenvalue = second_eigenvalue(_map_to_each_other(weights))
        values = {
            "own_frame": own / (own + cross),
            "temporal": diagonal / (own + diagonal),
            "diagonal": diagonal / cross,
            "smoothness": _smoothness(along, mass),
            "sinks": _sinks(weights),
            "second_eigenvalue": eigenvalue.expand(len(own)),
        }
    found = torch.stack([values[name] for name in TRAITS], dim=-1).clamp(0, 1)  # sums of floats round
    return found.index_select(0, points.index)


def second_eigenvalue(transitions: Tensor) -> Tensor:
    """Computes the size of the second largest eigenvalue of row-stochastic matrices, in [0, 1].

    Without its column means a matrix keeps all eigenvalues but the largest, 1. The largest that is left is the growth
    of the norm from one power of the matrix to the double of it (Gelfand's formula). Doubling the power squares a
    matrix, so a few products suffice. It needs no decomposition, for which a GPU would have to be waited for.

    Args:
        transitions: (U, U), or several as (..., U, U); rows sum to 1.

    Returns:
        (...), of the dtype of the matrices; 0 for a single state.
    """
    logarithm = transitions.new_zeros(transitions.shape[:-2])
    if not transitions.shape[-1]:
        return logarithm
    power = transitions - transitions.mean(dim=-2, keepdim=True)
    growth, alive = logarithm, torch.ones_like(logarithm)
    for doubling in range(DOUBLINGS + 1):
        size = torch.linalg.matrix_norm(power)
        alive = alive * (size > 0)
        size = size.where(size > 0, 1.0)
        power = power / size[..., None, None]
        # power times exp(logarithm) is the 2^doubling-th power of the matrix
        before, logarithm = logarithm / 2, logarithm + size.log()
        if doubling:
            growth = (logarithm - before) / 2 ** (doubling - 1)
        if doubling < DOUBLINGS:
            power, logarithm = power @ power, 2 * logarithm
    return (growth.exp() * alive).clamp(0, 1)


def _smoothness(along: Tensor, mass: Tensor) -> Tensor:
    """Returns how evenly the diagonal runs over time, (U,). along, mass: (U, F - 1), at the same place and in all."""
    strength = along / mass.clamp_min(torch.finfo(mass.dtype).smallest_normal)
    before, after = strength[:, :-1], strength[:, 1:]
    return 1 - (after - before).abs().sum(1) / (after + before).sum(1)


def _sinks(weights: TokenWeights) -> Tensor:
    """Returns the attention to the tokens that all query tokens together attend to most, (U,)."""
    rows = torch.cat([weights.text, weights.video.flatten(1)], dim=1)
    most = rows.mean(0).topk(min(SINKS, rows.shape[1])).indices
    return rows.index_select(1, most).sum(1)


def _map_to_each_other(weights: TokenWeights) -> Tensor:
    """Returns the transitions between query tokens, (U', U') with rows of sum 1.

    A token that attends to no query token goes anywhere, as a page without links does in PageRank. A token that several
    rows have (`Switches.lookup`) is shared among them, which only adds eigenvalues of 0.
    """
    tokens = weights.points.tokens
    some = slice(None, None, -(-len(tokens) // STATES) or 1)
    states = tokens[some]
    share = weights.own[some].index_select(1, states) / (states[:, None] == states).sum(1)
    total = share.sum(1, keepdim=True)
    share = share.where(total > 0, 1.0)
    return share / share.sum(1, keepdim=True)
