"""Several noise levels of a clip in one pass give what one pass for each of them gives (`RunSettings.noise_batch`)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.small_models import load_small
from vcorr import CaptureError, Clip, RunSettings, Site, TokenGrid, UsageError
from vcorr.capture import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.contract.bases import ProbeBase
from vcorr.diffusion import DiffusersVideoModel
from vcorr.diffusion.borrowed import Passes, join_rows
from vcorr.runner.called_model import CalledModel

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions, once per model

FAMILIES = (
    *("allegro", "animatediff", "cogvideox", "cogvideox-2b-i2v", "cogvideox-5b-i2v", "cosmos-7b", "dift-sd1.5"),
    *("easyanimate", "hunyuanvideo", "hunyuanvideo-1.5", "latte", "ltx-video", "modelscope", "open-sora-1.2"),
    *("open-sora-2.0-i2v", "sana-video", "skyreels-v2-14b-540p", "svd", "wan2.1-1.3b", "wan2.2-5b-i2v"),
)
"""One model of every family whose batch rows may have different noise levels."""
SEVERAL = {"q", "k", "v", "out"}
ROUNDING = 1e-5
"""Largest difference between batched passes and single ones, as a part of the largest value, in float32."""


class Keep(ProbeBase):
    """Keeps parts of every capture, by layer, step and name of the part."""

    def __init__(self, needs):
        self.needs, self.seen = frozenset(needs), {}

    def read(self, capture, queries):
        for name in self.needs:
            self.seen[capture.site.layer, capture.step, name] = getattr(capture, name).float().clone()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def clip_of(model):
    shape = (model.config.frames, model.config.height, model.config.width, 3)
    video = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Clip("clip", "a red disk", np.array([[4, 4]], np.float32), video)


def read(model, settings):
    """Returns all that probes saw, and layer, step, noise and probe of each prediction, in order."""
    rotary = all(site.unrotated is not None for site in model.sites())
    needs = {
        "calls": SEVERAL | ({"q_unrotated", "k_position"} if rotary and model.latent_axes != "fchw" else set()),
        "hidden": {"hidden"},
        "latent": {"latent"},
    }
    probes = {name: Keep(parts) for name, parts in needs.items()}
    clip = clip_of(model)
    recorder = Recorder(probes, clip.queries)
    model.run(clip, settings, recorder)
    seen = {key: value for probe in probes.values() for key, value in probe.seen.items()}
    return seen, [(one.layer, one.step, one.noise, one.probe) for one in recorder.predictions]


def largest(tensor):
    return float(tensor.abs().max()) if tensor.numel() else 0.0


@pytest.mark.parametrize("name", FAMILIES)
def test_each_step_reads_its_own_rows(name):
    """Two steps share a pass and the third has its own."""
    model = load_small(name)
    one, predictions = read(model, RunSettings("renoise", (0, 2, 3), 4))
    both, same = read(model, RunSettings("renoise", (0, 2, 3), 4, noise_batch=2))
    assert same == predictions
    assert both.keys() == one.keys()
    for key, value in one.items():
        apart = largest(both[key] - value)
        assert apart <= ROUNDING * largest(value), key
        if key[2] == "k_position":  # the content of every token is the mean, which hardly depends on the noise
            continue
        others = [largest(one[key[0], step, key[2]] - value) for step in (0, 2, 3) if step != key[1]]
        assert apart < 0.01 * min(others), key
    assert all(torch.equal(both[key], one[key]) for key in one if key[2] == "latent")


def test_steps_of_different_denoisers_share_no_pass():
    model = load_small("wan2.2-a14b-i2v")
    one, predictions = read(model, RunSettings("renoise", (0, 1, 2, 3), 4))
    passes = model.borrow(clip_of(model), model.grid(clip_of(model), None), RunSettings("renoise", (0, 1, 2, 3), 4))
    assert len(set(passes.denoisers)) == 2
    batches = []
    for denoiser in (model.pipe.transformer, model.pipe.transformer_2):
        denoiser.register_forward_pre_hook(
            lambda module, args, kwargs: batches.append(len(kwargs["hidden_states"])), with_kwargs=True
        )
    both, same = read(model, RunSettings("renoise", (0, 1, 2, 3), 4, noise_batch=4))
    groups = passes.groups((0, 1, 2, 3), 4)
    assert len(groups) > 1
    assert batches[-len(groups) :] == [len(steps) for steps in groups]  # before come the borrowed passes
    assert same == predictions
    assert all(largest(both[key] - value) <= ROUNDING * largest(value) for key, value in one.items())


def test_a_model_with_a_call_for_each_row_is_refused():
    model = load_small("mochi")
    settings = RunSettings("renoise", (0, 1), 4, noise_batch=2)
    for refuse in (
        lambda: model.run(clip_of(model), settings, Recorder({}, clip_of(model).queries)),
        lambda: CalledModel.check_settings(SimpleNamespace(_optional=model, name="model 'mochi'"), settings),
    ):
        with pytest.raises(UsageError, match="takes one noise level in a pass, not 2"):
            refuse()


def test_models_of_other_plugins_take_one_level_unless_they_say_more():
    class PerSample(DiffusersVideoModel):
        per_sample = True

    assert DiffusersVideoModel.batches_levels
    assert not PerSample.batches_levels


def passes_of(denoisers):
    return Passes(None, denoisers, {}, {}, None)


@pytest.mark.parametrize(
    ("steps", "most", "groups"),
    [
        ((0, 1, 2, 3), 1, [(0,), (1,), (2,), (3,)]),
        ((0, 1, 2, 3), 3, [(0, 1), (2, 3)]),
        ((0, 3), 8, [(0,), (3,)]),
        ((2, 3), 8, [(2, 3)]),
        ((), 2, []),
    ],
)
def test_groups_keep_the_order_and_the_denoiser(steps, most, groups):
    assert passes_of(["a", "a", "b", "b"]).groups(steps, most) == groups


def test_rows_are_joined_and_all_else_is_kept():
    table = torch.zeros(4, 2)
    same = {"rotary": (table, table), "nested": {"a": torch.ones(1)}, "frames": 5, "nothing": None}
    alone = [
        {"x": torch.full((1, 3), n), "timestep": torch.tensor(n), "text": torch.full((2, 1), n), **same}
        for n in (7.0, 9.0)
    ]
    joined = join_rows(alone, "x", ("text",))
    assert joined["x"].tolist() == [[7] * 3, [9] * 3]
    assert joined["timestep"].tolist() == [7, 9]
    assert joined["text"].flatten().tolist() == [7, 7, 9, 9]
    assert joined["rotary"][0] is table
    assert joined["nested"]["a"].tolist() == [1, 1]
    assert (joined["frames"], joined["nothing"]) == (5, None)


def test_timesteps_of_frames_as_rows_are_repeated_for_each_frame():
    alone = [{"x": torch.zeros(3, 2), "timestep": torch.tensor([n])} for n in (7, 9)]
    assert join_rows(alone, "x")["timestep"].tolist() == [7, 7, 7, 9, 9, 9]


def test_timesteps_of_tokens_stay_with_their_row():
    alone = [{"x": torch.zeros(1, 2), "timestep": torch.tensor([[0, n]])} for n in (7, 9)]
    assert join_rows(alone, "x")["timestep"].tolist() == [[0, 7], [0, 9]]


def test_a_timestep_that_is_a_number_is_refused():
    with pytest.raises(UsageError, match="one timestep for its whole batch"):
        join_rows([{"x": torch.zeros(1, 2), "timestep": n} for n in (7.0, 9.0)], "x")


class Attention(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_a_batch_of_other_rows_than_its_steps_is_an_error():
    network = nn.Sequential(Attention())
    recorder = Recorder({"q": Keep({"q"})}, np.zeros((1, 2), np.float32))
    grid = TokenGrid(frames=2, rows=2, cols=2, stride=(8, 8), video_frames=2)
    rows = torch.zeros(3, 1, 8, 4)
    with (
        pytest.raises(CaptureError, match="the batch has 3 rows"),
        recorder.attach(network, [Site(0, "0")], TokenLayout("none"), grid),
        recorder.steps((0, 1), noise=(0.5, 0.4), arguments=({}, {})),
    ):
        network(rows)
