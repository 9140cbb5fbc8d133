"""DAVIS's scores of masks as a `vcorr.MaskMetric`, per clip and per object (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase
from vcorr.contract.metric_columns import PROPAGATION_COLUMNS, STRATUM_MARK
from vcorr.contract.records import Score
from vcorr.metrics.mask_scores import ObjectScore, score_objects

BOTH, REGION, CONTOUR = PROPAGATION_COLUMNS
"""J&F, J and F: columns of a clip, means over its objects. `NAME@object:LABEL` is one object."""
OBJECT = f"{STRATUM_MARK}object:"


class MaskScores(MetricBase):
    """J, the region similarity, F, the contour accuracy, and their mean J&F, as in the evaluation of DAVIS-17.

    The given mask says which objects there are. All frames but the first and the last count. n is the number of pairs
    of an object and a frame. See `vcorr.metrics.mask_scores` for the formulas.
    """

    higher_is_better = True
    columns = PROPAGATION_COLUMNS
    accuracies = PROPAGATION_COLUMNS
    primary = BOTH
    lower, upper = 0.0, 1.0

    def score_masks(self, predicted: NDArray[np.uint8], reference: NDArray[np.uint8]) -> Mapping[str, Score]:
        """Scores labels (T, H, W) against reference labels; raises UsageError if their shapes differ."""
        objects = score_objects(predicted, reference)
        found = _make_columns("", objects)
        for each in objects:
            found |= _make_columns(f"{OBJECT}{each.label}", [each])
        return found


def _make_columns(ending: str, objects: Sequence[ObjectScore]) -> dict[str, Score]:
    """Returns the means of all three scores over objects; NaN with n = 0 where no frame counts."""
    counted = [each for each in objects if each.frames]
    values = {
        BOTH: [each.both for each in counted],
        REGION: [each.region for each in counted],
        CONTOUR: [each.contour for each in counted],
    }
    frames = sum(each.frames for each in counted)
    means = {name: float(np.mean(of_objects)) if of_objects else float("nan") for name, of_objects in values.items()}
    return {f"{name}{ending}": Score(value, frames) for name, value in means.items()}
