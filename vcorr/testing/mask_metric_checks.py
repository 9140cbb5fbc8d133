"""Checks the contract of a `vcorr.MaskMetric` on invented masks of two objects, one of which moves.

T frames, H x W pixels; label 0 is the background, 255 marks pixels of the reference that do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase, with_defaults
from vcorr.contract.records import Score
from vcorr.testing.report import CheckFunction, expect
from vcorr.testing.score_form import check_score_form, expect_same

FRAMES, HEIGHT, WIDTH, SPEED = 5, 24, 32, 3
"""Size of the invented clip, and pixels per frame by which its first object moves."""


class MaskMetricSuite:
    """The checks of one metric of masks."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._masks = make_moving_masks()
        self._still = np.repeat(self._masks[:1], FRAMES, axis=0)

    def checks(self) -> Sequence[tuple[str, CheckFunction]]:
        """Returns the checks by name."""
        return [
            ("scores have the right form", self.form),
            ("perfect masks are best", self.best),
            ("pixels that do not count are not read", self.void),
            ("the columns are there for any masks", self.columns),
            ("a column is primary", self.primary),
            ("same masks, same scores", self.repeat),
            ("masks are not changed", self.side_effects),
        ]

    def form(self) -> str:
        """Checks names, types and ranges of the scores."""
        return check_score_form(self._metric, self._score(self._still))

    def best(self) -> None:
        """Checks that the reference itself has the best score in every column."""
        sign = 1 if self._metric.higher_is_better else -1
        perfect, still = self._score(self._masks), self._score(self._still)
        for name, score in perfect.items():
            expect(sign * score.value >= sign * still[name].value, f"{name}: {still[name]} is better than {score}.")

    def void(self) -> None:
        """Checks that predictions at pixels with the label 255 change nothing."""
        reference = self._masks.copy()
        reference[1:, :4] = 255
        other = self._still.copy()
        other[1:, :4] = 2
        expect_same(self._score(self._still, reference), self._score(other, reference), "where nothing counts")

    def columns(self) -> None:
        """Checks that the columns of the metric are there without objects, and with frames too few to count."""
        declared = set(with_defaults(self._metric, MetricBase).columns) or set(self._score(self._masks))
        empty = np.zeros_like(self._masks)
        cases = {"no object": (empty, empty), "one frame": (self._masks[:1], self._masks[:1])}
        for case, (predicted, reference) in cases.items():
            missing = sorted(declared - set(self._score(predicted, reference)))
            expect(not missing, f"{case}: the columns {', '.join(missing)} are missing.")

    def primary(self) -> str:
        """Checks that one of the columns is the primary one."""
        columns, primary = list(self._score(self._masks)), with_defaults(self._metric, MetricBase).primary
        expect(bool(primary) or len(columns) == 1, "there are several columns: set `primary` to the one that ranks.")
        expect(not primary or primary in columns, f"primary is {primary!r}, which is none of {', '.join(columns)}.")
        return primary or columns[0]

    def repeat(self) -> None:
        """Checks that a second call gives the same scores."""
        expect_same(self._score(self._still), self._score(self._still), "the second time")

    def side_effects(self) -> None:
        """Checks that the metric does not write into its arguments."""
        masks, reference = make_moving_masks(), make_moving_masks()  # earlier checks may have written into the others
        predicted = np.repeat(masks[:1], FRAMES, axis=0)
        self._metric.score_masks(predicted, reference)
        same = (predicted == masks[:1]).all() and np.array_equal(reference, masks)
        expect(bool(same), "the metric wrote into its arguments.")

    def _score(self, predicted: NDArray[np.uint8], reference: NDArray[np.uint8] | None = None) -> Mapping[str, Score]:
        wanted = self._masks if reference is None else reference
        scores: Mapping[str, Score] = self._metric.score_masks(predicted, wanted)
        return scores


def make_moving_masks() -> NDArray[np.uint8]:
    """Returns the labels (T, H, W) of a square that moves to the right, label 1, and of one that stays, label 2."""
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    for t in range(FRAMES):
        masks[t, 6:14, 2 + SPEED * t : 10 + SPEED * t] = 1
    masks[:, 16:22, 20:28] = 2
    return masks
