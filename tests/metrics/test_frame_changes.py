"""Warp error, flicker and subject drift, on videos whose scores are known by construction."""

import math

import cv2
import numpy as np
import pytest

from vcorr.contract.errors import UsageError
from vcorr.metrics.frame_changes import score_frames
from vcorr.metrics.subject_drift import count_colours, describe_plainly, score_drift


@pytest.fixture(scope="module")
def sheet():
    noise = np.random.default_rng(0).normal(size=(96, 120, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pan(sheet):
    """Returns 8 frames in which everything moves by 2 pixels per frame."""
    return np.stack([sheet[8:88, 2 * t : 2 * t + 80] for t in range(8)])


def test_a_frozen_video_changes_nothing(sheet):
    found = score_frames(np.stack([sheet] * 4))
    assert (found.warp_error.value, found.warp_error.n) == (0, 3)
    assert (found.flicker.value, found.flicker.n) == (0, 2)


def test_motion_alone_is_compensated(pan):
    found = score_frames(pan)
    plain = ((pan[1:].astype(float) - pan[:-1]) ** 2).mean() / 255**2
    assert found.warp_error.value < 0.02 * plain
    assert found.flicker.value < 0.005


def test_a_flash_is_flicker_and_a_steady_change_of_light_is_not(pan):
    def lit(levels):
        return np.clip(pan + np.array(levels)[:, None, None, None], 0, 255).astype(np.uint8)

    flashing, drifting = score_frames(lit([0, 10] * 4)), score_frames(lit(np.arange(8) * 4.0))
    assert flashing.flicker.value == pytest.approx(10 / 255, rel=0.15)
    assert drifting.flicker.value < 0.15 * flashing.flicker.value
    assert drifting.warp_error.value == pytest.approx((4 / 255) ** 2, rel=0.3)


def test_one_frame_or_a_tiny_one_cannot_be_scored(pan):
    for video in (pan[:1], pan[:, :8, :8]):
        found = score_frames(video)
        assert math.isnan(found.warp_error.value)
        assert (found.warp_error.n, found.flicker.n) == (0, 0)
    assert score_frames(pan[:2]).warp_error.n == 1
    assert score_frames(pan[:2]).flicker.n == 0


def test_drift_is_the_mean_of_two_cosines():
    turned = np.array([[1.0, 0], [0, 2.0], [3.0, 0]])
    found = score_drift(turned)
    assert (found.value, found.n) == (pytest.approx((1 + 0.5) / 2), 2)
    assert score_drift(np.ones((4, 3))).value == 0
    assert math.isnan(score_drift(np.ones((1, 3))).value)


@pytest.mark.parametrize("wrong", [np.zeros((3, 2)), np.ones(3), np.full((3, 2), np.nan)], ids=["zero", "flat", "nan"])
def test_drift_of_what_are_no_descriptors_is_refused(wrong):
    with pytest.raises(UsageError, match="descriptors must be"):
        score_drift(wrong)


def test_the_plain_descriptor_sees_colours_and_not_places(pan):
    described = describe_plainly(pan)
    assert described.shape == (8, 72)
    np.testing.assert_allclose((described**2).sum(1), 2)
    mirrored = describe_plainly(pan[:, ::-1])
    np.testing.assert_allclose(mirrored[:, :64], described[:, :64])
    tinted = pan.copy()
    tinted[4:, ..., 0] //= 3
    assert score_drift(describe_plainly(tinted)).value > 10 * score_drift(described).value
    assert count_colours(np.full((2, 2, 3), 255, np.uint8))[63] == 1
    assert np.isfinite(describe_plainly(np.zeros((1, 16, 16, 3), np.uint8))).all()
