"""Matching: the public functions check their arguments, the arithmetic is in `matching` and `difftrack`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.variants import Variant, switches_of
from vcorr.functional.arguments import check_floats, host_numbers
from vcorr.functional.matching import Heads, match_feature_tokens, match_tokens
from vcorr.functional.query_points import QueryPoints, as_points, locate_queries, query_points, upload
from vcorr.metrics.query_frames import query_frames
from vcorr.metrics.timemap import check_latent_tracks, frame_map


@torch.no_grad()
def match(
    q: Tensor,
    k: Tensor,
    grid: TokenGrid,
    queries: Tensor | ArrayLike | QueryPoints,
    *,
    query_frame: int = 0,
    variant: Variant = "corrected",
    symmetric: bool = True,
    heads: Heads = "mean",
    radius: int = 0,
    scale: float | None = None,
) -> Tensor:
    """Where query-key attention finds each query point in every latent frame.

    Frame 1 is the latent that covers the frame of the queries, which runs to all others, before and after it. Per head,
    the forward softmax runs over the tokens y of the target frame j of q1(x)·kj(y), the reverse one over the tokens x
    of frame 1 of qj(y)·k1(x); C(x, y) is the mean over heads of half their sum. The answer is
    query + centre(argmax of C(x*, ·)) - centre(x*), x* the token under the query: the place inside the token is kept.
    difftrack takes a second softmax of C in q's dtype and samples the field of the integer positions of all tokens'
    matches at the query, with a margin and with zeros outside.
    Source: DiffTrack (arXiv 2506.17220), section on matching, with its public code; docs/protocol.md.

    Args:
        q: (H, F, h, w, d) queries as they enter the attention product, float32, bfloat16 or float16. NaN or infinity in
            q or k makes the answers it reaches NaN.
        k: keys, likewise, of q's shape and on its device.
        grid: the tokens' grid, F x h x w.
        queries: (N, 2) raster pixels in `query_frame`, inside the frame; or `QueryPoints`. Checked on the CPU: keep
            them there in a hot loop, queries on a GPU are copied back, which waits for it.
        query_frame: the video frame the queries are in; `QueryPoints` know theirs.
        variant: "corrected", "difftrack" or `Switches` (`readout`, `second_softmax`, `scale`).
        symmetric: False leaves the reverse softmax out.
        heads: "mean" over all, one head, a tuple of heads (their mean), or "each" by itself.
        radius: 0 answers with the best token's centre; r > 0 with the C-weighted mean of the centres within r tokens of
            it (Chebyshev). Token read-out only.
        scale: of the dot products; None means 1/sqrt(d). The published code's TAP-Vid path has 1/sqrt(H).

    Returns:
        (N, F, 2), or (H, N, F, 2) for "each": float32 pixels on q's device; [..., j, :] is the query for the latent j
        that covers `query_frame`, which is 0 for frame 0.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    check_floats("q", q)
    points = locate_queries(grid, queries, q.device, query_frame=query_frame, variant=variant)
    return match_tokens(
        q, k, grid, points, symmetric=symmetric, heads=heads, radius=radius, scale=scale, variant=variant
    )


@torch.no_grad()
def match_features(
    f: Tensor,
    grid: TokenGrid,
    queries: Tensor | ArrayLike | QueryPoints,
    *,
    query_frame: int = 0,
    variant: Variant = "corrected",
) -> Tensor:
    """Where the features of each query point's token are found in every latent frame: one way, raw dot product.

    The match in frame j is the argmax over y of f1(x*)·fj(y) (a softmax would not change it); the read-out is that of
    `match`. Source: DiffTrack (arXiv 2506.17220), its feature descriptor; docs/protocol.md. For features with the
    same treatment as queries and keys, split f into heads and call ``match(f, f, ...)``.

    Args:
        f: (F, h, w, c), float32, bfloat16 or float16.
        grid: the tokens' grid, F x h x w.
        queries: (N, 2) raster pixels in `query_frame`, inside the frame; or `QueryPoints`.
        query_frame: the video frame the queries are in; `QueryPoints` know theirs.
        variant: "corrected", "difftrack" or `Switches` (`readout`, `second_softmax`).

    Returns:
        (N, F, 2) float32 pixels on f's device; [:, j] is the query for the latent j that covers `query_frame`.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    check_floats("f", f)
    points = locate_queries(grid, queries, f.device, query_frame=query_frame, variant=variant)
    return match_feature_tokens(f, grid, points, variant=variant)


@torch.no_grad()
def latent_to_frames(
    xy: Tensor | ArrayLike,
    grid: TokenGrid,
    queries: Tensor | ArrayLike | QueryPoints,
    *,
    query_frame: int = 0,
    variant: Variant = "corrected",
    video_frames: int | None = None,
) -> Tensor:
    """Positions at latent times brought to frames: linear between the latents' centres, held outside them.

    The latent of the query holds the query at its centre, as the others hold their match; only the query frame itself
    is pinned, wherever in that latent it is. difftrack stretches the latents over the frames instead, any number of
    them. docs/protocol.md; `vcorr.metrics.to_frames` is the same on numpy arrays.

    Args:
        xy: (N, F, 2) pixels at the grid's latent times, or (..., N, F, 2). NaN or infinity in a latent makes the frames
            it reaches NaN.
        grid: gives the latents' times.
        queries: (N, 2) finite pixels in `query_frame`, kept on the CPU as for `match`; or `QueryPoints`. That frame of
            the result repeats them exactly in corrected; difftrack reads it off the latents like any other.
        query_frame: the video frame the queries are in; `QueryPoints` know theirs.
        variant: "corrected", "difftrack" or `Switches` (`time_map`).
        video_frames: T; the grid's own when None.

    Returns:
        (..., N, T, 2) float32 pixels on xy's device.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    switches = switches_of(variant)
    positions, asked = _latent_positions(xy), query_points(queries, query_frame)
    points = as_points(asked)
    check_latent_tracks(tuple(positions.shape), points.shape, grid)
    if not np.isfinite(points).all():
        raise UsageError("queries: NaN or infinite.")
    device = positions.device
    times = frame_map(grid, video_frames, variant=switches)
    query_frames(asked.frame, len(points), len(times.before))  # refuses a frame beyond the video
    start, end = (positions.index_select(-2, upload(side, device)) for side in (times.before, times.after))
    tracks = start + upload(times.fraction.astype(np.float32), device)[:, None] * (end - start)
    if switches.time_map == "centres":
        tracks[..., asked.frame, :] = upload(points, device)
    return tracks


def _latent_positions(xy: Tensor | ArrayLike) -> Tensor:
    if not isinstance(xy, Tensor):
        return upload(host_numbers("xy", xy, "(N, F, 2)").astype(np.float32), "cpu")
    real = xy if xy.is_floating_point() or xy.is_complex() else xy.float()
    check_floats("xy", real)
    return real.float()
