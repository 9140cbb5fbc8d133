"""J and F of masks: by construction, and against slow references."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vcorr.contract.errors import UsageError
from vcorr.metrics.mask_scores import (
    TOLERANCE,
    VOID,
    contour_accuracy,
    find_contour,
    region_similarity,
    score_objects,
)

SIDE = 100  # tolerance 0.008 of the diagonal 141.4: 1.13, so 2 pixels

masks = arrays.arrays(np.bool_, (7, 9))


def square(x, y, side=40, value=1):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[y : y + side, x : x + side] = value
    return mask


def slow_contour(mask):
    rows, cols = mask.shape
    out = np.zeros_like(mask)
    for r in range(rows):
        for c in range(cols):
            others = [(r + 1, c), (r, c + 1), (r + 1, c + 1)]
            clamped = [(min(a, rows - 1), min(b, cols - 1)) for a, b in others]
            out[r, c] = any(mask[a, b] != mask[r, c] for a, b in clamped)
    return out


def slow_contour_accuracy(predicted, reference, tolerance):
    """Computes F from the distances between all pairs of contour pixels."""
    found, wanted = (np.argwhere(slow_contour(mask)) for mask in (predicted, reference))
    reach = math.ceil(tolerance * math.hypot(*predicted.shape))
    if not len(found) or not len(wanted):
        return float(len(found) == len(wanted))
    near = np.linalg.norm(found[:, None] - wanted[None], axis=-1) <= reach
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=60, deadline=None)
@given(predicted=masks, reference=masks, tolerance=st.sampled_from([0.0, 0.008, 0.1, 0.2]))
def test_contour_accuracy_equals_the_slow_reference(predicted, reference, tolerance):
    expected = slow_contour_accuracy(predicted, reference, tolerance)
    assert contour_accuracy(predicted, reference, tolerance) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(predicted=masks, reference=masks)
def test_region_similarity_counts_pixels(predicted, reference):
    pairs = list(zip(predicted.ravel(), reference.ravel(), strict=True))
    both, either = sum(a and b for a, b in pairs), sum(a or b for a, b in pairs)
    assert region_similarity(predicted, reference) == (both / either if either else 1.0)


def test_equal_masks_score_1_and_empty_ones_too():
    mask, nothing = square(10, 20) > 0, np.zeros((SIDE, SIDE), bool)
    for pair, expected in (
        ((mask, mask), 1.0),
        ((nothing, nothing), 1.0),
        ((mask, nothing), 0.0),
        ((nothing, mask), 0.0),
    ):
        assert region_similarity(*pair) == expected
        assert contour_accuracy(*pair) == expected


@pytest.mark.parametrize(("shift", "contour"), [(2, 1.0), (10, None), (45, 0.0)])
def test_a_shifted_square(shift, contour):
    predicted, reference = square(5 + shift, 5) > 0, square(5, 5) > 0
    overlap = max(0, 40 - shift) * 40
    assert region_similarity(predicted, reference) == overlap / (2 * 40 * 40 - overlap)
    found = contour_accuracy(predicted, reference)
    assert 0 < found < 1 if contour is None else found == contour


def test_the_tolerance_is_the_usual_share_of_the_diagonal():
    line = np.zeros((480, 854), bool)
    line[:, :300] = True
    assert math.ceil(TOLERANCE * math.hypot(480, 854)) == 8
    assert contour_accuracy(np.roll(line, 8, axis=1), line) > 0.49  # the roll makes a second contour at the left
    moved = line.copy()
    moved[:, 300:308] = True
    assert contour_accuracy(moved, line) == 1.0
    moved[:, 308] = True
    assert contour_accuracy(moved, line) == 0.0


def test_the_contour_at_the_border_follows_davis():
    whole = np.ones((3, 3), bool)
    assert not find_contour(whole).any()
    corner = np.zeros((3, 3), bool)
    corner[2, 2] = True
    assert find_contour(corner).tolist() == [[False] * 3, [False, True, True], [False, True, False]]


def test_objects_are_scored_by_themselves_without_the_first_and_the_last_frame():
    reference = np.stack([square(10, 10) + square(60, 60, 20, 2)] * 5)
    predicted = reference.copy()
    predicted[0], predicted[-1] = 0, 0
    predicted[2][predicted[2] == 2] = 0
    one, two = score_objects(predicted, reference)
    assert (one.label, one.region, one.contour, one.frames) == (1, 1.0, 1.0, 3)
    assert (two.label, two.frames) == (2, 3)
    assert two.region == two.contour == two.both == pytest.approx(2 / 3)


def test_only_objects_of_the_given_frame_count_and_void_pixels_do_not():
    reference = np.stack([square(0, 0)] * 4)
    reference[1:, 90:, 90:] = 7  # appears later
    reference[:, :, 30:40] = VOID
    predicted = np.where(reference == 7, 0, reference)
    predicted[reference == VOID] = 1
    (only,) = score_objects(predicted, reference)
    assert (only.label, only.region, only.contour) == (1, 1.0, 1.0)


def test_a_later_first_frame_leaves_fewer_frames():
    reference = np.stack([square(0, 0)] * 6)
    assert [each.frames for each in score_objects(reference, reference, first=3)] == [1]
    (none,) = score_objects(reference[:2], reference[:2])
    assert none.frames == 0
    assert math.isnan(none.both)


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(UsageError, match="one shape"):
        score_objects(np.zeros((2, 3, 3)), np.zeros((2, 3, 4)))
