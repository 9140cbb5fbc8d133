"""The drift of a backbone's class token, with random weights."""

import math

import numpy as np
import pytest
import torch
from vcorr_vision.drift import BackboneDrift
from vcorr_vision.drift_options import BackboneDriftConfig
from vcorr_vision.plugin import vcorr_metrics

from vcorr import UsageError
from vcorr.functional import descriptor_drift
from vcorr.testing import assert_passed, check_metric


@pytest.fixture(scope="module")
def metric():
    return BackboneDrift(BackboneDriftConfig(backbone="dino-s16", weights="random:3", side=32))


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 256, (10, 40, 48, 3), np.uint8)


def test_it_keeps_the_contract_and_is_no_default():
    (entry,) = vcorr_metrics()
    assert (entry.task, entry.default) == ("generation", False)
    assert_passed(check_metric(entry, config=entry.config_type()(**entry.check)))


def test_it_reads_the_class_token_of_every_frame(metric, video):
    found = metric.describe(video)  # ten frames, in two passes
    assert found.shape == (10, 384)
    alone = metric.describe(video[7:8])
    np.testing.assert_allclose(found[7:8], alone, atol=1e-4)
    pixels = metric._model.pixels(video[:1], torch.float32)
    with torch.no_grad():
        small = torch.nn.functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True)
        token = metric._model.network(pixel_values=small, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    np.testing.assert_allclose(found[:1], token, atol=1e-4)


def test_drift_is_none_for_a_still_video_and_larger_for_a_changing_one(metric, video):
    still = np.broadcast_to(video[:1], video.shape)
    (frozen,), (changing,) = (metric.score_video(v, None).values() for v in (still, video))
    assert frozen.value == pytest.approx(0, abs=1e-6)
    assert changing.value > 1e-4
    assert (frozen.n, changing.n) == (9, 9)
    (one,) = metric.score_video(video[:1], None).values()
    assert (math.isnan(one.value), one.n) == (True, 0)


def test_a_side_of_no_whole_tokens_is_refused():
    with pytest.raises(UsageError, match=r"metric.side=100 is no multiple of 14"):
        BackboneDriftConfig(backbone="dinov2-b14", side=100)


def test_the_plain_function_gives_the_number():
    assert descriptor_drift([[1.0, 0], [0, 2.0], [3.0, 0]]) == pytest.approx(0.75)
