"""Tests image backbones on small configurations: one frame at a time, special tokens in front, no noise."""

import numpy as np
import pytest
import torch

from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.probes.cosine_probes import FeatureCosine, FeatureCosineToken, HiddenCosine
from vcorr.probes.matching_probes import FeatureFair, QueryKey
from vcorr.probes.probe_options import ProbeConfig
from vcorr.testing import assert_passed, check_model
from vcorr.testing.impulse import find_impulse

IMAGES = ["dino-b16", "dinov2-b14", "dinov2-b14-reg", "dinov3-b16"]
SPECIAL = {"dino-b16": 1, "dinov2-b14": 1, "dinov2-b14-reg": 4, "dinov3-b16": 4}
SETTINGS = RunSettings(steps=(-1,), num_steps=0)


def forget_positions(network):
    """Removes the positions from a network."""
    with torch.no_grad():
        if hasattr(network, "rope_embeddings"):
            network.rope_embeddings.inv_freq.zero_()
        else:
            network.embeddings.position_embeddings.zero_()


def look_at_oneself(network, sites):
    """Makes keys equal to sharpened queries, so that a token attends to tokens of its own content."""
    modules = dict(network.named_modules())
    with torch.no_grad():
        for site in sites:
            attention = modules[site.name]
            attention.q_proj.weight.mul_(60)
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def predict(model, clip, **probes):
    recorder = Recorder(probes, clip.queries)
    assert model.run(clip, SETTINGS, recorder) is None
    return recorder.predictions


@pytest.mark.parametrize("name", IMAGES)
def test_the_contract(name, entries, small, make_clip):
    plugin = "vcorr_vision.plugin" if name == "dinov2-b14" else None
    report = check_model(entries[name], make_clip(), config=small(name), plugin=plugin, text_tokens=SPECIAL[name])
    assert_passed(report)


@pytest.mark.parametrize("name", IMAGES)
def test_content_that_moves_by_whole_patches_is_found_where_it_went(name, load, make_clip, where):
    model, clip = load(name), make_clip()
    forget_positions(model.network)
    look_at_oneself(model.network, model.sites())
    cosines = {"feature-cos": FeatureCosine(), "token": FeatureCosineToken(), "hidden-cos": HiddenCosine()}
    found = predict(model, clip, qk=QueryKey(), fair=FeatureFair(), **cosines)
    assert len(found) == 10
    for prediction in found:
        np.testing.assert_allclose(prediction.xy, where(clip, len(clip.video)), atol=1e-3, err_msg=prediction.probe)
        assert prediction.attention == "factorised"
        assert prediction.step == -1
        assert np.isnan(prediction.noise)


@pytest.mark.parametrize("name", IMAGES)
def test_a_change_of_pixels_arrives_at_its_token(name, load, make_clip):
    model, clip = load(name), make_clip()
    for token in [(0, 0, 0), (2, 3, 5), (3, 1, 4)]:
        assert find_impulse(model, clip, token, -1, 0) == token


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_read_is_what_the_network_puts_out(name, load, make_clip):
    """Compares the hidden states of the last layer, after the final norm, with the network's output."""
    model, clip = load(name), make_clip()
    seen = {}

    class Hidden:
        needs = frozenset({"hidden"})

        def read(self, capture, queries):
            seen[capture.site.layer] = capture.hidden.clone()
            return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, 2)}

    predict(model, clip, hidden=Hidden())
    pixels = model.normalisation.apply(clip.video, "cpu", torch.float32)
    with torch.no_grad():
        whole = model.network(**model.inputs(pixels)).last_hidden_state
        norm = model.network.norm if name == "dinov3-b16" else model.network.layernorm
        ours = norm(seen[max(seen)].flatten(1, 2))
    assert seen[0].shape == (4, 4, 6, 48)
    torch.testing.assert_close(ours, whole[:, SPECIAL[name] :], rtol=1e-4, atol=1e-5)


def test_frames_in_parts_answer_as_frames_at_once(load, make_clip):
    clip = make_clip()
    found = [predict(load("dinov2-b14-reg", batch=batch), clip, qk=QueryKey()) for batch in (None, 1, 3)]
    for predictions in zip(*found, strict=True):
        for one in predictions[1:]:
            np.testing.assert_allclose(one.xy, predictions[0].xy)
    with pytest.raises(UsageError, match="at least 1 frame"):
        predict(load("dinov2-b14", batch=0), clip, qk=QueryKey())


def test_positions_are_interpolated_to_the_size_that_is_read(load, make_clip):
    """Checks that the network uses its table unchanged at its own size, and interpolates it for another."""
    for name in ("dino-b16", "dinov2-b14"):
        native, other = load(name, height=24, width=24), load(name)
        with torch.no_grad():
            table = native.network.embeddings.position_embeddings[0, 1:]
            for model, tokens in ((native, 9), (other, 24)):
                size = (model.config.height, model.config.width)
                black = torch.zeros(1, 3, *size)
                arguments = {key: value for key, value in model.inputs(black).items() if key != "pixel_values"}
                plain = model.network.embeddings.patch_embeddings(black)
                added = (model.network.embeddings(black, **arguments)[:, 1:] - plain)[0]
                assert added.shape == (tokens, 48)
                if model is native:
                    torch.testing.assert_close(added, table)
                else:
                    assert added.mean().item() == pytest.approx(table.mean().item(), abs=0.01)


def test_rotary_places_can_be_left_out(load, make_clip, where):
    """Checks the first layer, whose queries and keys before rotation depend on content only."""
    model, clip = load("dinov3-b16"), make_clip()
    look_at_oneself(model.network, model.sites())
    first = predict(model, clip, qk=QueryKey(ProbeConfig(rotary=False)))[0]
    np.testing.assert_allclose(first.xy, where(clip, len(clip.video)), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"height": 30}, "model.height=30 .*\n?.*24 and 32"),
        ({"frames": 1}, "model.frames=1"),
    ],
)
def test_sizes_that_do_not_fit(options, reason, entries, small, make_clip):
    model = entries["dinov2-b14"].create(small("dinov2-b14", **options))
    with pytest.raises(UsageError, match=reason):
        model.grid(make_clip(), None)


def test_fewer_frames_and_no_video(entries, small, make_clip):
    clip = make_clip()
    assert entries["dino-b16"].create(small("dino-b16", frames=3)).grid(clip, None).frames == 3
    model = entries["dino-b16"].create(small("dino-b16"))
    assert model.grid(clip, None).time_spans.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    with pytest.raises(UsageError, match="has no video"):
        model.grid(Clip(id="text", prompt="a disk", queries=clip.queries), None)
    with pytest.raises(UsageError, match="1 frames"):
        model.grid(make_clip(frames=1), None)


def test_a_clip_of_another_size_and_a_mode_that_makes_videos(load, make_clip):
    model, clip = load("dino-s16"), make_clip(height=40)
    with pytest.raises(UsageError, match="40x48 pixels; the model reads 4 frames of 32x48"):
        predict(model, clip, qk=QueryKey())
    with pytest.raises(UsageError, match="reads videos and generates none"):
        model.run(make_clip(), RunSettings("generate", (-1,), 0), Recorder({}, clip.queries))


def test_half_precision(load, make_clip):
    for name in IMAGES:
        found = predict(load(name, dtype="bfloat16"), make_clip(), qk=QueryKey())
        assert np.isfinite([prediction.xy for prediction in found]).all()
