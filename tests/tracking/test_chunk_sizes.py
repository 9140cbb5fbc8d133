"""Tests how many frames of a clip a model is shown before its length is known."""

import numpy as np
import pytest

from vcorr import Clip, TokenGrid, UsageError, VideoModelBase
from vcorr.tracking.chunk_sizes import ChunkSizes
from vcorr.tracking.cost_reader import NO_QUERIES
from vcorr.tracking.track_options import TrackOptions

BLANK, CLIP, MOST = 0, 20, 64


class AskedModel(VideoModelBase):
    """A model that takes clips of at least `least` frames, and notes the length of every clip it is shown."""

    steps = 50

    def __init__(self, least):
        self.least, self.shown = least, []

    def grid(self, clip, site=None):
        length = BLANK if clip.video is None else len(clip.video)
        self.shown.append(length)
        if length < self.least:
            raise UsageError(f"{length} frames are too few.")
        return TokenGrid(13, 2, 2, (8.0, 8.0), 13)


@pytest.fixture
def clip():
    return Clip("short", "", NO_QUERIES, np.zeros((CLIP, 16, 16, 3), np.uint8))


@pytest.mark.parametrize(("least", "shown"), [(BLANK, [BLANK]), (CLIP, [BLANK, CLIP]), (30, [BLANK, CLIP, 32])])
def test_no_clip_is_made_longer_than_the_model_needs(clip, least, shown):
    model = AskedModel(least)
    assert ChunkSizes(model, None, TrackOptions()).size_for(clip) == 13
    assert model.shown == shown


def test_the_last_refusal_is_the_one_that_is_told(clip):
    with pytest.raises(UsageError, match=f"{MOST} frames are too few"):
        ChunkSizes(AskedModel(MOST + 1), None, TrackOptions()).size_for(clip)
