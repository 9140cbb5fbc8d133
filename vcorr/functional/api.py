"""The public functions: arguments are checked here, the arithmetic is in `matching` and `vcorr.metrics`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vcorr.errors import UsageError
from vcorr.functional.matching import Heads, match_feature_tokens, match_tokens
from vcorr.functional.queries import as_points, locate_queries, upload
from vcorr.geometry import TokenGrid
from vcorr.metrics.accuracy import accuracy
from vcorr.metrics.timemap import check_latent_tracks, frame_map
from vcorr.metrics.variants import check_variant


@torch.no_grad()
def match(
    q: Tensor,
    k: Tensor,
    grid: TokenGrid,
    queries: Tensor | ArrayLike,
    *,
    variant: str = "corrected",
    symmetric: bool = True,
    heads: Heads = "mean",
    radius: int = 0,
    scale: float | None = None,
) -> Tensor:
    """Where query-key attention finds each query point of frame 0 in every latent frame.

    Per head, the forward softmax runs over the tokens y of the target frame j of q1(x)·kj(y), the reverse one over the
    tokens x of frame 1 of qj(y)·k1(x); C(x, y) is the mean over heads of half their sum. The answer is
    query + centre(argmax of C(x*, ·)) - centre(x*), x* the token under the query: the place inside the token is kept.
    Source: DiffTrack (arXiv 2506.17220), section on matching, with its public code; PROTOCOL section 3.

    Args:
        q: (H, F, h, w, d) queries as they enter the attention product, float32, bfloat16 or float16. NaN or infinity in
            q or k makes the answers it reaches NaN.
        k: keys, likewise, of q's shape and on its device.
        grid: the tokens' grid, F x h x w.
        queries: (N, 2) raster pixels in frame 0, inside the frame. Checked on the CPU: keep them there in a hot loop,
            queries on a GPU are copied back, which waits for it.
        variant: "corrected".
        symmetric: False leaves the reverse softmax out.
        heads: "mean" over all, one head, a tuple of heads (their mean), or "each" by itself.
        radius: 0 answers with the best token's centre; r > 0 with the C-weighted mean of the centres within r tokens of
            it (Chebyshev).
        scale: of the dot products; None means 1/sqrt(d).

    Returns:
        (N, F, 2), or (H, N, F, 2) for "each": float32 pixels on q's device; [..., 0, :] is the query.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    check_variant(variant, "match")
    if not isinstance(q, Tensor):
        raise UsageError(f"q: expected a floating point torch tensor, got {type(q).__name__}.")
    points = locate_queries(grid, queries, q.device)
    return match_tokens(q, k, grid, points, symmetric=symmetric, heads=heads, radius=radius, scale=scale)


@torch.no_grad()
def match_features(f: Tensor, grid: TokenGrid, queries: Tensor | ArrayLike, *, variant: str = "corrected") -> Tensor:
    """Where the features of each query point's token are found in every latent frame: one way, raw dot product.

    The match in frame j is the argmax over y of f1(x*)·fj(y) (a softmax would not change it); the read-out is that of
    `match`. Source: DiffTrack (arXiv 2506.17220), its feature descriptor; PROTOCOL section 3. For features with the
    same treatment as queries and keys, split f into heads and call ``match(f, f, ...)``.

    Args:
        f: (F, h, w, c), float32, bfloat16 or float16.
        grid: the tokens' grid, F x h x w.
        queries: (N, 2) raster pixels in frame 0, inside the frame.
        variant: "corrected".

    Returns:
        (N, F, 2) float32 pixels on f's device; [:, 0] is the query.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    check_variant(variant, "match_features")
    if not isinstance(f, Tensor):
        raise UsageError(f"f: expected a floating point torch tensor, got {type(f).__name__}.")
    return match_feature_tokens(f, grid, locate_queries(grid, queries, f.device))


@torch.no_grad()
def latent_to_frames(
    xy: Tensor | ArrayLike,
    grid: TokenGrid,
    queries: Tensor | ArrayLike,
    *,
    variant: str = "corrected",
    video_frames: int | None = None,
) -> Tensor:
    """Positions at latent times brought to frames: linear between the latents' centres, held outside them.

    PROTOCOL section 1. `vcorr.metrics.to_frames` is the same on numpy arrays.

    Args:
        xy: (N, F, 2) pixels at the grid's latent times, or (..., N, F, 2).
        grid: gives the latents' times.
        queries: (N, 2) pixels in frame 0, which frame 0 of the result repeats exactly.
        variant: "corrected".
        video_frames: T; the grid's own when None.

    Returns:
        (..., N, T, 2) float32 pixels on xy's device.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    check_variant(variant, "latent_to_frames")
    positions = xy.float() if isinstance(xy, Tensor) else upload(np.asarray(xy, dtype=np.float32), "cpu")
    device = positions.device
    points = (
        queries.detach().to(device, torch.float32)
        if isinstance(queries, Tensor)
        else upload(as_points(queries), device)
    )
    check_latent_tracks(tuple(positions.shape), tuple(points.shape), grid)
    times = frame_map(grid, video_frames)
    start, end = (positions.index_select(-2, upload(side, device)) for side in (times.before, times.after))
    tracks = start + upload(times.fraction.astype(np.float32), device)[:, None] * (end - start)
    tracks[..., 0, :] = points
    return tracks


def matching_accuracy(
    tracks: Tensor | ArrayLike,
    reference: Tensor | ArrayLike,
    visible: Tensor | ArrayLike,
    grid: TokenGrid,
    *,
    variant: str = "corrected",
    threshold: float | None = None,
    moving: bool = False,
) -> float:
    """The share of visible (point, frame) pairs of a clip whose track is close to the reference, pooled in the clip.

    Only points visible in the query frame (frame 0) count, and the query frame itself does not.
    Source: DiffTrack (arXiv 2506.17220), matching accuracy; PROTOCOL section 4. `vcorr.metrics.accuracy` is the same on
    numpy arrays and tells how many pairs there were.

    Args:
        tracks: (N, T, 2) pixels. A position that is NaN is a miss.
        reference: (N, T, 2) pixels, finite where visible.
        visible: (N, T) bool, True where the point can be seen.
        grid: the grid the tracks were read from.
        variant: "corrected".
        threshold: None for half a stride, hypot(dx/sx, dy/sy) < 1/2; else pixels, hypot(dx, dy) < threshold.
        moving: only pairs whose reference moved more than one stride since the query frame.

    Returns:
        In [0, 1]; NaN when no pair counts.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    seen = visible.detach().cpu().numpy() if isinstance(visible, Tensor) else np.asarray(visible)
    share = accuracy(
        _host("tracks", tracks),
        _host("reference", reference),
        seen,
        grid,
        variant=variant,
        threshold=threshold,
        moving=moving,
    )
    return share.value


def _host(name: str, value: Tensor | ArrayLike) -> NDArray[np.floating[Any]]:
    if isinstance(value, Tensor):
        value = value.detach().to("cpu", torch.float64).numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: expected numbers of shape (N, T, 2), got {type(value).__name__}.") from error
