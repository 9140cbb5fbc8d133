"""Generate mode: the pipeline's own video, and the right pass, row and step read while it is made."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.ltx import LTX, LTXConfig
from support.wan import Wan, WanConfig

from vcorr import CaptureError, Clip, PluginError, RunSettings, Site, TokenGrid, UsageError
from vcorr.capture.captures import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.capture.tap import Tap, observing
from vcorr.diffusion.sampling import SamplingWatch, frames_of
from vcorr.testing import assert_passed, check_model

MODELS = {"ltx": (LTX, LTXConfig(), 10), "wan": (Wan, WanConfig(), 4)}


class Keeper:
    """A probe that keeps the queries it is shown."""

    needs = frozenset({"q"})
    readout = "free"

    def __init__(self):
        self.seen = {}

    def read(self, capture, queries):
        self.seen[capture.site.layer, capture.step] = capture.q.flatten(1, 3).clone()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, 2)}


def prompt_clip(clip_id="clip"):
    return Clip(id=clip_id, prompt="a red disk", queries=np.array([[10.5, 20.5]], dtype=np.float32))


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    kind, config, steps = MODELS[request.param]
    model = kind(config)
    model.load("cpu", "float32", "random:1")
    return model, steps


@pytest.fixture(scope="module")
def wan():
    model = Wan(WanConfig())
    model.load("cpu", "float32", "random:1")
    return model


def generate(model, steps, num_steps, clip=None, **settings):
    """The video, the predictions, and the queries seen by layer and step."""
    clip, keeper = clip or prompt_clip(), Keeper()
    recorder = Recorder({"keeper": keeper}, clip.queries)
    video = model.run(clip, RunSettings("generate", steps, num_steps, **settings), recorder)
    return video, recorder.predictions, keeper.seen


def own_call(model, num_steps, seed=42, **more):
    """The pipeline called by hand: its video, and the queries of every attention call in order."""
    calls, clip = [], prompt_clip()
    grid = model.grid(clip, None)
    names = [site.name for site in model.sites()]
    with Tap(model.pipe.transformer, names, observing(lambda call: calls.append((call.name, call.q.clone())))):
        output = model.pipe(
            **model.call_inputs(clip, grid),
            height=round(grid.height),
            width=round(grid.width),
            num_frames=grid.video_frames,
            num_inference_steps=num_steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
            **more,
        )
    return np.rint(output.frames[0] * 255).astype(np.uint8), calls


@pytest.mark.parametrize("guidance", [None, 1.0])
def test_the_pipelines_own_video_and_its_conditional_branch(case, guidance):
    model, num_steps = case
    chosen = (1, num_steps - 1)
    video, predictions, seen = generate(model, chosen, num_steps, cfg=guidance)
    expected, calls = own_call(model, num_steps, **({} if guidance is None else {"guidance_scale": guidance}))
    assert (video.dtype, video.shape) == (np.uint8, expected.shape)
    assert np.array_equal(video, expected)
    assert sorted((p.layer, p.step) for p in predictions) == [(la, s) for la in (0, 1) for s in chosen]

    batched = model.branches == ("uncond", "cond")
    passes = 1 if batched or guidance == 1 else 2
    assert len(calls) == num_steps * passes * 2
    for (layer, step), q in seen.items():
        name, whole = calls[step * passes * 2 + layer]  # the conditional pass comes first where there are two
        assert name == model.sites()[layer].name
        assert len(whole) == (2 if batched and guidance is None else 1)
        assert torch.equal(q, whole[-1])


def test_noise_levels_are_those_of_renoise_mode(case):
    model, num_steps = case
    levels = model.schedule(num_steps, model.grid(prompt_clip(), None)).noise
    _, predictions, _ = generate(model, (0, num_steps - 1), num_steps)
    assert {p.step: p.noise for p in predictions} == {s: pytest.approx(levels[s]) for s in (0, num_steps - 1)}


def test_samples_repeat_and_every_clip_has_the_same_seed(wan):
    first, again = generate(wan, (0,), 2)[0], generate(wan, (0, 1), 2)[0]
    assert np.array_equal(first, again)
    assert np.array_equal(first, generate(wan, (0,), 2, prompt_clip("another"))[0])
    assert not np.array_equal(first, generate(wan, (0,), 2, seed=1)[0])


def test_the_global_generator_is_left_alone(wan):
    state = torch.get_rng_state()
    generate(wan, (0,), 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_short_video_of_the_clip_does_not_shorten_what_is_made(wan):
    short = dataclasses.replace(prompt_clip(), video=np.zeros((5, 32, 48, 3), dtype=np.uint8))
    assert generate(wan, (0,), 1, short)[0].shape == (9, 32, 48, 3)


def test_the_contract_in_generate_mode():
    settings = RunSettings("generate", (0, 2), 3)
    assert_passed(check_model(Wan, prompt_clip(), config=WanConfig(), settings=settings, text_tokens=0))


@pytest.mark.parametrize("guidance", [-1.0, float("nan"), float("inf")])
def test_guidance_must_be_a_strength(wan, guidance):
    with pytest.raises(UsageError, match="at least 0"):
        generate(wan, (0,), 2, cfg=guidance)


@pytest.mark.parametrize("whole", [True, False], ids=["torch.compile", "module.compile"])
def test_a_compiled_denoiser_is_captured(wan, whole):
    video, _, seen = generate(wan, (1,), 2)
    compiled = Wan(WanConfig())
    compiled.load("cpu", "float32", "random:1")
    if whole:
        compiled.pipe.transformer = torch.compile(compiled.pipe.transformer, backend="eager")
    else:
        compiled.pipe.transformer.compile(backend="eager")
    found, _, captured = generate(compiled, (1,), 2)
    assert np.array_equal(video, found)
    assert all(torch.equal(seen[site], captured[site]) for site in seen)
    assert "cache_context" not in vars(compiled.pipe.transformer)


class Denoiser(torch.nn.Module):
    """One attention module; labels passes only when asked to."""

    def __init__(self):
        super().__init__()
        self.attn = Attention()
        self.proj = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.attn(x)


class Attention(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


POINT, GRID = np.zeros((1, 2), dtype=np.float32), TokenGrid(2, 1, 2, (8, 8), temporal_ratio=1)


def attached(recorder, denoiser, **layout):
    return recorder.attach(denoiser, [Site(0, "attn", 1)], TokenLayout(**layout), GRID)


@pytest.mark.parametrize(
    ("order", "values", "read"),
    [
        ((), [1], 1),
        (("cond", "uncond"), [1, 2], 1),
        (("uncond", "cond"), [1, 2], 2),
        (("cond", "uncond"), [1], 1),
    ],
)
def test_passes_without_labels_are_known_by_their_order(order, values, read):
    denoiser, keeper = Denoiser(), Keeper()
    recorder = Recorder({"keeper": keeper}, POINT)
    with attached(recorder, denoiser, passes=order), SamplingWatch(recorder, {1: 0.5}) as watch:
        for index in range(3):
            for value in values:
                denoiser(torch.full((1, 1, 4, 4), float(value + 10 * index)))
            assert watch.end_step(None, index, torch.tensor(9 - index), {}) == {}
    assert {site: float(q.flatten()[0]) for site, q in keeper.seen.items()} == {(0, 1): 10 + read}
    assert [(p.step, p.noise) for p in recorder.predictions] == [(1, 0.5)]
    assert not denoiser._forward_hooks
    assert not denoiser._forward_pre_hooks


class Scheduler:
    def step(self, prediction, timestep, sample):
        return sample - prediction


class Pipe:
    """A pipeline without a callback at the end of a step."""

    def __init__(self):
        self.scheduler, self.denoiser = Scheduler(), Denoiser()

    def __call__(self, steps, passes=1):
        latents = torch.ones(1, 1, 4, 4)
        for index in range(steps):
            for _ in range(passes):
                prediction = self.denoiser(latents)
            latents = self.scheduler.step(prediction, torch.tensor(9 - index), latents)
        return latents


def test_without_a_callback_the_scheduler_tells_the_end_of_a_step():
    pipe, keeper = Pipe(), Keeper()
    recorder = Recorder({"keeper": keeper}, POINT)
    with torch.no_grad():
        plain = pipe(3, 2)
        with (
            attached(recorder, pipe.denoiser, passes=("uncond", "cond")),
            SamplingWatch(recorder, {0: 0.9, 2: 0.5}) as watch,
            watch.follow_steps(pipe) as callback,
        ):
            assert callback == {}
            assert torch.equal(plain, pipe(3, 2, **callback))
            passes = dict(recorder.watch.seen)
    assert [(p.step, round(p.noise, 3)) for p in recorder.predictions] == [(0, 0.9), (2, 0.5)]
    assert passes == {"uncond": 3, "cond": 3}
    watch.check(torch.tensor([9, 8, 7]))
    assert "step" not in vars(pipe.scheduler)
    with (
        pytest.raises(ZeroDivisionError),
        attached(recorder, pipe.denoiser),
        SamplingWatch(recorder, {}).follow_steps(pipe),
    ):
        raise ZeroDivisionError
    assert "step" not in vars(pipe.scheduler)


def test_passes_that_nothing_tells_apart_are_refused():
    denoiser = Denoiser()
    recorder = Recorder({"keeper": Keeper()}, POINT)
    with attached(recorder, denoiser), SamplingWatch(recorder, {0: 0.5}) as watch:
        denoiser(torch.ones(1, 1, 4, 4))
        with pytest.raises(CaptureError, match=r"twice(.|\n)*TokenLayout\(passes="):
            denoiser(torch.ones(1, 1, 4, 4))
        watch.end_step(None, 0, torch.tensor(9), {})
    assert not denoiser._forward_hooks
    assert not denoiser._forward_pre_hooks


def test_nothing_is_left_behind_after_an_error(wan):
    class Failing(Keeper):
        def read(self, capture, queries):
            raise RuntimeError("probe")

    recorder = Recorder({"failing": Failing()}, prompt_clip().queries)
    with pytest.raises(PluginError, match=r"failed in read\(\): RuntimeError: probe"):
        wan.run(prompt_clip(), RunSettings("generate", (0,), 2), recorder)
    transformer = wan.pipe.transformer
    assert not transformer._forward_hooks
    assert not transformer._forward_pre_hooks
    assert "cache_context" not in vars(transformer)


def test_a_schedule_that_is_not_the_pipelines_is_refused(wan, monkeypatch):
    other = wan.schedule(3, wan.grid(prompt_clip(), None))
    monkeypatch.setattr(wan, "schedule", lambda num_steps, grid: other)
    with pytest.raises(PluginError, match=r"sampled 2 steps, 999 to .*; the adapter's schedule has 3"):
        generate(wan, (0,), 2)


def test_videos_of_another_size_or_without_numbers_are_refused(wan):
    grid = wan.grid(prompt_clip(), None)
    with pytest.raises(PluginError, match="shape"):
        frames_of(SimpleNamespace(frames=[np.zeros((9, 32, 32, 3))]), grid)
    broken = np.zeros((9, 32, 48, 3), dtype=np.float32)
    broken[3] = np.nan
    with pytest.raises(UsageError, match="float32"):
        frames_of(SimpleNamespace(frames=[broken]), grid)
