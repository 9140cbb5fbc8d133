"""The public functions for matching. They check their arguments; `matching` and `published_code` compute."""

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
    """Finds each query point in every latent frame by query-key attention.

    Frame 1 is the latent that covers the frame of the queries. It is matched with all other latents, before and after
    it. Per head, the forward softmax of q1(x)·kj(y) runs over the tokens y of the target frame j. The reverse softmax
    of qj(y)·k1(x) runs over the tokens x of frame 1. C(x, y) is half their sum, averaged over heads.

    The predicted position is query + centre(argmax of C(x*, ·)) - centre(x*), where x* is the token under the query. So
    the query keeps its offset inside the token. difftrack takes a second softmax of C in q's dtype. Its matches of all
    tokens form a field of integer positions, which it samples at the query, with a margin and with zeros outside.
    Source: DiffTrack (arXiv 2506.17220), section on matching, with its public code; docs/protocol.md.

    Args:
        q: (H, F, h, w, d), queries as they enter the attention product; float32, bfloat16 or float16. NaN or infinity
            in q or k makes the positions that depend on it NaN.
        k: (H, F, h, w, d), keys as they enter the attention product, on q's device.
        grid: the grid of the tokens, F x h x w.
        queries: (N, 2) raster pixels in `query_frame`, inside the frame; or `QueryPoints`. They are checked on the CPU.
            Keep them there in a hot loop: copying them back from a GPU waits for the GPU.
        query_frame: the video frame of the queries; `QueryPoints` know theirs.
        variant: "corrected", "difftrack" or `Switches` (`readout`, `second_softmax`, `scale`).
        symmetric: False leaves out the reverse softmax.
        heads: "mean" over all heads, one head, a tuple of heads for their mean, or "each" head by itself.
        radius: 0 predicts the centre of the best token; r > 0 the C-weighted mean of the centres within r tokens of it
            (Chebyshev distance). Only for the token read-out.
        scale: scale of the dot products; None for 1/sqrt(d). The published code's TAP-Vid path uses 1/sqrt(H).

    Returns:
        (N, F, 2), or (H, N, F, 2) for "each": float32 pixels on q's device. [..., j, :] is the query for the latent j
        that covers `query_frame`; j is 0 for frame 0.

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
    """Finds each query point in every latent frame by its token's features: one direction, raw dot product.

    The match in frame j is the argmax over y of f1(x*)·fj(y); a softmax would not change it. Positions are read out as
    in `match`. Source: DiffTrack (arXiv 2506.17220), its feature descriptor; docs/protocol.md. To treat features as
    queries and keys, split f into heads and call ``match(f, f, ...)``.

    Args:
        f: (F, h, w, c), float32, bfloat16 or float16.
        grid: the grid of the tokens, F x h x w.
        queries: (N, 2) raster pixels in `query_frame`, inside the frame; or `QueryPoints`.
        query_frame: the video frame of the queries; `QueryPoints` know theirs.
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
    """Interpolates positions at latent times to video frames: linear between the latents' centres, constant outside.

    The position of a latent holds at its centre; for the latent of the query, this position is the query. In addition
    the query frame itself gets the query, wherever it lies in its latent. difftrack stretches the latents over any
    number of frames instead. See docs/protocol.md; `vcorr.metrics.to_frames` does the same on numpy arrays.

    Args:
        xy: (N, F, 2) pixels at the grid's latent times, or (..., N, F, 2). NaN or infinity in a latent makes the frames
            that depend on it NaN.
        grid: says the times of the latents.
        queries: (N, 2) finite pixels in `query_frame`, on the CPU as for `match`; or `QueryPoints`. In corrected, the
            result in this frame is exactly the query; difftrack interpolates this frame as any other.
        query_frame: the video frame of the queries; `QueryPoints` know theirs.
        variant: "corrected", "difftrack" or `Switches` (`time_map`).
        video_frames: T, number of video frames; None for the grid's own.

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
