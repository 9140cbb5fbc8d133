"""Tests video backbones on small configurations: two frames per token, the whole clip in one pass, no noise."""

import numpy as np
import pytest
import torch

from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.probes.attention_probe import Attention
from vcorr.probes.matching_probes import FeatureFair, QueryKey
from vcorr.probes.probe_options import ProbeConfig
from vcorr.testing import assert_passed, check_model
from vcorr.testing.impulse import find_impulse

VIDEOS = ["vjepa2-l", "videomae-b"]
SETTINGS = RunSettings(steps=(-1,), num_steps=0)
FRAMES = 6


@pytest.fixture(scope="session")
def video_clip(make_clip):
    """Returns a function that makes clips for a small model, of noise that moves every second frame."""

    def give(name, frames=FRAMES):
        clip = make_clip(each=2, frames=frames, width=32 if name == "vjepa2-l" else 48)
        inside = clip.queries[clip.queries.xy[:, 0] < clip.video.shape[2]]
        return Clip(id=clip.id, prompt="", queries=inside, video=clip.video)

    return give


def look_at_oneself(network, sites):
    """Makes keys equal to sharpened queries, so that a token attends to tokens of its own content."""
    modules = dict(network.named_modules())
    with torch.no_grad():
        for site in sites:
            attention = modules[site.name]
            attention.query.weight.mul_(60)
            attention.key.weight.copy_(attention.query.weight)


def predict(model, clip, **probes):
    recorder = Recorder(probes, clip.queries)
    assert model.run(clip, SETTINGS, recorder) is None
    return recorder.answers


@pytest.mark.parametrize("name", VIDEOS)
def test_the_contract(name, entries, small, video_clip):
    assert_passed(check_model(entries[name], video_clip(name), config=small(name), text_tokens=0))


@pytest.mark.parametrize("name", VIDEOS)
def test_a_token_covers_two_frames(name, entries, small, video_clip):
    model, clip = entries[name].create(small(name)), video_clip(name)
    grid = model.grid(clip, None)
    assert grid.time_spans.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert model.grid(video_clip(name, frames=7), None).video_frames == 6
    assert {site.attention for site in model.sites()} == {"full3d"}


def test_content_that_moves_by_whole_patches_is_found_without_positions(load, video_clip, where):
    model, clip = load("videomae-b"), video_clip("videomae-b")
    model.network.embeddings.position_embeddings.zero_()
    look_at_oneself(model.network, model.sites())
    found = predict(model, clip, qk=QueryKey(), fair=FeatureFair())
    assert len(found) == 4
    for prediction in found:
        np.testing.assert_allclose(prediction.xy, where(clip, 3), atol=1e-3, err_msg=prediction.probe)
        assert (prediction.attention, prediction.step) == ("full3d", -1)


def test_content_that_moves_by_whole_patches_is_found_before_rotation(load, video_clip, where):
    """Checks the first layer, whose queries and keys before rotation depend on content only."""
    model, clip = load("vjepa2-l"), video_clip("vjepa2-l")
    look_at_oneself(model.network, model.sites())
    first = predict(model, clip, qk=QueryKey(ProbeConfig(rotary=False)))[0]
    np.testing.assert_allclose(first.xy, where(clip, 3), atol=1e-3)


@pytest.mark.parametrize("name", VIDEOS)
def test_a_change_of_pixels_arrives_at_its_token(name, load, video_clip):
    model, clip = load(name), video_clip(name)
    for token in [(0, 0, 0), (1, 3, 2), (2, 1, 3)]:
        assert find_impulse(model, clip, token, -1, 0) == token


@pytest.mark.parametrize("name", VIDEOS)
def test_attention_between_frames_is_the_networks_own(name, load, video_clip):
    clip = video_clip(name)
    for rows in predict(load(name), clip, attention=Attention()):
        total = rows.sum_cross + rows.sum_self
        np.testing.assert_allclose(total, 1, rtol=1e-4)
        assert (rows.sum_cross > 0.3).all()
        assert np.isnan(rows.sum_text).all()


def test_rows_and_columns_follow_the_size_of_the_square(load, tmp_path):
    """Checks that a network saved for one square turns tokens for the square at which it is read."""
    saved, other = load("vjepa2-l"), load("vjepa2-l", height=48, width=48)
    saved.network.save_pretrained(tmp_path)
    again = load("vjepa2-l", weights=str(tmp_path), height=48, width=48)
    position_ids = [
        model.network.encoder.layer[0].attention.get_position_ids(torch.zeros(1, 72, 48)) for model in (other, again)
    ]
    for one, two in zip(*position_ids, strict=True):
        assert torch.equal(one, two)
    time, row, column = (values.tolist() for values in position_ids[0])
    assert (time[36], row[35], column[35]) == (1, 5, 5)


def test_the_predictor_never_runs(load, video_clip):
    model, clip = load("vjepa2-l"), video_clip("vjepa2-l")
    ran = []
    model.network.predictor.register_forward_hook(lambda *_: ran.append(1))
    predict(model, clip, qk=QueryKey())
    assert not ran
    assert not any("predictor" in site.name for site in model.sites())


def test_saved_networks_are_the_same(load, video_clip, tmp_path):
    for name in VIDEOS:
        model, clip = load(name), video_clip(name)
        model.network.save_pretrained(tmp_path / name)
        again = load(name, weights=str(tmp_path / name))
        pixels = model.normalisation.apply(clip.video, "cpu", torch.float32)
        with torch.no_grad():
            one, two = (each.network(**each.inputs(pixels)).last_hidden_state for each in (model, again))
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match=r"frames=6(.|\n)*--set model.frames=6"):
        load("videomae-b", weights=str(tmp_path / "videomae-b"), frames=8)


def test_weights_as_they_were_released(load, tmp_path):
    """Checks the layout of VideoMAE's hub folder: a decoder, a prefix, and other names of the biases."""
    from safetensors.torch import load_file, save_file

    model = load("videomae-b")
    with torch.no_grad():
        for layer in model.network.encoder.layer:
            layer.attention.attention.query.bias.fill_(0.5)
    model.network.save_pretrained(tmp_path)
    old = {"attention.query.bias": "attention.q_bias", "attention.value.bias": "attention.v_bias"}
    saved = load_file(tmp_path / "model.safetensors")
    endings = {key: next((new for new in old if key.endswith(new)), "") for key in saved}
    tensors = {
        f"videomae.{key.removesuffix(ending)}{old.get(ending, '')}": saved[key] for key, ending in endings.items()
    }
    save_file({**tensors, "decoder.head.weight": torch.zeros(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    again = load("videomae-b", weights=str(tmp_path))
    for one, two in zip(model.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("name", "options", "frames", "reason"),
    [
        ("videomae-b", {}, 5, "has 5 frames; VideoMAE ViT-B reads 6"),
        ("videomae-b", {"frames": 5}, 6, "model.frames=5"),
        ("vjepa2-l", {}, 3, "has 3 frames; .* needs at least 4"),
        ("vjepa2-l", {"frames": 7}, 8, "model.frames=7"),
        ("vjepa2-l", {"width": 48}, 6, "reads squares, not 32x48"),
    ],
)
def test_sizes_that_do_not_fit(name, options, frames, reason, entries, small, video_clip):
    model = entries[name].create(small(name, **options))
    with pytest.raises(UsageError, match=reason):
        model.grid(video_clip(name, frames=frames), None)
