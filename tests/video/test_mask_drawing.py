"""Masks drawn over a video: their outline shows on any background, whatever colour their palette gives them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scale import draw_cases

from vcorr.contract.errors import UsageError
from vcorr.data.video.mask_drawing import draw_masks

COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


def draw(behind, colour, label=1):
    """Returns one frame of one colour with a square mask of another, drawn, and the mask at its size."""
    video = np.full((1, 640, 640, 3), behind, dtype=np.uint8)
    labels = np.zeros((1, 640, 640), dtype=np.uint8)
    labels[0, 200:400, 200:400] = label
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[label] = colour
    return next(draw_masks(video, labels, palette)), labels[0]


@draw_cases(20)
@given(behind=COLOURS, colour=COLOURS, same=st.booleans())
def test_an_outline_differs_from_any_background(behind, colour, same):
    colour = behind if same else colour
    picture, mask = draw(behind, colour)
    assert (picture[mask == 0] == behind).all(), "nothing is drawn outside a mask"
    row = picture[300, 200:215].astype(int)
    assert np.abs(row.mean(-1) - np.mean(behind)).max() >= 127
    assert (row == colour).all(-1).any(), "between both lines the label has its own colour"


def test_two_masks_that_touch_have_an_edge_each():
    labels = np.zeros((1, 640, 640), dtype=np.uint8)
    labels[0, :, :320], labels[0, :, 320:] = 1, 2
    palette = np.full((256, 3), 90, dtype=np.uint8)
    picture = next(draw_masks(np.full((1, 640, 640, 3), 90, np.uint8), labels, palette))
    row = picture[300, :, 0]
    assert row[319] == row[320] == 0
    assert 255 in row[310:320]
    assert 255 in row[320:330]


def test_masks_of_another_size_are_refused():
    with pytest.raises(UsageError, match="do not fit"):
        draw_masks(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 9), np.uint8), np.zeros((256, 3), np.uint8))
