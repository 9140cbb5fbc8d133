"""Peak signal-to-noise ratio."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.metrics.pixels import psnr

BLACK = np.zeros((2, 4, 4, 3), np.uint8)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(difference=st.integers(1, 255))
def test_a_video_that_is_off_by_a_constant(difference):
    assert psnr(BLACK, BLACK + np.uint8(difference)) == pytest.approx(20 * np.log10(255 / difference))


def test_equal_videos_and_one_wrong_value():
    assert psnr(BLACK, BLACK) == 100
    other = BLACK.copy()
    other[0, 0, 0, 0] = 51
    assert psnr(other, BLACK) == psnr(BLACK, other) == pytest.approx(10 * np.log10(25 * BLACK.size))


@pytest.mark.parametrize("other", [BLACK[:1], BLACK.astype(np.float32)])
def test_other_shapes_and_types_are_refused(other):
    with pytest.raises(UsageError, match="two uint8 videos of one shape"):
        psnr(BLACK, other)
