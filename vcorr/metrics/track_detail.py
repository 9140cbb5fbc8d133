"""What TAP-Vid's numbers hide: re-detection, survival, and accuracy by kind of pair (docs/protocol.md).

Shapes: N points, T frames, P pairs. All distances are in pixels of a 256x256 frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.metric_columns import REDETECTION_COLUMN
from vcorr.contract.option_notes import option
from vcorr.contract.records import Score, Tracks
from vcorr.contract.variants import Switches, Variant, switches_of
from vcorr.metrics.calibration import BINS, judge_confidence
from vcorr.metrics.frame_units import PCK_SIDE
from vcorr.metrics.occlusions import measure_latest_occlusion
from vcorr.metrics.strata import (
    Dimension,
    check_edges,
    count_frames_away,
    label_strata,
    measure_displacement,
    share_by_stratum,
)
from vcorr.metrics.tapvid import THRESHOLDS, ComparedPairs
from vcorr.metrics.tapvid_metric import JACCARD, PRIMARY, compare_tracks, score_columns, show_above

REDETECTION, SURVIVAL = REDETECTION_COLUMN, "survival"
RIGHT, MEAN_CONFIDENCE = "right_pairs", "mean_confidence"
"""The share of right pairs, and the mean confidence."""
CURVE = (
    *(RIGHT, MEAN_CONFIDENCE),
    *(f"{name}@{BINS.name}:{label}" for name in (RIGHT, MEAN_CONFIDENCE) for label in BINS.labels),
)
"""Columns of the confidence: over all pairs, then per bin, which is the reliability curve."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class TrackDetailConfig:
    """Options of `track-detail`."""

    frames: tuple[float, ...] = option(
        (4.0, 8.0, 16.0, 32.0, 64.0),
        "Upper edges of the strata by the distance from the query frame.",
        unit="frames",
    )
    displacement: tuple[float, ...] = option(
        (4.0, 16.0, 32.0, 64.0),
        "Upper edges of the strata by the distance of the reference from its position in the query frame.",
        unit="pixels of a 256x256 frame",
    )
    occluded: tuple[float, ...] = option(
        (2.0, 4.0, 8.0, 16.0),
        "Upper edges of the strata by the length of the latest occlusion since the query frame.",
        unit="frames",
    )
    failure: float = option(
        50.0,
        "A track survives until it is further than this from the reference.",
        unit="pixels of a 256x256 frame",
    )

    visible_above: float | None = option(
        None,
        "Points are predicted visible where their confidence is larger. null: where the tracker says so.",
        least=0,
        most=1,
    )

    def __post_init__(self) -> None:
        for name in ("frames", "displacement", "occluded"):
            check_edges("track-detail", name, getattr(self, name))
        if not (math.isfinite(self.failure) and self.failure > 0):
            raise UsageError(f"metric 'track-detail': failure must be a positive number, got {self.failure!r}.")


class TrackDetail(MetricBase):
    """Re-detection, survival, and `average_pts_within_thresh@DIMENSION:STRATUM` (docs/protocol.md).

    `redetection_jaccard`: TAP-Vid's average Jaccard of the pairs after an occlusion has ended. `survival`: mean over
    points of the share of frames before the track first fails. Pairs that count, and variants, are as in `TapVid`.
    `right_pairs@confidence:BIN` and `mean_confidence@confidence:BIN` are the reliability curve (`calibration`). n is
    the number of pairs, for `survival` the number of points.
    """

    higher_is_better = True
    primary = SURVIVAL
    lower, upper = 0.0, 1.0

    def __init__(self, config: TrackDetailConfig | None = None, *, variant: Variant = "corrected") -> None:
        self._config = config or TrackDetailConfig()
        self._switches = switches_of(variant)
        self.dimensions = _dimensions(self._config)
        strata = tuple(f"{PRIMARY}@{dim.name}:{label}" for dim in self.dimensions for label in dim.labels)
        self.accuracies = (REDETECTION, SURVIVAL, *strata)
        self.columns = (*self.accuracies, *CURVE)

    def under(self, variant: Switches) -> TrackDetail:
        """Returns the metric for another variant."""
        return TrackDetail(self._config, variant=variant)

    def score_tracks(self, predicted: Tracks, reference: Tracks, size: tuple[int, int]) -> dict[str, Score]:
        """Scores tracks in pixels of a video of `size` (height, width).

        Raises:
            UsageError: the tracks differ in shape.
        """
        shown = show_above(predicted, self._config.visible_above)
        pairs = compare_tracks(shown, reference, size, self._switches)
        scores = [
            score_redetection(pairs, reference.asked_in),
            score_survival(pairs, reference.asked_in, self._config.failure),
            *self._score_strata(pairs, reference, size),
            *score_confidence(pairs, predicted.confidence),
        ]
        return dict(zip(self.columns, scores, strict=True))

    def _score_strata(self, pairs: ComparedPairs, reference: Tracks, size: tuple[int, int]) -> list[Score]:
        """Returns the position accuracy of the pairs in each stratum."""
        counted = pairs.counted & pairs.visible
        hits = [pairs.find_hits(threshold)[counted] for threshold in THRESHOLDS]
        scores: list[Score] = []
        for dimension in self.dimensions:
            strata = dimension.find_strata(dimension.of(reference, _small_frame(reference, size))[counted])
            shares = [share_by_stratum(one, strata, len(dimension.labels)) for one in hits]
            scores += [
                Score(float(np.mean([share.value for share in same])), same[0].n) for same in zip(*shares, strict=True)
            ]
        return scores


def _small_frame(reference: Tracks, size: tuple[int, int]) -> TokenGrid:
    """Returns a grid whose strides are the pixels of a 256x256 frame, in which dimensions measure distances."""
    height, width = size
    stride = (width / PCK_SIDE, height / PCK_SIDE)
    return TokenGrid(frames=reference.visible.shape[1], rows=PCK_SIDE, cols=PCK_SIDE, stride=stride)


def _dimensions(config: TrackDetailConfig) -> tuple[Dimension, ...]:
    return (
        Dimension(
            "frames", "frames from the query frame", label_strata(config.frames), config.frames, count_frames_away
        ),
        Dimension(
            "displacement",
            "pixels of a 256x256 frame between the reference and its position in the query frame",
            label_strata(config.displacement),
            config.displacement,
            _measure_displacement,
        ),
        Dimension(
            "occluded",
            "frames of the latest occlusion that ended between the query frame and this one; `none` without one",
            ("none", *label_strata(config.occluded)),
            (0.0, *config.occluded),
            _measure_occluded,
        ),
    )


def _measure_displacement(reference: Tracks, grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the distance from the position in the query frame; NaN where the query's own frame hides the point."""
    known = reference.visible[np.arange(len(reference.visible)), reference.asked_in]
    return np.where(known[:, None], measure_displacement(reference, grid), np.nan)


def _measure_occluded(reference: Tracks, grid: TokenGrid) -> NDArray[np.float64]:
    return measure_latest_occlusion(reference.visible, reference.asked_in).astype(np.float64)


def score_redetection(pairs: ComparedPairs, asked_in: NDArray[np.int64]) -> Score:
    """Returns TAP-Vid's average Jaccard of the pairs that follow the end of an occlusion, seen from the query.

    Points that are never occluded, or never seen again, have no such pair. Source: the Jaccard is TAP-Vid's (arXiv
    2211.03726). That trackers fail to find points again is shown by ITTO (arXiv 2510.19819).

    Args:
        pairs: all pairs.
        asked_in: (N,), the frame of each query.
    """
    after = measure_latest_occlusion(pairs.visible, asked_in) > 0
    return score_columns(replace(pairs, counted=pairs.counted & after))[JACCARD]


def score_survival(pairs: ComparedPairs, asked_in: NDArray[np.int64], failure: float) -> Score:
    """Returns the mean over points of the share of counted frames before the track first fails, in [0, 1].

    A track fails in a frame that shows the point, if it is further than `failure` pixels from the reference or has no
    position. Frames before the query are followed backwards, and fail by themselves. n is the number of points with a
    frame in which they can fail. Source: PointOdyssey, arXiv 2307.15055, with 50 pixels; there the share is of all
    frames of a video, whose queries are in its first frame.

    Args:
        pairs: all pairs.
        asked_in: (N,), the frame of each query.
        failure: pixels of a 256x256 frame.
    """
    judged = pairs.counted & pairs.visible
    with np.errstate(invalid="ignore"):
        fails = judged & ~(pairs.squares <= failure**2)
    later = np.arange(fails.shape[1]) > asked_in[:, None]
    forward = np.logical_or.accumulate(fails & later, axis=1)
    backward = np.logical_or.accumulate((fails & ~later)[:, ::-1], axis=1)[:, ::-1]
    survives = pairs.counted & ~np.where(later, forward, backward)
    known = judged.any(axis=1)
    shares = survives[known].sum(axis=1) / pairs.counted[known].sum(axis=1)
    return mean_of(shares)


def score_confidence(pairs: ComparedPairs, confidence: NDArray[np.float32] | None) -> list[Score]:
    """Returns the scores of the columns `CURVE`; NaN with n = 0 for tracks without a confidence.

    confidence: (N, T) in [0, 1]; None if there is none.
    """
    judged = judge_confidence(pairs, confidence)
    bins = BINS.find(judged.confidence)
    right, sure = (
        [mean_of(values), *(mean_of(values[bins == k]) for k in range(BINS.count))]
        for values in (judged.right, judged.confidence)
    )
    return [right[0], sure[0], *right[1:], *sure[1:]]


def mean_of(values: NDArray[Any]) -> Score:
    """Returns the mean of numbers (P,) as a score of P items."""
    return Score(float(values.mean()) if len(values) else math.nan, len(values))
