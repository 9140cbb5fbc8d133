"""Mode invert: against networks that are known in closed form, against the schedulers' own steps, and refusals."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from support.ltx import LTX, LTXConfig
from support.schedules import noise_schedule
from support.wan import TwoStageWan, Wan, WanConfig

from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import PluginError
from vcorr.contract.modes import Invert
from vcorr.diffusion import running
from vcorr.diffusion.inversion import check_sampler, sample_down, sampler_steps, walk_back
from vcorr.diffusion.latents import decode_video, denormalise_latents, normalise_latents
from vcorr.functional import match


class QueryKey:
    needs = frozenset({"q", "k"})

    def read(self, capture, queries):
        return {-1: match(capture.q, capture.k, capture.grid, queries)}


SPREAD = 0.5
"""Standard deviation of the data that the linear networks were made for."""

COGVIDEOX = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
}
SCHEDULERS = {
    "flow": FlowMatchEulerDiscreteScheduler(),
    "flow, shifted": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "v, no signal left at the top": CogVideoXDDIMScheduler(**COGVIDEOX),
    "v": CogVideoXDDIMScheduler(**COGVIDEOX | {"rescale_betas_zero_snr": False}),
    "epsilon": DDIMScheduler(clip_sample=False, prediction_type="epsilon"),
    "epsilon, trailing": DDIMScheduler(clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=False),
}


def config_of(scheduler):
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


def linear_network(scheduler, schedule):
    """The best prediction there is for data of N(0, SPREAD²), where z = alpha x + sigma eps: linear in z."""

    def predict(latents, step):
        alpha, sigma = float(schedule.alphas[step]), float(schedule.sigmas[step])
        power = alpha**2 * SPREAD**2 + sigma**2
        data, noise = alpha * SPREAD**2 / power, sigma / power
        kind = scheduler.config.get("prediction_type", "flow")
        factor = {"flow": noise - data, "epsilon": noise, "v_prediction": alpha * noise - sigma * data}[kind]
        return factor * latents

    return predict


def there_and_back(scheduler, num_steps):
    schedule = noise_schedule(scheduler, num_steps)
    steps, predict = sampler_steps(scheduler, schedule), linear_network(scheduler, schedule)
    data = SPREAD * torch.randn(1, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = walk_back(data, steps, predict, lambda step: nullcontext())
    again = sample_down(noise, steps, predict)
    top = float(np.sqrt(schedule.alphas[0] ** 2 * SPREAD**2 + schedule.sigmas[0] ** 2))
    return float((again - data).norm() / data.norm()), float((noise - top / SPREAD * data).norm() / noise.norm())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_linear_network_is_inverted_to_rounding(name):
    """And with more steps what is reached goes to where its exact flow ends: the data, as spread out as the noise."""
    few, many, most = (there_and_back(SCHEDULERS[name], count) for count in (10, 100, 1000))
    assert max(few[0], many[0], most[0]) < 1e-9
    assert most[1] < many[1] < few[1]
    assert most[1] < 0.02


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("num_steps", [7, 10])
def test_steps_are_those_of_the_scheduler_itself(name, num_steps):
    """Also where the steps do not divide the timesteps it was trained with, so that levels are not met exactly."""
    scheduler = SCHEDULERS[name]
    steps = sampler_steps(scheduler, noise_schedule(scheduler, num_steps))
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(num_steps)
    generator = torch.Generator().manual_seed(1)
    latents, prediction = torch.randn(2, 1, 4, 3, 2, 2, generator=generator)
    for step, timestep in enumerate(own.timesteps):
        expected = own.step(prediction, timestep, latents, return_dict=False)[0]
        found = steps.down(latents, prediction, step)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(steps.up(found, prediction, step), latents, rtol=1e-3, atol=1e-3)


def test_flow_sigmas_counted_from_noise_to_signal():
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    steps = sampler_steps(scheduler, noise_schedule(scheduler, 5))
    own = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    own.set_timesteps(5)
    latents, prediction = torch.randn(2, 1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    for step, timestep in enumerate(own.timesteps):
        expected = own.step(prediction, timestep, latents, return_dict=False)[0]
        torch.testing.assert_close(steps.down(latents, prediction, step), expected, rtol=1e-4, atol=1e-5)


def test_every_step_is_read_in_one_pass_cleanest_first():
    scheduler = SCHEDULERS["flow"]
    schedule = noise_schedule(scheduler, 6)
    network, passes, opened, inside = linear_network(scheduler, schedule), [], [], []

    def predict(latents, step):
        passes.append((step, bool(inside)))
        return network(latents, step)

    @contextmanager
    def read(step):
        opened.append(step)
        inside.append(step)
        yield
        inside.clear()

    walk_back(torch.ones(1, 1, 1, 1, 1), sampler_steps(scheduler, schedule), predict, read)
    assert opened == [5, 4, 3, 2, 1, 0]
    assert passes == [(5, False), *((step, read) for step in opened for read in (False, True))]
    assert len(passes) + 6 == Invert().passes(RunSettings(num_steps=6))


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (CogVideoXDPMScheduler(), "cannot walk back along CogVideoXDPMScheduler"),
        (EulerDiscreteScheduler(), "cannot walk back along EulerDiscreteScheduler"),
        (DDIMScheduler(), "DDIMScheduler with clip_sample"),
        (DDIMScheduler(clip_sample=False, thresholding=True), "DDIMScheduler with thresholding"),
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), "with stochastic_sampling"),
    ],
)
def test_samplers_that_cannot_be_undone_are_refused_by_name(scheduler, message):
    with pytest.raises(UsageError, match=message) as refused:
        check_sampler(config_of(scheduler), 10)
    assert "--mode renoise" in refused.value.hint


@pytest.mark.parametrize(
    ("scheduler", "num_steps"),
    [
        (CogVideoXDDIMScheduler(**COGVIDEOX), 1),
        (DDIMScheduler(clip_sample=False, prediction_type="sample"), 10),
        (DDIMScheduler(clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing"), 10),
    ],
)
def test_a_step_that_keeps_nothing_of_its_latents_is_refused(scheduler, num_steps):
    with pytest.raises(UsageError, match=r"cannot undo step \d of"):
        sampler_steps(scheduler, noise_schedule(scheduler, num_steps))
    with pytest.raises(UsageError, match=r"cannot undo step \d of"):
        check_sampler(config_of(scheduler), num_steps)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_samplers_that_can_be_undone_pass(name):
    check_sampler(config_of(SCHEDULERS[name]), 2)


def test_a_schedule_of_other_timesteps_is_refused():
    with pytest.raises(PluginError, match="makes other timesteps than the adapter's schedule"):
        sampler_steps(SCHEDULERS["v"], noise_schedule(SCHEDULERS["epsilon"], 10))


class Config(dict):
    pass


class Autoencoder(torch.nn.Module):
    """Makes of three channels of latents the pixels they are."""

    def __init__(self, **config):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.config = Config(config)

    def decode(self, latents):
        return type("Output", (), {"sample": latents})


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"scaling_factor": 0.7},
        {"scaling_factor": 0.7, "shift_factor": -0.2},
        {"latents_mean": [0.1, 0.2, -0.3], "latents_std": [2.0, 0.5, 1.5]},
        {"latents_mean": [0.1, 0.2, -0.3], "latents_std": [2.0, 0.5, 1.5], "scaling_factor": 0.3},
    ],
)
def test_decoding_takes_back_what_encoding_did_to_the_latents(config):
    vae = Autoencoder(**config)
    generator = np.random.default_rng(0)
    video = generator.integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
    pixels = torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    latents = normalise_latents(vae, pixels)
    torch.testing.assert_close(denormalise_latents(vae, latents), pixels)
    np.testing.assert_array_equal(decode_video(vae, latents), video)


def inverted(model, clip, steps, num_steps=4, **options):
    recorder = Recorder({"qk": QueryKey()}, clip.queries)
    assert model.run(clip, RunSettings("invert", steps, num_steps, **options), recorder) is None
    return recorder


@pytest.fixture(scope="module")
def ltx():
    model = LTX(LTXConfig())
    model.load("cpu", "float32", "random:3")
    return model


@pytest.fixture
def clip():
    video = np.random.default_rng(0).integers(0, 256, (9, 64, 96, 3), dtype=np.uint8)
    return Clip("clip", "a red disk", np.float32([[10.5, 20.5], [70.25, 40.0]]), video)


def test_a_flow_model_reads_the_chosen_steps_and_makes_the_video_again(ltx, clip):
    recorder = inverted(ltx, clip, (0, 2, 3))
    assert [(p.layer, p.step) for p in recorder.predictions] == [(la, s) for s in (3, 2, 0) for la in (0, 1)]
    noise = [p.noise for p in recorder.predictions if p.layer == 0]
    assert 0 < noise[0] < noise[1] < noise[2] == pytest.approx(1)
    made = recorder.reconstruction
    assert made.sampler > 40
    assert made.video == pytest.approx(made.autoencoder, abs=0.5)
    again = inverted(ltx, clip, (2,))
    assert again.reconstruction == made  # what is read changes nothing
    wanted = [p.xy for p in recorder.predictions if p.step == 2]
    assert all(np.array_equal(p.xy, xy) for p, xy in zip(again.predictions, wanted, strict=True))


def test_the_noise_that_is_reached_gives_the_video_through_the_pipeline_itself(ltx, clip, monkeypatch):
    """The pipeline, given that noise, no guidance and the same prompt, ends where the way down of this mode ends."""
    reached = []

    def watched(noise, *rest):
        reached.append((noise, rest))
        return sample_down(noise, *rest)

    monkeypatch.setattr(running, "sample_down", watched)
    inverted(ltx, clip, (3,))
    noise, (steps, predict) = reached[0]
    with torch.no_grad():
        expected = sample_down(noise, steps, predict)
    grid = ltx.grid(clip, None)
    packed = ltx.pipe._pack_latents(noise, 1, 1)
    call = {**ltx.call_inputs(clip, grid), "height": 64, "width": 96, "num_frames": 9}
    ends = []
    ltx.pipe(
        **call,
        latents=packed,
        num_inference_steps=4,
        guidance_scale=1.0,
        output_type="latent",
        callback_on_step_end=lambda pipe, step, timestep, tensors: ends.append(tensors["latents"]) or {},
    )
    torch.testing.assert_close(ends[-1], ltx.pipe._pack_latents(expected, 1, 1), rtol=1e-3, atol=1e-3)


def test_denoisers_that_take_turns_are_each_asked_in_their_steps():
    model = TwoStageWan(WanConfig())
    model.load("cpu", "float32", "random:3")
    model.pipe.register_modules(scheduler=FlowMatchEulerDiscreteScheduler())
    video = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)
    clip, asked = Clip("clip", "", np.float32([[10.5, 20.5]]), video), []
    for name in model.denoisers:
        getattr(model.pipe, name).register_forward_hook(lambda *_, name=name: asked.append(name))
    recorder = inverted(model, clip, (0, 5), 6)
    schedule = model.schedule(6, model.grid(clip, None))
    turns = [model.denoiser_at(float(timestep)) for timestep in schedule.timesteps]
    up = [name for name in reversed(turns) for _ in range(2)]
    assert asked[-len(turns) :] == turns
    assert asked[-len(turns) - len(up) : -len(turns)] == up
    assert set(turns) == set(model.denoisers)
    assert {p.step for p in recorder.predictions} == {0, 5}
    assert recorder.reconstruction.sampler > 30


def test_a_sampler_with_memory_is_refused_where_it_is_known():
    model = Wan(WanConfig())
    model.check_settings(RunSettings("invert", (0,), 4))  # without configurations nothing is known before loading
    model.take_sizes({"scheduler": {"_class_name": "UniPCMultistepScheduler"}})
    with pytest.raises(UsageError, match="cannot walk back along UniPCMultistepScheduler"):
        model.check_settings(RunSettings("invert", (0,), 4))
    model.load("cpu", "float32", "random:3")
    with pytest.raises(UsageError, match="cannot walk back along UniPCMultistepScheduler"):
        model.check_settings(RunSettings("invert", (0,), 4))
    model.check_settings(RunSettings("renoise", (0,), 4))


def test_guidance_is_refused(ltx, clip):
    with pytest.raises(UsageError, match="follows the conditional branch alone, not cfg 6"):
        inverted(ltx, clip, (0,), cfg=6.0)
    ltx.check_settings(RunSettings("invert", (0,), 4, cfg=1.0))


def test_an_adapter_that_encodes_in_its_own_way_has_to_decode(ltx):
    class Own(LTX):
        def encode(self, video):
            return super().encode(video)

    model = Own(LTXConfig())
    model.adopt(ltx.pipe, "cpu")
    with pytest.raises(UsageError, match="Own encodes videos in a way of its own"):
        model.check_settings(RunSettings("invert", (0,), 4))
    assert Own.modes == ("renoise", "generate")  # so that a run is refused before anything is loaded

    class Both(Own):
        def decode(self, latents, video_frames):
            return super().decode(latents, video_frames)

    class Told(Own):
        modes = ("renoise",)

    assert (Both.modes, Told.modes) == (("renoise", "generate", "invert"), ("renoise",))


def test_clips_without_video_and_steps_that_are_not_there(ltx, clip):
    with pytest.raises(UsageError, match="has no video to read"):
        inverted(ltx, Clip("clip", "a dog", np.float32([[1, 1]])), (0,))
    with pytest.raises(UsageError, match="Step 4 does not exist"):
        inverted(ltx, clip, (4,))
