"""Scores masks against reference masks: region similarity J and contour accuracy F of DAVIS, per object.

J is intersection over union; F the harmonic mean of precision and recall of the contour pixels, with a tolerance
(Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675). The first and the last frame do not count, as in the
evaluation of DAVIS-17. In a frame without the object, both are 1 if none is predicted and 0 if one is.

Shape legend: T frames, H x W pixels. Labels are whole numbers; 0 is the background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError

TOLERANCE = 0.008
"""Distance at which two contour pixels still match, as a share of the frame's diagonal; DAVIS's usual value."""

VOID = 255
"""Label of pixels in reference masks that do not count, as in DAVIS."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ObjectScore:
    """Scores of one object: J and F, means over `frames` frames; NaN if no frame counts."""

    label: int
    region: float
    contour: float
    frames: int

    @property
    def both(self) -> float:
        """J&F, the mean of the two."""
        return (self.region + self.contour) / 2


def score_objects(predicted: NDArray[Any], reference: NDArray[Any], *, first: int = 0) -> list[ObjectScore]:
    """Returns the scores of every object of the reference's frame `first`, by ascending label.

    Args:
        predicted: (T, H, W) labels.
        reference: (T, H, W) labels; pixels with the label `VOID` do not count.
        first: the frame whose mask was given; only frames after it count, without the last one.

    Raises:
        UsageError: the shapes differ.
    """
    if predicted.shape != reference.shape or reference.ndim != 3:
        raise UsageError(f"Masks must have one shape (T, H, W), got {predicted.shape} and {reference.shape}.")
    labels = [int(label) for label in np.unique(reference[first]) if label not in (0, VOID)]
    counted = range(first + 1, len(reference) - 1)
    return [_score_object(predicted, reference, label, counted) for label in labels]


def region_similarity(predicted: Bools, reference: Bools) -> float:
    """Returns J of two masks (H, W): the intersection divided by the union; 1 if both are empty."""
    union = int((predicted | reference).sum())
    return int((predicted & reference).sum()) / union if union else 1.0


def contour_accuracy(predicted: Bools, reference: Bools, tolerance: float = TOLERANCE) -> float:
    """Returns F of two masks (H, W). tolerance: in shares of the diagonal, rounded up to whole pixels.

    1 if neither mask has a contour, 0 if only one has.
    """
    reach = math.ceil(tolerance * math.hypot(*reference.shape))
    found, wanted = find_contour(predicted), find_contour(reference)
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    precision = _near(wanted, reach)[found].mean()
    recall = _near(found, reach)[wanted].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def find_contour(mask: Bools) -> Bools:
    """Returns the contour pixels of a mask (H, W): those that differ from a neighbour right, below or diagonally so."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return np.asarray((here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:]))


def _near(contour: Bools, reach: int) -> Bools:
    """Returns the pixels (H, W) at most `reach` pixels from a contour pixel; there must be one."""
    distance = cv2.distanceTransform((~contour).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= reach + 1e-3)


def _score_object(predicted: NDArray[Any], reference: NDArray[Any], label: int, counted: range) -> ObjectScore:
    scores = [_score_frame(predicted[t], reference[t], label) for t in counted]
    region, contour = np.mean(scores, axis=0).tolist() if scores else (math.nan, math.nan)
    return ObjectScore(label, region, contour, len(scores))


def _score_frame(predicted: NDArray[Any], reference: NDArray[Any], label: int) -> tuple[float, float]:
    known = reference != VOID
    found, wanted = (predicted == label) & known, reference == label
    return region_similarity(found, wanted), contour_accuracy(found, wanted)
