"""Scores of one clip, from tensors or arrays. `vcorr.metrics` computes them and needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.variants import Variant, switches_of
from vcorr.functional.arguments import host_mask, host_numbers
from vcorr.functional.attention import AttentionRows
from vcorr.metrics import attention_scores as scores
from vcorr.metrics.accuracy import accuracy
from vcorr.metrics.tapvid import QueryMode
from vcorr.metrics.tapvid import tapvid as tapvid_of_arrays


def matching_accuracy(
    tracks: Tensor | ArrayLike,
    reference: Tensor | ArrayLike,
    visible: Tensor | ArrayLike,
    grid: TokenGrid,
    *,
    query_frame: Tensor | ArrayLike = 0,
    variant: Variant = "corrected",
    threshold: float | None = None,
    moving: bool = False,
) -> float:
    """Returns the share of visible (point, frame) pairs of a clip whose track is close to the reference.

    corrected: only points visible in their query frame count, in all other frames. difftrack: every visible point
    counts in every frame. Source: DiffTrack (arXiv 2506.17220), matching accuracy; docs/protocol.md.
    `vcorr.metrics.accuracy` is the same on numpy arrays and also returns the number of pairs.

    Args:
        tracks: (N, T, 2) pixels, the predicted tracks. A position that is NaN is a miss.
        reference: (N, T, 2) pixels, the reference tracks, finite where visible.
        visible: (N, T) bool, True where the point can be seen.
        grid: the grid that the tracks were read from.
        query_frame: video frame of all queries, or (N,) the frame of each.
        variant: "corrected", "difftrack" or `Switches` (`pooling`).
        threshold: pixels, a hit if hypot(dx, dy) < threshold. None for half a stride, hypot(dx/sx, dy/sy) < 1/2.
        moving: count only pairs whose reference moved by more than one stride since the query frame, whatever the
            threshold. (The columns `pck_*_moving` have their own limit, 16 px of a 256x256 frame.)

    Returns:
        A share in [0, 1]; NaN if no pair counts.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    share = accuracy(
        host_numbers("tracks", tracks, "(N, T, 2)"),
        host_numbers("reference", reference, "(N, T, 2)"),
        host_mask("visible", visible),
        grid,
        query_frame=_frames(query_frame),
        variant=variant,
        threshold=threshold,
        moving=moving,
    )
    return float(share.value)


def confidence_score(
    rows: AttentionRows,
    visible: Tensor | ArrayLike,
    grid: TokenGrid,
    *,
    query_frame: Tensor | ArrayLike = 0,
    variant: Variant = "corrected",
) -> dict[str, float]:
    """Returns how sure the attention of the query points is: mean peaks over other frames, their own, and the text.

    In "cross", a point first gets its mean over the other latents whose frames all show it. corrected: only points
    visible in the query frame count, in "cross" only if they have such a latent. difftrack: all points count; in
    "cross" a point without such a latent counts as 0. Source: DiffTrack (arXiv 2506.17220), confidence score;
    docs/protocol.md.

    Args:
        rows: attention summary of N points, from `attention_rows`.
        visible: (N, T) bool, True where the point can be seen; T is the grid's number of video frames.
        grid: says which frames a latent covers.
        query_frame: video frame of all queries, or (N,) the frame of each.
        variant: "corrected", "difftrack" or `Switches` (`pooling`).

    Returns:
        "cross", "self" and "text", each in [0, 1]; NaN if no point counts, and for "text" without text tokens.

    Raises:
        UsageError: the shapes do not fit together.
    """
    cross, own, text = _row_parts(rows, "peak_cross", "peak_self", "peak_text")
    shown, asked_in = host_mask("visible", visible), _frames(query_frame)
    means = scores.confidence(cross, own, text, shown, grid, query_frame=asked_in, variant=variant)
    return {name: float(mean.value) for name, mean in means.items()}


def attention_score(
    rows: AttentionRows,
    visible: Tensor | ArrayLike,
    *,
    query_frame: Tensor | ArrayLike = 0,
    variant: Variant = "corrected",
) -> dict[str, float]:
    """Returns where the attention of the query points goes: the shares of other frames, their own, and the text.

    Each is a mean over the points visible in the query frame, in both variants; the variants differ in `rows`.
    Source: DiffTrack (arXiv 2506.17220), attention score; docs/protocol.md.

    Args:
        rows: attention summary of N points, from `attention_rows`.
        visible: (N, T) bool, True where the point can be seen.
        query_frame: video frame of all queries, or (N,) the frame of each.
        variant: "corrected", "difftrack" or `Switches`.

    Returns:
        "cross", "self" and "text", together 1; NaN if no point counts, and for "text" without text tokens.

    Raises:
        UsageError: the shapes do not fit together.
    """
    switches_of(variant)
    cross, own, text = _row_parts(rows, "sum_cross", "sum_self", "sum_text")
    means = scores.attention(cross, own, text, host_mask("visible", visible), query_frame=_frames(query_frame))
    return {name: float(mean.value) for name, mean in means.items()}


def harmonic_mean(
    accuracy: Tensor | ArrayLike,
    confidence: Tensor | ArrayLike,
    attention: Tensor | ArrayLike,
    *,
    variant: Variant = "corrected",
) -> Tensor | NDArray[np.float64]:
    """Returns 3/(1/a + 1/c + 1/s) of three tables, each first scaled to [0, 1] by its smallest and largest value.

    The result is 0 where one table has its smallest value, and everywhere if the values of one table are all equal.
    corrected: NaN stays NaN and does not count for smallest and largest. difftrack: one NaN makes every value 0.
    Source: DiffTrack (arXiv 2506.17220), its choice of layers; docs/protocol.md.

    Args:
        accuracy: (L, S), matching accuracy, averaged over clips.
        confidence: (L, S), confidence_cross, averaged over clips.
        attention: (L, S), attention_cross, averaged over clips.
        variant: "corrected", "difftrack" or `Switches` (`pooling`).

    Returns:
        (L, S) float64 in [0, 1]: a tensor if `accuracy` is one, else an array.

    Raises:
        UsageError: shapes differ, or a value is infinite.
    """
    named = {"accuracy": accuracy, "confidence": confidence, "attention": attention}
    tables = {name: host_numbers(name, table, "(L, S)") for name, table in named.items()}
    mean = scores.harmonic_mean(**tables, variant=variant)
    return torch.from_numpy(mean).to(accuracy.device) if isinstance(accuracy, Tensor) else mean


def tapvid(
    query_points_tyx: Tensor | ArrayLike,
    occluded: Tensor | ArrayLike,
    tracks: Tensor | ArrayLike,
    pred_occluded: Tensor | ArrayLike,
    pred_tracks: Tensor | ArrayLike,
    *,
    mode: QueryMode,
) -> dict[str, float]:
    """Returns TAP-Vid's metrics of one video, under its own names: `vcorr.metrics.tapvid.tapvid` on tensors or arrays.

    Source: TAP-Vid (arXiv 2211.03726) and its public evaluation; docs/functional.md.

    Args:
        query_points_tyx: (N, 3) as (t, y, x).
        occluded: (N, T) bool, True where the reference point cannot be seen.
        tracks: (N, T, 2), reference tracks, (x, y) pixels of a 256x256 frame.
        pred_occluded: (N, T) bool, True where the prediction says that the point cannot be seen.
        pred_tracks: (N, T, 2), predicted tracks in the same pixels; NaN is a miss.
        mode: "first": the frames strictly after a point's query frame count. "strided": all but the query frame.

    Returns:
        Values in [0, 1], NaN where nothing counts: "occlusion_accuracy", "pts_within_x" and "jaccard_x" for x in 1, 2,
        4, 8, 16, and their means "average_pts_within_thresh" and "average_jaccard".

    Raises:
        UsageError: shapes or dtypes do not fit together, the mode is unknown, or a query frame is outside the video.
    """
    return tapvid_of_arrays(
        host_numbers("query_points_tyx", query_points_tyx, "(N, 3)"),
        host_mask("occluded", occluded),
        host_numbers("tracks", tracks, "(N, T, 2)"),
        host_mask("pred_occluded", pred_occluded),
        host_numbers("pred_tracks", pred_tracks, "(N, T, 2)"),
        mode=mode,
    )


def _frames(query_frame: Tensor | ArrayLike) -> ArrayLike:
    return query_frame.cpu().numpy() if isinstance(query_frame, Tensor) else query_frame


def _row_parts(rows: AttentionRows, *names: str) -> list[NDArray[np.floating[Any]]]:
    if not isinstance(rows, AttentionRows):
        raise UsageError(f"rows: expected the AttentionRows of attention_rows, got {type(rows).__name__}.")
    parts = [host_numbers(f"rows.{name}", getattr(rows, name), "(N, ...)") for name in names]
    if parts[1].ndim != 1:
        raise UsageError(f"rows.{names[1]}: expected shape (N,), got {parts[1].shape}.")
    return parts
