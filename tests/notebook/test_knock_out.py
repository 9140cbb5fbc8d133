"""`vcorr.knock_out` and `vcorr.Knockout` on a pipeline of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.small_models import load_small

import vcorr
from vcorr import Clip, RunSettings, UsageError
from vcorr.capture import intercept

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions
STEPS = 2
CLIP = Clip("clip", "a red disc", np.array([[9, 9]], np.float32))


@pytest.fixture(scope="module")
def model():
    return load_small("cogvideox")


def make(model):
    grid = model.grid(CLIP, None)
    call = {**model.call(CLIP, grid, RunSettings("generate", (), STEPS), "np"), **model.guidance(6.0)}
    return np.asarray(model.pipe(**call).frames[0])


def test_a_call_in_the_block_is_cut_and_later_calls_are_not(model):
    plain = make(model)
    with vcorr.knock_out(model.pipe, 1, layout="cogvideox") as cut:
        both = [make(model) for _ in range(2)]
    assert isinstance(cut, vcorr.Knockout)
    assert np.array_equal(*both)
    assert np.abs(both[0] - plain).max() > 1e-4
    assert np.array_equal(make(model), plain)
    assert "set_timesteps" not in vars(model.pipe.scheduler)


def test_it_is_the_interceptor_at_these_layers(model):
    with vcorr.knock_out(model.pipe, [0, 1], "text", layout="cogvideox", heads=[1], dose=0.5):
        found = make(model)
    edit = vcorr.Knockout("text", {0: (1,), 1: (1,)}, model.grid(CLIP, None), model.layout(), dose=0.5)
    with intercept(model.pipe.transformer, list(model.sites())[:2], edit, layout=model.layout()):
        assert np.array_equal(make(model), found)


def test_steps_are_counted_anew_in_every_call(model):
    with vcorr.knock_out(model.pipe, 1, layout="cogvideox", steps=[0]):
        first = [make(model) for _ in range(2)]
    with vcorr.knock_out(model.pipe, 1, layout="cogvideox", steps=[0, 1]):
        whole = make(model)
    assert np.array_equal(*first)
    assert not np.array_equal(first[0], whole)


def test_a_chosen_step_that_never_ran_is_an_error_and_the_pipeline_is_as_it_was(model):
    plain = make(model)
    with (
        pytest.raises(UsageError, match=r"step 2 never ran, so nothing was cut there; \w+ ran 2 steps"),
        vcorr.knock_out(model.pipe, 1, layout="cogvideox", steps=[0, 2]),
    ):
        make(model)
    assert np.array_equal(make(model), plain)


def test_one_index_needs_no_list_and_may_be_of_numpy(model):
    with vcorr.knock_out(model.pipe, [1], layout="cogvideox", heads=[1], steps=[1]):
        several = make(model)
    with vcorr.knock_out(model.pipe, np.int64(1), layout="cogvideox", heads=1, steps=np.array(1)[()]):
        assert np.array_equal(make(model), several)


def test_heads_are_replaced_where_no_token_is_cut(model):
    def without(call, compute):
        return torch.zeros_like(compute(call))

    with vcorr.knock_out(model.pipe, 1, "head", layout="cogvideox"):
        found = make(model)
    with intercept(model.pipe.transformer, [model.sites()[1]], without, layout=model.layout()):
        assert np.array_equal(make(model), found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layers": 9}, "no layer 9"),
        ({"layers": 1, "heads": [7]}, "Layer 1 has no head 7"),
        ({"layers": 1, "heads": [-1]}, "heads must be indices"),
        ({"layers": ()}, r"knock_out\(\): layers must be indices counted from 0; got none"),
        ({"layers": "1"}, "layers must be indices counted from 0; got '1'"),
        ({"layers": None}, "got None"),
        ({"layers": True}, "got True"),
        ({"layers": 1.0}, r"got 1\.0"),
        ({"layers": 1, "heads": "1"}, r"heads must be indices counted from 0, or \(\) for all; got '1'"),
        ({"layers": 1, "heads": None}, "heads must be indices"),
        ({"layers": 1, "steps": "0-1"}, "steps must be indices counted from 0, or None for all; got '0-1'"),
        ({"layers": 1, "steps": [-1]}, "steps must be indices"),
        ({"layers": 1, "steps": []}, "steps must be indices .* got none"),
        ({"layers": 1, "dose": "0.5"}, "A dose must be a number of at least 0, got '0.5'"),
        ({"layers": 1, "kind": None}, "Unknown kind of knock-out 'None'"),
        ({"layers": 1, "layout": None}, "^layout must be a vcorr.Layout or a model's name, got NoneType"),
        ({"layers": 1, "kind": "frames"}, "frames"),
        ({"layers": 1, "dose": float("nan")}, "A dose must be a number"),
        ({"layers": 1, "layout": "no-model"}, "no-model"),
    ],
)
def test_what_cannot_be_cut_is_refused(model, given, said):
    with pytest.raises(UsageError, match=said), vcorr.knock_out(model.pipe, **{"layout": "cogvideox", **given}):
        pass


def test_a_denoiser_is_no_pipeline(model):
    with (
        pytest.raises(UsageError, match=r"knock_out\(\): expected a diffusers pipeline"),
        vcorr.knock_out(model.pipe.transformer, 1, layout="cogvideox"),
    ):
        pass
