"""Calibration of a tracker's confidence (docs/protocol.md), in numpy.

The confidence of a pair of a point and a frame is read as the probability that the pair is right: the point can be
seen there, and the prediction is within 8 pixels of a 256x256 frame. Shape: P pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase
from vcorr.contract.records import Score, Tracks
from vcorr.contract.variants import Switches, Variant, switches_of
from vcorr.metrics.tapvid import ComparedPairs
from vcorr.metrics.tapvid_metric import compare_tracks

RIGHT_WITHIN = 8
"""Pixels of a 256x256 frame within which a prediction is right, as in the gain of boards."""


@dataclass(frozen=True)
class Bins:
    """Bins of equal width in [0, 1]. A bin holds numbers above its lower edge and up to its upper; the first also 0."""

    name: str
    count: int

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the bins, such as "0-0.1"."""
        return tuple(f"{k / self.count:g}-{(k + 1) / self.count:g}" for k in range(self.count))

    def find(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns the index of the bin of each value in [0, 1]."""
        edges = np.arange(1, self.count) / self.count
        return np.searchsorted(edges, np.round(values, 6), side="left")  # 0.1 in float32 is a little more than 0.1


BINS = Bins("confidence", 10)


class JudgedPairs(NamedTuple):
    """The pairs that count. confidence: (P,) in [0, 1]. right: (P,) bool, whether the pair is right."""

    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]


def judge_confidence(pairs: ComparedPairs, confidence: NDArray[np.float32] | None) -> JudgedPairs:
    """Returns the confidence of the pairs that count, and which of them are right; no pairs without a confidence.

    A pair is right if it can be seen and the prediction is within `RIGHT_WITHIN` pixels. confidence: (N, T).
    """
    if confidence is None:
        return JudgedPairs(np.zeros(0), np.zeros(0, np.bool_))
    right = pairs.find_hits(RIGHT_WITHIN)[pairs.counted]
    return JudgedPairs(confidence[pairs.counted].astype(np.float64), right)


def find_calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Returns the expected calibration error: sum over the bins b of (n_b / P) · |share right in b - mean confidence|.

    It is in [0, 1], NaN without pairs. Source: Naeini et al., AAAI 2015; Guo et al., arXiv 1706.04599.

    Args:
        confidence: (P,) in [0, 1].
        right: (P,), whether the pair is right.
    """
    if not len(confidence):
        return math.nan
    bins = BINS.find(confidence)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS.count)
    return float(np.abs(gaps).sum() / len(confidence))


def find_risk_area(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Returns the area under the risk-coverage curve: the integral over the coverage c of the risk at c.

    The risk at c is the share of wrong pairs among the share c of the most confident pairs. Pairs of equal confidence
    are taken together, in equal parts of right and wrong. It is in [0, 1], 0 if no pair is wrong, NaN without pairs.
    Source: Geifman et al., arXiv 1805.08206, who take the mean over the P values of c = k / P.

    Args:
        confidence: (P,) in [0, 1].
        right: (P,), whether the pair is right.
    """
    if not len(confidence):
        return math.nan
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    rate = np.bincount(group, weights=~right) / sizes
    end = np.cumsum(sizes) / len(confidence)
    start = np.concatenate([[0.0], end[:-1]])
    wrong = np.concatenate([[0.0], np.cumsum(rate * (end - start))[:-1]])  # before the group, as a share of all pairs
    # in a group the risk is (wrong + rate * (c - start)) / c, whose integral has a closed form
    logs = np.log(end / np.where(start > 0, start, end))
    return float(((wrong - rate * start) * logs + rate * (end - start)).sum())


class TrackCalibration(MetricBase):
    """`calibration_error` and `risk_coverage_area` of the confidence of tracks, in [0, 1]; less is better.

    Pairs that count, and variants, are as in `TapVid`; n is their number. NaN with n = 0 for tracks without a
    confidence.
    """

    higher_is_better = False
    columns = ("calibration_error", "risk_coverage_area")
    primary = "calibration_error"
    lower, upper = 0.0, 1.0

    def __init__(self, *, variant: Variant = "corrected") -> None:
        self._switches = switches_of(variant)

    def under(self, variant: Switches) -> TrackCalibration:
        """Returns the metric for another variant."""
        return TrackCalibration(variant=variant)

    def score_tracks(self, predicted: Tracks, reference: Tracks, size: tuple[int, int]) -> dict[str, Score]:
        """Scores tracks in pixels of a video of `size` (height, width).

        Raises:
            UsageError: the tracks differ in shape.
        """
        pairs = compare_tracks(predicted, reference, size, self._switches)
        judged = judge_confidence(pairs, predicted.confidence)
        values = (find_calibration_error(*judged), find_risk_area(*judged))
        return {name: Score(value, len(judged.right)) for name, value in zip(self.columns, values, strict=True)}
