"""The built-in metrics (each meets `vcorr.protocols.Metric`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vcorr.errors import UsageError
from vcorr.geometry import TokenGrid
from vcorr.metrics.accuracy import Floats, accuracy, check_tracks, scored_pairs, shares_within
from vcorr.metrics.variants import check_variant
from vcorr.records import Score, Tracks

PCK_SIDE = 256
"""Side of the square frame in whose pixels the pck thresholds are given (as in TAP-Vid)."""


@dataclass(frozen=True)
class MatchingAccuracyConfig:
    """variant: "corrected" (points visible in the query frame, without the query frame itself)."""

    variant: str = "corrected"

    def __post_init__(self) -> None:
        check_variant(self.variant, "metric 'matching_accuracy'")


@dataclass(frozen=True)
class PckConfig:
    """thresholds: distances in pixels of a 256x256 frame, each a column. variant: "corrected"."""

    thresholds: tuple[float, ...] = (1, 2, 4, 8, 16)
    variant: str = "corrected"

    def __post_init__(self) -> None:
        check_variant(self.variant, "metric 'pck'")
        usable = all(math.isfinite(threshold) and threshold > 0 for threshold in self.thresholds)
        if not self.thresholds or not usable or len(set(self.thresholds)) != len(self.thresholds):
            raise UsageError(
                f"metric 'pck': thresholds must be different positive numbers of pixels, got {self.thresholds!r}."
            )


class MatchingAccuracy:
    """`matching_accuracy` and `matching_accuracy_moving`: the share of pairs within half a stride (PROTOCOL section 4).

    Values are in [0, 1], NaN when no pair counts; n is the number of pairs.
    """

    higher_is_better = True

    def __init__(self, config: MatchingAccuracyConfig | None = None) -> None:
        self.variant = (config or MatchingAccuracyConfig()).variant

    def score(self, tracks: Floats, reference: Tracks, grid: TokenGrid) -> dict[str, Score]:
        """Scores (N, T, 2) pixels against `reference`; see `vcorr.metrics.accuracy.accuracy`."""
        scores = {}
        for suffix, moving in (("", False), ("_moving", True)):
            share = accuracy(tracks, reference.xy, reference.visible, grid, variant=self.variant, moving=moving)
            scores[f"matching_accuracy{suffix}"] = Score(share.value, share.pairs)
        return scores


class Pck:
    """`pck_1` ... `pck_16` and their `_moving` twins: the share of pairs within so many pixels of a 256x256 frame.

    Distances are measured after scaling x by 256/W and y by 256/H, and compared strictly. Pairs are those of
    `matching_accuracy`. Values are in [0, 1], NaN when no pair counts; n is the number of pairs.
    """

    higher_is_better = True

    def __init__(self, config: PckConfig | None = None) -> None:
        config = config or PckConfig()
        self.variant = config.variant
        self.thresholds = config.thresholds

    def score(self, tracks: Floats, reference: Tracks, grid: TokenGrid) -> dict[str, Score]:
        """Scores (N, T, 2) pixels of the grid's W x H frame against `reference`.

        Raises:
            UsageError: tracks and reference differ in shape.
        """
        check_tracks(tracks, reference.xy, reference.visible)
        scale = PCK_SIDE / np.array([grid.width, grid.height])
        scores = {}
        for suffix, moving in (("", False), ("_moving", True)):
            pairs = scored_pairs(reference.xy, reference.visible, grid, moving=moving)
            offsets = (tracks[pairs].astype(np.float64) - reference.xy[pairs]) * scale
            for threshold, share in zip(self.thresholds, shares_within(offsets, self.thresholds), strict=True):
                scores[f"pck_{threshold:g}{suffix}"] = Score(share.value, share.pairs)
        return scores
