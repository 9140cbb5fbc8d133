"""Tests of what the encoders of a pipeline have computed and is kept: embedded prompts, and latents of videos."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.small_models import load_small
from vcorr import Clip, RunSettings
from vcorr.capture.recorder import Recorder
from vcorr.diffusion.kept_inputs import MOST_PROMPTS, KeptInputs, content_of
from vcorr.diffusion.options import tile_autoencoder

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions, once per model

SETTINGS = RunSettings("renoise", (0, 2), 3)


def load_tiny():
    """Returns the one model whose random weights have a text encoder, for the smallest videos that it can make."""
    return load_small("tiny", height=32, width=32, frames=9)


@pytest.fixture
def model():
    return load_tiny()


class Keep:
    """A probe that keeps the queries and keys of all sites."""

    needs = frozenset({"q", "k"})

    def __init__(self):
        self.seen = []

    def read(self, capture, queries):
        self.seen += [capture.q.clone(), capture.k.clone()]
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def clip_of(model, name="clip", prompt="a red disk", seed=0):
    shape = (model.config.frames, model.config.height, model.config.width, 3)
    video = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Clip(name, prompt, np.array([[4, 4]], np.float32), video)


def read(model, clip, settings=SETTINGS):
    """Returns queries and keys of all sites and steps."""
    keep = Keep()
    model.run(clip, settings, Recorder({"keep": keep}, clip.queries))
    return keep.seen


def latents(model, clip):
    with torch.no_grad():
        return model.encode_clip(clip, clip.video)


def equal(left, right):
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize("prompt", ["a red disk", ""])
def test_a_second_run_encodes_nothing_and_reads_the_same_bits(model, prompt):
    clip = clip_of(model, prompt=prompt)
    first = read(model, clip)
    counts = model.kept_inputs.embedded, model.kept_inputs.encoded
    assert counts == (1, 1)
    again = read(model, clip)
    assert (model.kept_inputs.embedded, model.kept_inputs.encoded) == counts
    assert equal(first, again)
    assert equal(first, read(load_tiny(), clip))


def test_clips_share_the_embedding_of_a_prompt_and_not_their_latents(model):
    one, other = clip_of(model), clip_of(model, "other", seed=1)
    read(model, one)
    assert equal(read(model, other), read(load_tiny(), other))
    assert (model.kept_inputs.embedded, model.kept_inputs.encoded) == (1, 2)
    read(model, clip_of(model, prompt="a blue square"))
    assert (model.kept_inputs.embedded, model.kept_inputs.encoded) == (2, 2)


def test_generated_videos_are_the_same_with_kept_prompts(model):
    clip, settings = clip_of(model), RunSettings("generate", (0,), 2)
    videos = [model.run(clip, settings, Recorder({}, clip.queries)) for _ in range(2)]
    embedded = model.kept_inputs.embedded
    assert np.array_equal(*videos)
    model.run(clip, settings, Recorder({}, clip.queries))
    assert model.kept_inputs.embedded == embedded


def change_weights(model):
    with torch.no_grad():
        for network in (model.pipe.vae, model.pipe.text_encoder):
            for parameter in network.parameters():
                parameter.mul_(1.5)


def change_dtype(model):
    for network in (model.pipe.vae, model.pipe.text_encoder):
        nn.Module.to(network, torch.float64)


@pytest.mark.parametrize("change", [change_weights, change_dtype])
def test_other_weights_and_another_dtype_are_encoded_again(model, change):
    clip = clip_of(model)
    read(model, clip)
    change(model)
    found = latents(model, clip)
    with torch.no_grad(), model.keeping_prompts():
        model.pipe.encode_prompt(clip.prompt, do_classifier_free_guidance=False)
        expected = model.encode(clip.video)
    assert torch.equal(found, expected)
    assert (model.kept_inputs.embedded, model.kept_inputs.encoded) == (2, 2)


def change_configuration(model):
    model.pipe.vae.register_to_config(scaling_factor=2 * model.pipe.vae.config.scaling_factor)


def tile_in_halves(model):
    tile_autoencoder(model.pipe)
    model.pipe.vae.tile_sample_min_height = model.pipe.vae.tile_sample_min_width = model.config.height // 2


@pytest.mark.parametrize("stills", [False, True])
@pytest.mark.parametrize("change", [change_weights, change_dtype, change_configuration, tile_in_halves])
def test_whatever_changes_the_autoencoder_changes_videos_and_stills(model, change, stills):
    clip = replace(clip_of(model), stills=stills)
    before = latents(model, clip)
    change(model)
    found = latents(model, clip)
    model.adopt(model.pipe, "cpu")  # nothing is kept
    expected = latents(model, clip)
    assert found.shape == expected.shape
    assert torch.equal(found, expected)
    assert before.shape != expected.shape or not torch.equal(before, expected)


def test_a_trackers_chunks_are_embedded_again_with_other_weights(model):
    chunk = replace(clip_of(model), stills=True)
    read(model, chunk)
    change_weights(model)
    found = read(model, chunk)
    model.adopt(model.pipe, "cpu")  # nothing is kept
    assert equal(found, read(model, chunk))


def test_what_an_autoencoder_notes_while_it_works_is_no_setting():
    model = load_small("wan2.1-1.3b")  # it counts its convolutions at the first video
    for seed in (0, 1, 0, 1):
        latents(model, clip_of(model, seed=seed))
    assert model.kept_inputs.encoded == 2


def test_settings_of_a_network_in_the_autoencoder_count():
    model = load_small("open-sora-1.2")  # its autoencoder has an autoencoder of images inside
    latents(model, clip_of(model))
    tile_autoencoder(model.pipe)
    latents(model, clip_of(model))
    assert model.kept_inputs.encoded == 2


def test_tiles_of_the_autoencoder_are_encoded_again(model):
    clip = clip_of(model)
    latents(model, clip)
    tile_autoencoder(model.pipe)
    model.pipe.vae.tile_sample_min_height = model.pipe.vae.tile_sample_min_width = model.config.height // 2
    latents(model, clip)
    model.pipe.vae.tile_sample_min_height = model.config.height
    latents(model, clip)
    assert model.kept_inputs.encoded == 3


def test_the_same_bytes_at_another_resolution_are_encoded_again():
    kept, pipe = KeptInputs(), pipeline()
    wide = np.zeros((1, 4, 8, 3), np.uint8)
    for video in (wide, wide.reshape(1, 8, 4, 3)):
        assert encode_with(kept, pipe, video).shape == torch.Size(video.shape)
    assert kept.encoded == 2


def test_a_network_that_is_exchanged_or_loaded_again_is_asked_again(model):
    clip = clip_of(model)
    read(model, clip)
    model.adopt(model.pipe, "cpu")
    read(model, clip)
    assert (model.kept_inputs.embedded, model.kept_inputs.encoded) == (1, 1)
    model.pipe.register_modules(vae=load_tiny().pipe.vae)
    read(model, clip)
    assert (model.kept_inputs.embedded, model.kept_inputs.encoded) == (1, 2)


def pipeline(encode_prompt=None):
    pipe = SimpleNamespace(components={"vae": nn.Linear(1, 1), "text_encoder": nn.Linear(1, 1)})
    if encode_prompt is not None:
        pipe.encode_prompt = encode_prompt
    return pipe


def encode_with(kept, pipe, video):
    with torch.no_grad():
        return kept.latents(pipe, "cpu", video, lambda pixels: torch.from_numpy(pixels).double())


def test_latents_have_a_limit_and_those_used_last_stay():
    videos = [np.full((1, 2, 2, 3), value, np.uint8) for value in range(3)]
    kept, pipe = KeptInputs(most_bytes=2 * 12 * 8), pipeline()
    for index in (0, 1, 0, 2, 0):
        encode_with(kept, pipe, videos[index])
    assert kept.encoded == 3
    encode_with(kept, pipe, videos[1])
    assert kept.encoded == 4


def test_who_writes_into_what_is_kept_changes_it_for_nobody_else():
    kept, pipe = KeptInputs(), pipeline(lambda prompt: (torch.zeros(2), None))
    video = np.zeros((1, 2, 2, 3), np.uint8)
    for _ in range(3):
        with torch.no_grad(), kept.keeping_prompts(pipe, ()):
            embedding, nothing = pipe.encode_prompt("a")
        assert nothing is None
        for tensor in (embedding, encode_with(kept, pipe, video)):
            assert not tensor.any()
            tensor.add_(1)
    assert (kept.embedded, kept.encoded) == (1, 1)


def test_arguments_that_are_no_plain_values_are_embedded_every_time():
    kept, pipe = KeptInputs(), pipeline(lambda prompt, image=None, number=1: torch.zeros(2))
    with torch.no_grad(), kept.keeping_prompts(pipe, ()):
        for arguments in ({"prompt": "a"}, {"prompt": ["a"]}, {"prompt": "a", "number": True}, {"prompt": "a"}):
            pipe.encode_prompt(**arguments)
        assert kept.embedded == 3
        for _ in range(2):
            pipe.encode_prompt("a", image=torch.zeros(1))
    assert kept.embedded == 5


def test_gradients_are_not_kept():
    weight = nn.Parameter(torch.ones(2))
    kept, pipe = KeptInputs(), pipeline(lambda prompt: weight * 2)
    with kept.keeping_prompts(pipe, ()):
        pipe.encode_prompt("a").sum().backward()
        pipe.encode_prompt("a").sum().backward()
    assert torch.equal(weight.grad, torch.full((2,), 4.0))


def test_prompts_have_a_limit():
    kept, pipe = KeptInputs(), pipeline(lambda prompt: torch.zeros(2))
    with torch.no_grad(), kept.keeping_prompts(pipe, ()):
        for number in (*range(MOST_PROMPTS + 1), MOST_PROMPTS, 0):
            pipe.encode_prompt(str(number))
    assert kept.embedded == MOST_PROMPTS + 2


@pytest.mark.parametrize("own", [None, lambda prompt: torch.zeros(2)])
def test_the_pipeline_is_left_as_it_was(own):
    kept, pipe = KeptInputs(), pipeline(own)
    before = dict(vars(pipe))
    with pytest.raises(KeyError), kept.keeping_prompts(pipe, ()):
        raise KeyError
    assert vars(pipe) == before


def test_the_content_of_a_video_is_its_pixels_and_their_shape() -> None:
    video = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    wide = np.repeat(video, 2, axis=2)
    assert content_of(wide[:, :, ::2]) == content_of(video)  # memory in another order
    changed = video.copy()
    changed[1, 3, 5, 2] += 1
    others = [changed, video.reshape(4, 2, 6, 3), video[:1], video[:, :, :, ::-1]]
    assert len({content_of(one) for one in [video, *others]}) == 5
