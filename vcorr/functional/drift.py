"""The drift of a descriptor over the frames of a video, as a plain number."""

from __future__ import annotations

from numpy.typing import ArrayLike

from vcorr.functional.arguments import host_numbers
from vcorr.metrics.subject_drift import score_drift


def descriptor_drift(descriptors: ArrayLike) -> float:
    """Returns the mean over later frames of 1 minus the cosine with frame 0 and with the frame before, in [0, 2].

    The two cosines are averaged. NaN for a single frame. Source: subject consistency of VBench, arXiv 2311.17982.

    Args:
        descriptors: (T, D), a descriptor per frame, such as the class token of a backbone.

    Raises:
        UsageError: the shape is another one, or a descriptor is zero or not finite.
    """
    return score_drift(host_numbers("descriptors", descriptors, "(T, D)")).value
