"""Carries labels from context frames to another frame along affinities of tokens, as papers on backbones do.

The protocol is the one of CRW (arXiv 2006.14613) and DINO (arXiv 2104.14294) on DAVIS-17. A token takes its labels from
the `top_k` most similar tokens of all context frames, within a square around its own place. The labels are weighted by
a softmax of the similarities. Two points differ. Heads are averaged after the softmax, as everywhere in vcorr. A token
of the first frame has the share of each label among its pixels, and not the label of one pixel.

Shape legend: H heads, C context frames, h x w tokens of a frame, P = h*w, U some of these tokens, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vcorr.contract.errors import UsageError
from vcorr.contract.probe_protocols import TokenCosts
from vcorr.functional.arguments import check_floats
from vcorr.functional.blocks import plain_precision, row_slices
from vcorr.functional.token_costs import MatchedTokens


@torch.no_grad()
def propagate_labels(
    costs: Sequence[TokenCosts],
    labels: Tensor,
    context: Sequence[int],
    target: int,
    *,
    radius: int = 12,
    top_k: int = 5,
) -> Tensor:
    """Returns the labels of one frame, from the labels of others.

    The affinity of token y to token x of a context frame is a softmax over all allowed tokens x of all context frames.
    It is averaged over the heads, over both directions, q(y)·k(x) and k(y)·q(x), and over the sites. Tokens that are
    not compared by dot products have the correlation of `TokenCosts.rows` as their affinity.

    Args:
        costs: what a probe matches at one site, or at several.
        labels: (C, K, h, w), share of each label in each token of the context frames.
        context: numbers of the C context frames, among the latent frames of the costs.
        target: number of the frame whose labels are wanted.
        radius: labels come from at most so many rows and columns away; 0 for the whole frame.
        top_k: number of tokens that give labels, over all context frames together.

    Returns:
        (K, h, w) float32, a weighted mean of the labels of `top_k` tokens.

    Raises:
        UsageError: a shape does not fit, or a number is out of range.
    """
    _check(costs, labels, context, radius, top_k)
    rows, cols = labels.shape[2:]
    given = labels.float().permute(0, 2, 3, 1).flatten(0, 2)  # (C*P, K)
    found = []
    with plain_precision(labels.device):
        for y in row_slices(rows * cols, len(given)):
            tokens = torch.arange(rows * cols, device=labels.device)[y]
            allowed = _find_neighbours(rows, cols, radius, tokens).repeat(1, len(context))
            affinity = sum(_affinity(cost, tokens, context, target, allowed) for cost in costs)
            assert isinstance(affinity, Tensor)
            found.append(_take_labels(affinity, given, top_k))
    return torch.cat(found).T.reshape(-1, rows, cols)


def share_labels(masks: Tensor, rows: int, cols: int) -> Tensor:
    """Returns the share of each label in each token, (K, rows, cols) float32. masks: (K, H, W) bool, one per label."""
    return functional.adaptive_avg_pool2d(masks.float()[None], (rows, cols))[0]


def enlarge_labels(labels: Tensor, height: int, width: int, *, stretch: bool = True) -> Tensor:
    """Returns the index of the strongest label at every pixel, (height, width) int64; of equal ones, the first.

    labels: (K, h, w) shares, which are enlarged bilinearly. stretch: scales every label to 0 to 1 over the frame first.
    So a label that is weak everywhere keeps the places where it is strongest.
    """
    shares = functional.interpolate(labels[None], (height, width), mode="bilinear", align_corners=False)[0]
    if stretch:
        least, most = shares.amin(dim=(1, 2), keepdim=True), shares.amax(dim=(1, 2), keepdim=True)
        span = most - least
        shares = torch.where(span > 0, (shares - least) / span.where(span > 0, 1.0), shares)
    return shares.argmax(dim=0)


def _take_labels(affinity: Tensor, given: Tensor, top_k: int) -> Tensor:
    """Returns the weighted labels (U, K) of the sources with the largest affinity (U, C*P). given: (C*P, K)."""
    weights, sources = affinity.topk(min(top_k, affinity.shape[1]), dim=1)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return (weights[..., None] * given[sources]).sum(dim=1)


def _affinity(cost: TokenCosts, tokens: Tensor, context: Sequence[int], target: int, allowed: Tensor) -> Tensor:
    """Returns the affinities of the target's `tokens` (U,) to all tokens of the context frames, (U, C*P)."""
    if isinstance(cost, MatchedTokens):
        return _softmax_affinity(cost, tokens, context, target, ~allowed)
    rows = [cost.rows(tokens, source=target, target=frame).float() for frame in context]
    return torch.cat(rows, dim=1).where(allowed, 0.0)


def _softmax_affinity(
    cost: MatchedTokens, tokens: Tensor, context: Sequence[int], target: int, blocked: Tensor
) -> Tensor:
    left, right = cost.left, cost.right
    both = cost.symmetric and left is not right
    pairs = [(left, right), (right, left)] if both else [(left, right)]
    total = torch.zeros(blocked.shape, dtype=torch.float32, device=blocked.device)
    for head in range(len(left)):
        for own, others in pairs:
            mine = own[head, target].flatten(0, 1).index_select(0, tokens).float()
            theirs = torch.cat([others[head, frame].flatten(0, 1) for frame in context]).float()
            logits = (mine @ theirs.T).mul_(cost.scale)
            total += torch.softmax(logits.masked_fill_(blocked, -torch.inf), dim=1)
    return total.div_(len(left) * len(pairs))


def _find_neighbours(rows: int, cols: int, radius: int, tokens: Tensor) -> Tensor:
    """Returns which tokens of a frame may give labels to `tokens` (U,), (U, P)."""
    others = torch.arange(rows * cols, device=tokens.device)
    if not radius:
        return torch.ones(len(tokens), len(others), dtype=torch.bool, device=tokens.device)
    near_row = (tokens[:, None] // cols - others // cols).abs() <= radius
    near_col = (tokens[:, None] % cols - others % cols).abs() <= radius
    return near_row & near_col


def _check(costs: Sequence[TokenCosts], labels: Tensor, context: Sequence[int], radius: int, top_k: int) -> None:
    check_floats("labels", labels)
    if not costs or not len(context):
        raise UsageError("Labels are carried from at least one frame, by the costs of at least one site.")
    if labels.ndim != 4 or len(labels) != len(context) or 0 in labels.shape:
        raise UsageError(f"labels: expected (C, K, h, w) for {len(context)} context frames, got {tuple(labels.shape)}.")
    for cost in costs:
        grid = cost.left.shape[2:4] if isinstance(cost, MatchedTokens) else labels.shape[2:]
        if grid != labels.shape[2:]:
            raise UsageError(
                f"labels: expected {grid[0]} x {grid[1]} tokens per frame, got {labels.shape[2]} x {labels.shape[3]}."
            )
    if radius < 0 or top_k < 1:
        raise UsageError(f"radius must be at least 0 and top_k at least 1, got {radius} and {top_k}.")
