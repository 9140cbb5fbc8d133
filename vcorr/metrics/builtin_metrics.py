"""The built-in metrics, each a `vcorr.Metric` or `RowMetric`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vcorr.contract.bases import MetricBase
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.hit_rules import HitRule
from vcorr.contract.option_notes import option
from vcorr.contract.records import RowsPrediction, Score, Tracks
from vcorr.contract.variants import Switches, Variant, switches_of
from vcorr.metrics.accuracy import HALF_A_STRIDE
from vcorr.metrics.attention_scores import attention, confidence
from vcorr.metrics.frame_units import frame_unit, pck_motion
from vcorr.metrics.hit_distances import Floats
from vcorr.metrics.pairs import PairsMemo


@dataclass(frozen=True)
class PckConfig:
    """Options of `pck`."""

    thresholds: tuple[float, ...] = option(
        (1.0, 2.0, 4.0, 8.0, 16.0),
        "Distances within which a point counts as found, one column each.",
        unit="pixels of a 256x256 frame",
    )

    def __post_init__(self) -> None:
        usable = all(math.isfinite(threshold) and threshold > 0 for threshold in self.thresholds)
        if not self.thresholds or not usable or len(set(self.thresholds)) != len(self.thresholds):
            raise UsageError(
                f"metric 'pck': thresholds must be different positive numbers of pixels, got {self.thresholds!r}."
            )
        names = [f"{threshold:g}" for threshold in self.thresholds]
        if len(set(names)) != len(names):
            raise UsageError(
                f"metric 'pck': two thresholds give one column, since names have six digits: {', '.join(names)}."
            )


class MatchingAccuracy(MetricBase):
    """`matching_accuracy` and `matching_accuracy_moving`: the share of pairs within half a stride (docs/protocol.md).

    Values are in [0, 1], NaN if no pair counts; n is the number of pairs. Pairs of moving points are primary, because a
    still background flatters every prediction. variant: decides which pairs count (`Switches.pooling`).
    """

    higher_is_better = True
    columns = ("matching_accuracy", "matching_accuracy_moving")
    primary = "matching_accuracy_moving"
    lower, upper = 0.0, 1.0

    def __init__(self, *, variant: Variant = "corrected") -> None:
        self._memo = PairsMemo(variant)

    def under(self, variant: Switches) -> MatchingAccuracy:
        """Returns the metric for another variant."""
        return MatchingAccuracy(variant=variant)

    def score(self, tracks: Floats, reference: Tracks, grid: TokenGrid) -> dict[str, Score]:
        """Scores tracks (N, T, 2) in pixels against `reference`; see `vcorr.metrics.accuracy.accuracy`.

        Raises:
            UsageError: tracks and reference differ in shape.
        """
        pairs = self._memo.pairs(reference, grid)
        squares = pairs.square_distances(tracks, np.array(grid.stride))
        scores = {}
        for suffix, moving in (("", False), ("_moving", True)):
            share = pairs.shares(squares, [HALF_A_STRIDE], moving=moving)[0]
            scores[f"matching_accuracy{suffix}"] = Score(share.value, share.pairs)
        return scores

    def hit_rules(self, reference: Tracks, grid: TokenGrid) -> Mapping[str, HitRule]:
        """Returns the rule of each column, for its ceiling."""
        pairs, unit = self._memo.pairs(reference, grid), np.array(grid.stride)
        return {
            f"matching_accuracy{suffix}": pairs.rule(HALF_A_STRIDE, unit, moving=moving)
            for suffix, moving in (("", False), ("_moving", True))
        }


class Pck(MetricBase):
    """`pck_1` ... `pck_16` and their `_moving` twins: the share of pairs within so many pixels of a 256x256 frame.

    x is scaled by 256/W and y by 256/H; a distance must be strictly smaller than the threshold. The same pairs count as
    in `matching_accuracy`. A pair moves if its reference is more than 16 of these pixels away from its position in the
    query frame. Values are in [0, 1], NaN if no pair counts; n is the number of pairs. The primary column is
    `pck_8_moving`, as on boards, with `pck_8` next to it; without this threshold, the columns of the middle one.
    """

    higher_is_better = True
    lower, upper = 0.0, 1.0

    def __init__(self, config: PckConfig | None = None, *, variant: Variant = "corrected") -> None:
        self._config = config or PckConfig()
        self.thresholds = self._config.thresholds
        self._memo = PairsMemo(variant, pck_motion)
        names = [f"pck_{threshold:g}" for threshold in self.thresholds]
        self.columns = tuple(name + suffix for suffix in ("", "_moving") for name in names)
        middle = sorted(self.thresholds)[(len(names) - 1) // 2]
        self.primary = f"pck_{8 if 'pck_8' in names else middle:g}_moving"

    def under(self, variant: Switches) -> Pck:
        """Returns the metric for another variant."""
        return Pck(self._config, variant=variant)

    def score(self, tracks: Floats, reference: Tracks, grid: TokenGrid) -> dict[str, Score]:
        """Scores tracks (N, T, 2), in pixels of the grid's W x H frame, against `reference`.

        Raises:
            UsageError: tracks and reference differ in shape.
        """
        pairs = self._memo.pairs(reference, grid)
        squares = pairs.square_distances(tracks, frame_unit(grid.width, grid.height))
        scores = {}
        for suffix, moving in (("", False), ("_moving", True)):
            shares = pairs.shares(squares, self.thresholds, moving=moving)
            for threshold, share in zip(self.thresholds, shares, strict=True):
                scores[f"pck_{threshold:g}{suffix}"] = Score(share.value, share.pairs)
        return scores

    def hit_rules(self, reference: Tracks, grid: TokenGrid) -> Mapping[str, HitRule]:
        """Returns the rule of each column, for its ceiling."""
        pairs, unit = self._memo.pairs(reference, grid), frame_unit(grid.width, grid.height)
        return {
            f"pck_{threshold:g}{suffix}": pairs.rule(threshold, unit, moving=moving)
            for suffix, moving in (("", False), ("_moving", True))
            for threshold in self.thresholds
        }


class Confidence(MetricBase):
    """`confidence_cross`, `_self`, `_text`: how sure the attention of the query points is (docs/protocol.md).

    A `vcorr.RowMetric`: it scores the attention summaries of the probe `attention`. n is the number
    of points. variant: decides which points count, and how a point that no other latent shows (`Switches.pooling`).
    """

    higher_is_better = True
    columns = ("confidence_cross", "confidence_self", "confidence_text")
    primary = "confidence_cross"

    def __init__(self, *, variant: Variant = "corrected") -> None:
        self._switches = switches_of(variant)

    def under(self, variant: Switches) -> Confidence:
        """Returns the metric for another variant."""
        return Confidence(variant=variant)

    def score_rows(self, rows: RowsPrediction, reference: Tracks, grid: TokenGrid) -> dict[str, Score]:
        """Scores the attention summary of one site; see `vcorr.metrics.attention_scores.confidence`."""
        peaks = (rows.peak_cross, rows.peak_self, rows.peak_text)
        means = confidence(*peaks, reference.visible, grid, query_frame=reference.asked_in, variant=self._switches)
        return {f"confidence_{part}": Score(mean.value, mean.points) for part, mean in means.items()}


class AttentionScore(MetricBase):
    """`attention_cross`, `_self`, `_text`: where the attention of the query points goes (docs/protocol.md).

    A `vcorr.RowMetric`. n is the number of points.
    """

    higher_is_better = True
    columns = ("attention_cross", "attention_self", "attention_text")
    primary = "attention_cross"

    def score_rows(self, rows: RowsPrediction, reference: Tracks, grid: TokenGrid) -> dict[str, Score]:
        """Scores the attention summary of one site; see `vcorr.metrics.attention_scores.attention`."""
        sums = (rows.sum_cross, rows.sum_self, rows.sum_text)
        means = attention(*sums, reference.visible, query_frame=reference.asked_in)
        return {f"attention_{part}": Score(mean.value, mean.points) for part, mean in means.items()}
