"""The passes of label propagation, and masks that are carried by them: with a backbone whose tokens are pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.backbone import Backbone

from vcorr.baselines.baseline import BaselineConfig
from vcorr.baselines.tokens import TokenPatches
from vcorr.contract.errors import UsageError
from vcorr.contract.records import Clip, RunSettings
from vcorr.metrics.mask_scores import region_similarity
from vcorr.probes.attention_probe import Attention
from vcorr.probes.matching_probes import QueryKey
from vcorr.tracking.mask_carriers import CarriedByTokens, PatchPropagator
from vcorr.tracking.propagation_options import PropagationOptions
from vcorr.tracking.propagation_passes import LabelPropagator, plan_windows
from vcorr.tracking.track_options import TrackOptions

SETTINGS = RunSettings(steps=(-1,))


@given(length=st.integers(0, 40), chunk=st.integers(2, 45), context=st.integers(0, 12))
def test_every_frame_is_the_target_of_one_pass_that_has_its_context(length, chunk, context):
    windows = plan_windows(length, chunk, context)
    assert [target for window in windows for target in window.targets] == list(range(1, length))
    for window in windows:
        assert len(window.frames) == len(set(window.frames)) == min(chunk, length)
        assert window.frames == tuple(sorted(window.frames))
        assert max(window.frames) < length
        for target in window.targets:
            contexts = window.contexts(target, context)
            assert contexts[0] == 0
            assert all(0 <= p < target for p in contexts)
            room = min(context, min(chunk, length) - 2)
            assert set(range(max(0, target - room), target)) <= set(contexts)


def test_a_pass_has_at_least_two_frames():
    with pytest.raises(UsageError, match="got 1 frames per pass"):
        plan_windows(5, 1, 3)


@pytest.fixture(scope="module")
def backbone():
    model = Backbone()
    model.load("cpu", "float32", "random")
    return model


def moving_clip(frames=6):
    """Draws two squares of 2 x 2 tokens: object 1 moves right by one token per frame, object 2 stays."""
    random = np.random.default_rng(0)
    moving, still = random.integers(50, 256, (2, 16, 16, 3), dtype=np.uint8)
    video, masks = np.zeros((frames, 48, 80, 3), np.uint8), np.zeros((frames, 48, 80), np.uint8)
    for t in range(frames):
        for label, texture, x, y in ((1, moving, 8 + 8 * t, 8), (2, still, 32, 32)):
            video[t, y : y + 16, x : x + 16], masks[t, y : y + 16, x : x + 16] = texture, label
    return Clip("squares", "", np.zeros((0, 2), np.float32), video), masks


def carry(model, clip, mask, frame=0, *, chunk=0, probe=None, layers=(0,), **options):
    propagator = LabelPropagator(
        model, probe or QueryKey(), layers, SETTINGS, PropagationOptions(**options), TrackOptions(chunk=chunk)
    )
    return CarriedByTokens(propagator).carry(clip, mask, frame)


@pytest.mark.parametrize("frame", [0, 3, 5])
def test_a_mask_is_carried_in_both_directions(backbone, frame):
    clip, masks = moving_clip()
    found = carry(backbone, clip, masks[frame], frame)
    assert np.array_equal(found[frame], masks[frame])
    for label in (1, 2):
        assert min(region_similarity(found[t] == label, masks[t] == label) for t in range(6)) > 0.7


def test_frames_that_are_seen_one_by_one_give_the_same_in_passes_of_any_length(backbone):
    clip, masks = moving_clip()
    whole = carry(backbone, clip, masks[0], chunk=6, context=2)
    for chunk in (4, 5):
        assert np.array_equal(carry(backbone, clip, masks[0], chunk=chunk, context=2), whole)


def test_labels_are_what_the_file_says_and_not_their_order(backbone):
    clip, masks = moving_clip(frames=3)
    found = carry(backbone, clip, masks[0])
    renamed = np.array([5, 200, 3], np.uint8)
    assert np.array_equal(carry(backbone, clip, renamed[masks[0]]), renamed[found])


def test_a_video_of_another_size_than_whole_tokens_keeps_its_size(backbone):
    clip, masks = moving_clip(frames=3)
    cut = Clip("cut", "", clip.queries, np.ascontiguousarray(clip.video[:, :45, :77]))
    assert carry(backbone, cut, masks[0, :45, :77]).shape == (3, 45, 77)


@pytest.mark.parametrize("frame", [0, 3])
def test_pixels_of_tokens_carry_masks_too(frame):
    clip, masks = moving_clip()
    propagator = PatchPropagator(TokenPatches(BaselineConfig(stride=8)), PropagationOptions(radius=2, top_k=1))
    found = CarriedByTokens(propagator).carry(clip, masks[frame], frame)
    for label in (1, 2):
        assert min(region_similarity(found[t] == label, masks[t] == label) for t in range(6)) > 0.7


@pytest.mark.parametrize(
    ("change", "said"),
    [({"probe": Attention()}, "does not say what it matches"), ({"mask": np.zeros((3, 3), np.uint8)}, "shape")],
)
def test_what_cannot_carry_labels_is_refused(backbone, change, said):
    clip, masks = moving_clip(frames=3)
    with pytest.raises(UsageError, match=said):
        carry(backbone, clip, change.get("mask", masks[0]), probe=change.get("probe"))


def test_more_than_one_step_is_refused(backbone):
    with pytest.raises(UsageError, match="one step, got 2"):
        LabelPropagator(
            backbone, QueryKey(), (0,), RunSettings(steps=(1, 2), num_steps=4), PropagationOptions(), TrackOptions()
        )
