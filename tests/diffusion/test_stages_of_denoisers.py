"""A pipeline whose denoisers take turns: each step is read in the one that runs, in both modes."""

import dataclasses

import numpy as np
import pytest
import torch
from support.wan import TwoStageWan, WanConfig

from vcorr import Clip, PluginError, RunSettings
from vcorr.capture.recorder import Recorder
from vcorr.testing import assert_passed, check_model

NUM_STEPS = 6
VIDEO = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
CLIP = Clip(id="clip", prompt="a", queries=np.array([[10.5, 20.5]], dtype=np.float32), video=VIDEO)


class Keeper:
    """Keeps the queries it is shown."""

    needs = frozenset({"q"})

    def __init__(self):
        self.seen = {}

    def read(self, capture, queries):
        self.seen[capture.site.layer, capture.step] = capture.q.clone()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, 2)}


@pytest.fixture(scope="module")
def model():
    model = TwoStageWan(WanConfig(height=32, width=32, frames=5))
    model.load("cpu", "float32", "random")
    return model


def read(model, mode, steps):
    """The queries by layer and step, and which component ran how often."""
    keeper, runs = Keeper(), []
    names = ("transformer", "transformer_2")
    hooks = [getattr(model.pipe, n).register_forward_hook(lambda *_, n=n: runs.append(n)) for n in names]
    try:
        model.run(CLIP, RunSettings(mode, steps, NUM_STEPS), Recorder({"keeper": keeper}, CLIP.queries))
    finally:
        for hook in hooks:
            hook.remove()
    return keeper.seen, runs


def first_stage(model):
    """How many steps the first transformer runs."""
    timesteps = model.schedule(NUM_STEPS, model.grid(CLIP, None)).timesteps
    return int((timesteps >= 900).sum())


def test_both_take_turns_where_the_timesteps_say(model):
    change = first_stage(model)
    assert 0 < change < NUM_STEPS - 1
    steps = tuple(range(NUM_STEPS))
    seen, runs = read(model, "renoise", steps)
    assert runs == ["transformer"] * change + ["transformer_2"] * (NUM_STEPS - change)
    assert sorted(seen) == [(layer, step) for layer in (0, 1) for step in steps]
    seen, runs = read(model, "generate", steps)
    assert runs == ["transformer"] * 2 * change + ["transformer_2"] * 2 * (NUM_STEPS - change)  # two passes per step
    assert sorted(seen) == [(layer, step) for layer in (0, 1) for step in steps]


@pytest.mark.parametrize("mode", ["renoise", "generate"])
def test_a_step_does_not_depend_on_which_others_are_read(model, mode):
    change = first_stage(model)
    together, _ = read(model, mode, tuple(range(NUM_STEPS)))
    for step in (change - 1, change):
        for site, queries in read(model, mode, (step,))[0].items():
            assert torch.equal(queries, together[site])


def test_what_is_read_is_the_one_that_runs(model):
    """The same weights in both give the same reading; other weights in the one that does not run change nothing."""
    early, _ = read(model, "renoise", (0,))
    late, _ = read(model, "renoise", (NUM_STEPS - 1,))
    with torch.no_grad():
        before = {name: value.clone() for name, value in model.pipe.transformer_2.state_dict().items()}
        for parameter in model.pipe.transformer_2.parameters():
            parameter.mul_(2)
    try:
        assert all(torch.equal(q, early[site]) for site, q in read(model, "renoise", (0,))[0].items())
        changed, _ = read(model, "renoise", (NUM_STEPS - 1,))
        assert not any(torch.equal(q, late[site]) for site, q in changed.items())
    finally:
        model.pipe.transformer_2.load_state_dict(before)


def test_an_adapter_that_leaves_one_out_is_refused(model, monkeypatch):
    monkeypatch.setattr(TwoStageWan, "denoisers", ("transformer",))
    with pytest.raises(PluginError, match="Step 5 ran without any of the denoisers that the adapter declares"):
        read(model, "generate", (NUM_STEPS - 1,))
    for name in ("transformer", "transformer_2"):
        module = getattr(model.pipe, name)
        assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())
        assert "cache_context" not in vars(module)


@pytest.mark.parametrize("mode", ["renoise", "generate"])
def test_the_contract_of_models(mode):
    settings = RunSettings(mode, (0, 3, 5), NUM_STEPS)
    config = dataclasses.replace(WanConfig(), height=32, width=32, frames=5)
    assert_passed(check_model(TwoStageWan, CLIP, config=config, settings=settings, text_tokens=0))
