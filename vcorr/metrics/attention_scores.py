"""Confidence score, attention score, and their harmonic mean with the accuracy (docs/protocol.md), in numpy.

Shapes: N points, T video frames, F latent frames, L layers, S steps. Probabilities are in [0, 1]. The query latent is
the latent frame that covers the query's frame.
Source: DiffTrack (arXiv 2506.17220), its analysis of matching accuracy, confidence and attention.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid
from vcorr.contract.variants import Variant, switches_of
from vcorr.metrics.query_frames import query_frames

Floats = NDArray[np.floating[Any]]


class PointMean(NamedTuple):
    """A mean over points, and the number of points. The mean is NaN without points, or without text tokens for text."""

    value: float
    points: int


def confidence(
    peak_cross: Floats,
    peak_self: Floats,
    peak_text: Floats,
    visible: NDArray[np.bool_],
    grid: TokenGrid,
    *,
    query_frame: ArrayLike = 0,
    variant: Variant = "corrected",
) -> dict[str, PointMean]:
    """Returns how sure the attention of the query points is: mean peaks over other frames, their own, and the text.

    In "cross", a point first gets its mean over the other latents whose frames all show it. corrected: only points
    visible in the query frame count, in "cross" only if they have such a latent. difftrack: all points count; in
    "cross" a point without such a latent counts as 0.

    Args:
        peak_cross: (N, F-1), largest probability among the tokens of each latent frame but the query latent, in order.
        peak_self: (N,), largest probability among the tokens of the query latent.
        peak_text: (N,), largest probability among the text tokens; NaN without text.
        visible: (N, T) bool, True where the point can be seen.
        grid: says which frames a latent covers.
        query_frame: video frame of all queries, or (N,) the frame of each.
        variant: "corrected", "difftrack" or `Switches` (`pooling`).

    Returns:
        The means "cross", "self" and "text".

    Raises:
        UsageError: the shapes do not fit together.
    """
    check_grid(grid)
    points = len(peak_self)
    check_visible(visible, points, grid.video_frames)
    _check_rows(peak_cross=(peak_cross, (points, grid.frames - 1)), peak_text=(peak_text, (points,)))
    switches = switches_of(variant)
    asked_in = query_frames(query_frame, points, grid.video_frames)
    shown = _find_shown_latents(visible, grid, asked_in)
    count = shown.sum(axis=1)
    total = np.where(shown, peak_cross, 0.0).sum(axis=1, dtype=np.float64)
    cross = total / np.maximum(count, 1)
    if switches.pooling == "everything":
        return {"cross": _mean(cross), "self": _mean(peak_self), "text": _mean(peak_text)}
    asked = visible[np.arange(points), asked_in]
    scored = asked & (count > 0)
    return {"cross": _mean(cross[scored]), "self": _mean(peak_self[asked]), "text": _mean(peak_text[asked])}


def attention(
    sum_cross: Floats,
    sum_self: Floats,
    sum_text: Floats,
    visible: NDArray[np.bool_],
    *,
    query_frame: ArrayLike = 0,
) -> dict[str, PointMean]:
    """Returns where the attention of the query points goes: the shares of other frames, their own, and the text.

    Each is a mean over the points visible in the query frame, in both variants.

    Args:
        sum_cross: (N,), probability of all latent frames but the query latent.
        sum_self: (N,), probability of the query latent.
        sum_text: (N,), probability of the text; NaN without text.
        visible: (N, T) bool, True where the point can be seen.
        query_frame: video frame of all queries, or (N,) the frame of each.

    Returns:
        The means "cross", "self" and "text".

    Raises:
        UsageError: the shapes do not fit together.
    """
    points = len(sum_self)
    check_visible(visible, points, None)
    _check_rows(sum_cross=(sum_cross, (points,)), sum_text=(sum_text, (points,)))
    asked = visible[np.arange(points), query_frames(query_frame, points, visible.shape[1])]
    return {"cross": _mean(sum_cross[asked]), "self": _mean(sum_self[asked]), "text": _mean(sum_text[asked])}


def harmonic_mean(
    accuracy: Floats, confidence: Floats, attention: Floats, *, variant: Variant = "corrected"
) -> NDArray[np.float64]:
    """Returns 3/(1/a + 1/c + 1/s) of three tables, each first scaled to [0, 1] by its smallest and largest value.

    The result is 0 where one table has its smallest value, and everywhere if the values of one table are all equal.
    corrected: NaN stays NaN and does not count for smallest and largest. difftrack: one NaN makes every value 0. The
    mean ranks the layers and steps of one model; it cannot be compared between models.

    Args:
        accuracy: (L, S), matching accuracy, averaged over clips.
        confidence: (L, S), confidence_cross, averaged over clips.
        attention: (L, S), attention_cross, averaged over clips.
        variant: "corrected", "difftrack" or `Switches` (`pooling`).

    Returns:
        (L, S) in [0, 1].

    Raises:
        UsageError: shapes differ, or a value is infinite.
    """
    named = {"accuracy": accuracy, "confidence": confidence, "attention": attention}
    tables = np.stack([_table(name, table, accuracy.shape) for name, table in named.items()])
    unscored = np.isnan(tables)
    if switches_of(variant).pooling == "everything" and unscored.any():
        return np.zeros(accuracy.shape)
    low = np.where(unscored, np.inf, tables).min(axis=(1, 2), keepdims=True, initial=np.inf)
    high = np.where(unscored, -np.inf, tables).max(axis=(1, 2), keepdims=True, initial=-np.inf)
    width = np.where(high > low, high - low, 1.0)
    shares = (tables - np.where(np.isfinite(low), low, 0.0)) / width
    zero = (shares == 0).any(axis=0)
    with np.errstate(divide="ignore"):
        mean = np.where(zero, 0.0, len(tables) / (1.0 / shares).sum(axis=0))
    return np.where(unscored.any(axis=0), np.nan, mean)


def check_visible(visible: NDArray[np.bool_], points: int, frames: int | None) -> None:
    """Checks that `visible` is bool of shape (points, frames); frames None allows any number.

    Raises:
        UsageError: it is not.
    """
    expected = (points, "T" if frames is None else frames)
    fits = visible.ndim == 2 and visible.shape[1] > 0 and visible.shape == (points, frames or visible.shape[1])
    if not fits or visible.dtype != np.bool_:  # integers would index instead of mask
        raise UsageError(f"visible: expected bool of shape {expected}, got {visible.dtype} of shape {visible.shape}.")


def _find_shown_latents(visible: NDArray[np.bool_], grid: TokenGrid, asked_in: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns (N, F-1), whether all frames of a latent show the point, for every latent but the query latent."""
    shown = np.stack([visible[:, first : last + 1].all(axis=1) for first, last in grid.time_spans], axis=1)
    others = np.arange(grid.frames) != grid.latents_at(asked_in)[:, None]
    return np.asarray(shown[others].reshape(len(shown), grid.frames - 1))


def _check_rows(**parts: tuple[Floats, tuple[int, ...]]) -> None:
    for name, (values, shape) in parts.items():
        if values.shape != shape:
            raise UsageError(f"rows.{name}: expected shape {shape}, got {values.shape}.")


def _table(name: str, table: Floats, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if table.ndim != 2 or table.shape != shape:
        raise UsageError(f"{name}: expected (L, S), the same for all three tables, got {table.shape}.")
    if np.isinf(table).any():
        raise UsageError(f"{name}: an infinite value cannot be brought to [0, 1].")
    return table.astype(np.float64)


def _mean(values: Floats) -> PointMean:
    return PointMean(float(np.mean(values, dtype=np.float64)) if len(values) else float("nan"), len(values))
