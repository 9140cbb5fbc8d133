"""Tests the embedded model in mode generate."""

import dataclasses

import numpy as np
import pytest
from vcorr_tiny.model import Tiny

from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.diffusion import VideoConfig
from vcorr.functional import match
from vcorr.plugins.registry import installed
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec

PROMPT = Clip(id="p", prompt="a red disk", queries=np.array([[10.5, 20.5], [40, 64]], dtype=np.float32))


class QueryKey:
    needs = frozenset({"q", "k"})

    def read(self, capture, queries):
        return {-1: match(capture.q, capture.k, capture.grid, queries)}


@pytest.fixture(scope="module")
def model():
    model = Tiny(VideoConfig(height=64, width=64, frames=9))
    model.load("cpu", "float32", "hub")
    return model


def generate(model, steps, clip=PROMPT, **settings):
    recorder = Recorder({"qk": QueryKey()}, clip.queries, layers={2, 5})
    return model.run(clip, RunSettings("generate", steps, 4, **settings), recorder), recorder.predictions


def test_what_it_generates_repeats_and_is_read_on_the_way(model):
    video, predictions = generate(model, (0, 3))
    assert (video.shape, video.dtype) == ((9, 64, 64, 3), np.uint8)
    assert sorted((p.layer, p.step) for p in predictions) == [(2, 0), (2, 3), (5, 0), (5, 3)]
    again, fewer = generate(model, (3,))
    assert np.array_equal(video, again)
    last = [p.xy for p in predictions if p.step == 3]
    assert all(np.array_equal(one, other.xy) for one, other in zip(last, fewer, strict=True))


def test_the_prompt_and_guidance_count(model):
    video, _ = generate(model, (0,))
    other, _ = generate(model, (0,), dataclasses.replace(PROMPT, prompt="a blue square"))
    without, _ = generate(model, (0,), cfg=1.0)
    assert not np.array_equal(video, other)
    assert not np.array_equal(video, without)


def test_a_length_it_cannot_make_is_one_error_before_anything_runs(model):
    spec = RunSpec(model="tiny", probe="qk", prompt="a red disk", mode="generate", options={"model": {"frames": 5}})
    with pytest.raises(UsageError, match="cannot make 5 frames from 2 latent frames"):
        make_plan(spec, installed())
    short = Tiny(VideoConfig(height=64, width=64, frames=5))
    short.adopt(model.pipe, "cpu")
    with pytest.raises(UsageError, match="cannot make 5 frames from 2 latent frames"):
        generate(short, (0,))


def test_a_prompt_that_is_too_long_is_refused(model):
    with pytest.raises(UsageError, match=r"tokens; Tiny \(embedded\) reads 32"):
        generate(model, (0,), dataclasses.replace(PROMPT, prompt="a red disk " * 20))
