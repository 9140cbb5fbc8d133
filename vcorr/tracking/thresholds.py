"""Chooses the confidence above which a point counts as visible, from stored tracks alone (docs/tracking.md).

Shapes: N points, T frames, P pairs that count, C thresholds, K clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.metrics.tapvid import THRESHOLDS, ComparedPairs
from vcorr.metrics.tapvid_metric import JACCARD, OCCLUSION, score_columns
from vcorr.stats.halves import Halves

MOST_CANDIDATES = 512
"""Thresholds that are tried at most. With more different confidences, quantiles of them are tried."""
_TIE = 1e-12


@dataclass(frozen=True)
class ConfidentPairs:
    """The tracks of one clip, compared with the reference. confidence: (N, T) in [0, 1]."""

    pairs: ComparedPairs
    confidence: NDArray[np.float32]

    def show_above(self, threshold: float) -> ComparedPairs:
        """Returns the pairs with the visibility that a threshold gives: the confidence is larger."""
        return replace(self.pairs, shown=self.confidence > threshold)


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold and what it was chosen for.

    maximised: what is largest at it, in words. jaccard, occlusion_accuracy: means over the clips at this threshold.
    """

    threshold: float
    maximised: str
    jaccard: float
    occlusion_accuracy: float


@dataclass(frozen=True)
class ThresholdCurve:
    """TAP-Vid's average Jaccard and occlusion accuracy of every clip at every threshold.

    thresholds: (C,), rising. jaccard, occlusion_accuracy: (K, C), NaN where nothing counts. own: (K, 2), both numbers
    with the visibility that the tracks have now.
    """

    thresholds: NDArray[np.float64]
    jaccard: NDArray[np.float64]
    occlusion_accuracy: NDArray[np.float64]
    own: NDArray[np.float64]

    def choose(self, clips: Sequence[int] | NDArray[np.int64] | None = None) -> ChosenThreshold:
        """Returns the threshold with the largest mean Jaccard over clips. Of equal ones it is the middle one.

        clips: indices of the clips that choose; None for all.

        Raises:
            UsageError: no clip has a Jaccard.
        """
        chosen = np.arange(len(self.jaccard)) if clips is None else np.asarray(clips, dtype=np.int64)
        means = mean_over_clips(self.jaccard[chosen])
        if np.isnan(means).all():
            raise UsageError("No threshold can be chosen: no clip has a pair that counts.")
        ties = np.flatnonzero(means >= np.nanmax(means) - _TIE)
        best = ties[(len(ties) - 1) // 2]
        accuracy = mean_over_clips(self.occlusion_accuracy[chosen])[best]
        told = f"the mean of {JACCARD} over {len(chosen)} clips"
        return ChosenThreshold(float(self.thresholds[best]), told, float(means[best]), float(accuracy))

    def cross_fit(self, halves: Halves) -> tuple[float, float]:
        """Returns mean Jaccard and occlusion accuracy, each clip at the threshold that the other half chooses.

        Raises:
            UsageError: no clip of a half has a Jaccard.
        """
        columns = np.zeros(len(self.jaccard), dtype=np.int64)
        for chooses, reports in (halves, halves[::-1]):
            columns[reports] = np.searchsorted(self.thresholds, self.choose(chooses).threshold)
        rows = np.arange(len(columns))
        found = (mean_over_clips(part[rows, columns][:, None]) for part in (self.jaccard, self.occlusion_accuracy))
        jaccard, accuracy = (float(mean[0]) for mean in found)
        return jaccard, accuracy


def trace_thresholds(clips: Iterable[ConfidentPairs], thresholds: NDArray[np.float64]) -> ThresholdCurve:
    """Returns the curve of clips over thresholds (C,), rising. One clip at a time is held."""
    traced = [(*_trace_clip(clip, thresholds), _score_now(clip.pairs)) for clip in clips]
    shape = (len(traced), len(thresholds))
    return ThresholdCurve(
        thresholds,
        jaccard=np.array([one[0] for one in traced]).reshape(shape),
        occlusion_accuracy=np.array([one[1] for one in traced]).reshape(shape),
        own=np.array([one[2] for one in traced]).reshape(-1, 2),
    )


def _score_now(pairs: ComparedPairs) -> tuple[float, float]:
    scores = score_columns(pairs)
    return scores[JACCARD].value, scores[OCCLUSION].value


def sample_confidence(clip: ConfidentPairs) -> NDArray[np.float64]:
    """Returns the different confidences of the pairs that count, rising; quantiles of them if they are too many."""
    return _thin(np.unique(clip.confidence[clip.pairs.counted]).astype(np.float64))


def find_candidates(samples: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns thresholds between the confidences, and one below and above all, (C,) rising in [0, 1]."""
    values = np.unique(np.concatenate([np.zeros(0), *samples]))
    edges = _thin(values)
    if not len(edges):
        return edges
    lowest = [edges[0] / 2] if edges[0] > 0 else []  # no threshold shows a point with the confidence 0
    return np.concatenate([lowest, (edges[:-1] + edges[1:]) / 2, [(edges[-1] + 1) / 2]])


def _thin(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns at most `MOST_CANDIDATES` of rising values, the first and the last among them."""
    if len(values) <= MOST_CANDIDATES:
        return values
    return values[np.round(np.linspace(0, len(values) - 1, MOST_CANDIDATES)).astype(np.int64)]


def _trace_clip(
    clip: ConfidentPairs, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns Jaccard and occlusion accuracy of a clip at each threshold, (C,) each.

    Pairs are sorted by confidence, so the pairs above a threshold are a suffix, and sums over suffixes are enough.
    """
    counted = clip.pairs.counted
    confidence = clip.confidence[counted].astype(np.float64)
    order = np.argsort(confidence)
    first = np.searchsorted(confidence[order], thresholds, side="right")  # first pair above each threshold

    def above(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Returns how many pairs above each threshold are in the mask (N, T), (C,)."""
        sums = np.concatenate([np.cumsum(mask[counted][order][::-1])[::-1], [0]])
        return np.asarray(sums[first], dtype=np.int64)

    visible, shown = clip.pairs.visible, len(confidence) - first
    seen = int(visible[counted].sum())
    with np.errstate(invalid="ignore"):
        jaccards = [
            hits / (seen + shown - hits) for hits in (above(clip.pairs.find_hits(limit)) for limit in THRESHOLDS)
        ]
        both = above(visible)  # seen and shown; hidden and not shown: all hidden ones but the shown
        accuracy = (both + (len(confidence) - seen) - (shown - both)) / np.float64(len(confidence))
    return np.mean(jaccards, axis=0), accuracy


def mean_over_clips(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean of (K, C) over clips, (C,), without NaN; NaN where all are NaN."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.where(counts > 0, total / np.maximum(counts, 1), np.nan))
