"""The checks of metrics of masks: a sound metric passes, and each fault is found."""

from __future__ import annotations

import numpy as np
import pytest

import vcorr
from vcorr.contract.records import Score
from vcorr.metrics.mask_metric import MaskScores
from vcorr.metrics.mask_scores import VOID
from vcorr.testing import check_metric


class Agreement(vcorr.MetricBase):
    """Share of pixels that count and have the right label."""

    higher_is_better = True
    columns = ("agreement",)
    primary = "agreement"

    def score_masks(self, predicted, reference):
        known = reference != VOID
        return {"agreement": Score(float((predicted == reference)[known].mean()), int(known.sum()))}


class ReadsVoid(Agreement):
    def score_masks(self, predicted, reference):
        return {"agreement": Score(float(((predicted > 0) == (reference > 0)).mean()), int(reference.size))}


class Backwards(Agreement):
    def score_masks(self, predicted, reference):
        found = super().score_masks(predicted, reference)["agreement"]
        return {"agreement": Score(1 - found.value, found.n)}


class Writes(Agreement):
    def score_masks(self, predicted, reference):
        predicted[:] = reference
        return super().score_masks(predicted, reference)


class NoObject(Agreement):
    def score_masks(self, predicted, reference):
        return super().score_masks(predicted, reference) if reference.any() else {}


@pytest.mark.parametrize("metric", [Agreement(), MaskScores()])
def test_sound_metrics_pass(metric) -> None:
    report = check_metric(metric)
    assert report.passed, report.table()


@pytest.mark.parametrize(
    ("metric", "check"),
    [
        (ReadsVoid(), "pixels that do not count are not read"),
        (Backwards(), "perfect masks are best"),
        (Writes(), "masks are not changed"),
        (NoObject(), "the columns are there for any masks"),
    ],
)
def test_each_fault_is_found(metric, check) -> None:
    assert check in {failure.name for failure in check_metric(metric).failures}


def test_objects_have_columns_of_their_own_and_their_mean_is_the_clip() -> None:
    masks = np.zeros((3, 8, 12), np.uint8)
    masks[:, 1:4, 1:4], masks[:, 1:4, 8:11] = 1, 9
    found = MaskScores().score_masks(np.where(masks == 9, 0, masks), masks)
    assert (found["region_similarity@object:1"].value, found["region_similarity@object:9"].value) == (1.0, 0.0)
    assert found["region_and_contour"] == Score(0.5, 2)
