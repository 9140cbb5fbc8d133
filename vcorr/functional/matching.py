"""Matching (docs/protocol.md), for queries that were checked before.

Plain torch is the reference. Where the fused kernels run (`vcorr.kernels.kernel_choice`), they compute the same, up to
rounding. Nothing here waits for the device or branches on a tensor's values. Plain torch builds its intermediate
matrices block by block, so the extra memory stays under 300 MB, whatever the number of heads and tokens. All arithmetic
is float32, except in the published code's variant (`vcorr.functional.published_code`).

Shapes: A heads that take part, U distinct query tokens, P = h*w tokens of a frame, d width of a head. "Frame 1" is the
latent that holds the query tokens, whichever it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid, is_positive
from vcorr.contract.variants import Switches, Variant, switches_of
from vcorr.functional.arguments import check_floats
from vcorr.functional.blocks import MEAN, Piece, check_tokens, plain_precision, row_slices
from vcorr.functional.correlation import Costs
from vcorr.functional.fused_path import fuse_head_sums, fuse_positions
from vcorr.functional.head_shares import WHOLE, HeadShare
from vcorr.functional.landing import Landing, make_landing, to_positions
from vcorr.functional.published_code import FieldLanding, RoundedCosts
from vcorr.functional.query_points import QueryTokens
from vcorr.functional.shared_sums import SharedSums

Heads = Literal["mean", "each"] | int | Sequence[int]


@dataclass(frozen=True)
class Reading:
    """One way to read positions from q and k.

    points: the queries, looked up for this variant (`vcorr.functional.query_points.locate_queries`).
    scale: scale of the dot products; None for the variant's own.
    """

    points: QueryTokens
    variant: Variant = "corrected"
    scale: float | None = None


def match_tokens(
    q: Tensor,
    k: Tensor,
    grid: TokenGrid,
    points: QueryTokens,
    *,
    symmetric: bool = True,
    heads: Heads = "mean",
    radius: int = 0,
    scale: float | None = None,
    variant: Variant = "corrected",
    with_mean: bool = False,
) -> Tensor:
    """Computes `vcorr.functional.match` for queries that were looked up for the same variant.

    It does not wait for the device. with_mean: "each" returns (H + 1, N, F, 2), with the mean over all heads last. So
    index -1 is the mean, as in every table, and one pass computes both.

    Raises:
        UsageError: q, k or an option cannot be used; the message names it.
    """
    reading = Reading(points, variant, scale)
    return match_readings(q, k, grid, [reading], symmetric=symmetric, heads=heads, radius=radius, with_mean=with_mean)[
        0
    ]


def match_readings(
    q: Tensor,
    k: Tensor,
    grid: TokenGrid,
    readings: Sequence[Reading],
    *,
    symmetric: bool = True,
    heads: Heads = "mean",
    radius: int = 0,
    with_mean: bool = False,
    sums: SharedSums | None = None,
    share: HeadShare = WHOLE,
) -> list[Tensor]:
    """Computes `match_tokens` for several readings of one q and k; each result equals the single one to the bit.

    The sums of the reverse softmax over whole frames do not depend on the query points. They are computed once per
    scale and latent of the queries. In half precision difftrack shares nothing, because it rounds intermediate results.

    sums: of q and k, which other calls with the same two tensors share as well; None for this call alone.
    share: which heads q and k hold. With a share of the heads, `heads` is "mean", over the heads of all processes, and
    no variant has a second softmax.

    Raises:
        UsageError: q, k or an option cannot be used; the message names it.
    """
    check_tokens("q", q, grid)
    check_tokens("k", k, grid)
    if k.shape != q.shape or k.device != q.device:
        raise UsageError(f"k: expected q's shape {tuple(q.shape)} on {q.device}, got {tuple(k.shape)} on {k.device}.")
    chosen = choose_heads(heads, q.shape[0])
    radius = _check_radius(radius)
    read_q = pick_heads(q, chosen)
    read_k = read_q if k is q else pick_heads(k, chosen)
    shared = (SharedSums() if sums is None else sums).of_heads(chosen)
    found = []
    for reading in readings:
        switches = switches_of(reading.variant)
        scale = resolve_scale(reading.scale, q, switches, share)
        costs = _costs(read_q, read_k, reading.points, symmetric, scale, switches, shared)
        landing = make_landing(grid, reading.points, radius, q.device)
        with plain_precision(q.device):
            wanted = {"each": heads == "each", "with_mean": with_mean or heads != "each"}
            found.append(_read_positions(costs, landing, share, **wanted))
    return found


def match_feature_tokens(
    f: Tensor, grid: TokenGrid, points: QueryTokens, *, variant: Variant = "corrected", share: HeadShare = WHOLE
) -> Tensor:
    """Computes `vcorr.functional.match_features` for queries that were looked up; does not wait for the device.

    share: which heads the channels of f are; products add up over the channels of all processes.

    Raises:
        UsageError: f does not fit the grid.
    """
    check_floats("f", f)
    check_grid(grid)
    if f.ndim != 4 or f.shape[:3] != (grid.frames, grid.rows, grid.cols) or not f.shape[3]:
        raise UsageError(
            f"f: expected shape (F, h, w, c) with ({grid.frames}, {grid.rows}, {grid.cols}) first, got "
            f"{tuple(f.shape)}."
        )
    # one head, one direction, no scaling
    if switches_of(variant).second_softmax:
        costs: Costs | RoundedCosts = RoundedCosts(f[None], f[None], points, symmetric=False, scale=1.0)
    else:  # the softmax is monotonic, so its argmax is the largest dot product
        costs = Costs(f[None], f[None], points, symmetric=False, scale=1.0, softmax=False)
    landing = make_landing(grid, points, 0, f.device)
    with plain_precision(f.device):
        return _read_positions(costs, landing, share, each=False, with_mean=True)


def match_joined_heads(
    out: Tensor,
    grid: TokenGrid,
    points: QueryTokens,
    *,
    variant: Variant = "corrected",
    sums: SharedSums | None = None,
    share: HeadShare = WHOLE,
) -> Tensor:
    """Computes `match_feature_tokens` of features whose heads lie side by side; does not wait for the device.

    Products add up over heads, so the fused kernels read the heads where they lie. Plain torch copies them together.

    out: (H, F, h, w, d). sums: of out with itself, as for `match_readings`. share: which heads these are.

    Raises:
        UsageError: out does not fit the grid.
    """
    check_tokens("out", out, grid)
    if share.processes == 1 and not switches_of(variant).second_softmax:
        shared = (SharedSums() if sums is None else sums).of_heads(tuple(range(out.shape[0])))
        costs = Costs(out, out, points, symmetric=False, scale=1.0, softmax=False, sums=shared)
        found = fuse_positions(costs, make_landing(grid, points, 0, out.device), each=False, with_mean=True)
        if found is not None:
            return found
    return match_feature_tokens(join_heads(out), grid, points, variant=variant, share=share)


def join_heads(out: Tensor) -> Tensor:
    """Reshapes (H, F, h, w, d) to features (F, h, w, H*d), the heads side by side."""
    return out.permute(1, 2, 3, 0, 4).flatten(3)


def choose_heads(heads: Heads, count: int) -> tuple[int, ...]:
    """Returns the indices, among `count` heads, of the heads that `heads` ("mean", "each", an int or ints) means.

    Raises:
        UsageError: the word is unknown, there is no head, or a head is given twice or does not exist.
    """
    if isinstance(heads, str):
        if heads not in ("mean", "each"):
            raise UsageError(f"heads: expected 'mean', 'each', a head or a tuple of heads, got {heads!r}.")
        return tuple(range(count))
    chosen = _indices(heads)
    if not chosen:
        raise UsageError(f"heads: expected 'mean', 'each', a head or a tuple of heads, got {heads!r}.")
    if len(set(chosen)) != len(chosen):
        raise UsageError(f"heads: {chosen} names a head twice.")
    if min(chosen) < 0 or max(chosen) >= count:
        raise UsageError(f"heads: {heads!r} is out of range: there are {count} heads, 0 to {count - 1}.")
    return chosen


def _indices(heads: int | Sequence[int]) -> tuple[int, ...]:
    """Returns head indices as a tuple; an empty one if a value is not an index."""
    several = heads if isinstance(heads, Sequence) else (heads,)
    if any(isinstance(head, bool) or not isinstance(head, (int, np.integer)) for head in several):
        return ()
    return tuple(int(head) for head in several)


def _costs(
    q: Tensor,
    k: Tensor,
    points: QueryTokens,
    symmetric: bool,
    scale: float,
    switches: Switches,
    sums: SharedSums,
) -> Costs | RoundedCosts:
    if switches.second_softmax and q.dtype != torch.float32:
        return RoundedCosts(q, k.to(q.dtype), points, symmetric, scale)
    return Costs(q, k, points, symmetric, scale, second_softmax=switches.second_softmax, sums=sums)


def _read_positions(
    costs: Costs | RoundedCosts, landing: Landing | FieldLanding, share: HeadShare, *, each: bool, with_mean: bool
) -> Tensor:
    """Returns the positions of the queries that the landing reads from C, in pixels.

    The shape is (N, F, 2) for the mean over heads and (A, N, F, 2) for `each` head. `with_mean` adds the mean to the
    heads as the last one. A share of the heads has the mean alone.
    """
    tokens, own, frames = costs.points.tokens, costs.points.latent, costs.q.shape[1]
    others = [frame for frame in range(frames) if frame != own]
    if share.processes > 1:
        assert isinstance(costs, Costs)
        pieces = _add_heads(costs, others, share)
    else:
        fused = fuse_positions(costs, landing, each=each, with_mean=with_mean)
        if fused is not None:
            return fused
        pieces = ((frame, piece) for frame in others for piece in costs.pieces(frame, each=each, with_mean=with_mean))
    lead = (costs.heads + with_mean,) if each else ()
    out = torch.zeros(*lead, len(tokens), frames, 2, dtype=torch.float32, device=costs.q.device)
    for frame, (a, x, cost) in pieces:
        target = out[a] if each else out
        target[..., x, frame, :] = landing.offsets(cost, tokens[x])
    return to_positions(out, costs.points)


def _add_heads(costs: Costs, frames: Sequence[int], share: HeadShare) -> Iterator[tuple[int, Piece]]:
    """Yields C of all query tokens with each frame, summed over the heads of all processes.

    The processes add up as many query tokens at once as fit in a block, with all frames.
    """
    tokens, width = costs.points.tokens, costs.q.shape[2] * costs.q.shape[3]
    slices = row_slices(len(tokens), len(frames) * width) if frames else []
    for x in slices:
        # the whole tokens are one object, by which several probes share sums
        own = costs if len(slices) == 1 else replace(costs, points=replace(costs.points, tokens=tokens[x]))
        for frame, cost in zip(frames, share.add(_sum_heads(own, frames)), strict=True):
            yield frame, (MEAN, x, cost)


def _sum_heads(costs: Costs, frames: Sequence[int]) -> Tensor:
    """Returns C of the query tokens with all other frames, (J, U, P), summed over the heads of this process."""
    fused = fuse_head_sums(costs, frames)
    if fused is not None:
        return fused
    width = costs.q.shape[2] * costs.q.shape[3]
    found = costs.q.new_empty(len(frames), len(costs.points.tokens), width, dtype=torch.float32)
    for own, frame in zip(found, frames, strict=True):
        for _, x, cost in costs.pieces(frame, each=False, with_mean=True):
            own[x] = cost
    return found


def pick_heads(tensor: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """Returns the chosen heads of a tensor (H, ...), ascending neighbours as a view."""
    first, last = chosen[0], chosen[-1]
    if chosen == tuple(range(first, last + 1)):
        return tensor[first : last + 1]
    return torch.stack([tensor[head] for head in chosen])  # indexing with a list waits for the device


def _check_radius(radius: int) -> int:
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise UsageError(f"radius: expected a whole number of tokens of at least 0, got {radius!r}.")
    return radius


def resolve_scale(scale: float | None, q: Tensor, switches: Switches, share: HeadShare = WHOLE) -> float:
    """Returns the scale of the dot products of q (H, ..., d): the given one, or the one that the switches say.

    share: which heads q holds; the switches may count the heads of all processes.

    Raises:
        UsageError: the given scale is no positive number.
    """
    if scale is None:
        return float((q.shape[-1] if switches.scale == "width" else q.shape[0] * share.processes) ** -0.5)
    if not is_positive(scale) or scale > torch.finfo(torch.float32).max:
        raise UsageError(f"scale: expected a positive number of float32 or None for 1/sqrt(d), got {scale!r}.")
    return float(scale)
