"""Noise levels: against the slow formula, at both ends, and for both kinds of schedulers."""

import math

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from support.schedules import noise_schedule

from vcorr import PluginError, UsageError
from vcorr.diffusion.schedule import NoiseSchedule, check_levels, check_step_count

COGVIDEOX = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 3.0,
    "timestep_spacing": "trailing",
}


BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def slow_alphas_cumprod(shift):
    """CogVideoX's alpha² at all 1000 training timesteps, step by step in Python floats."""
    product, kept = 1.0, []
    for t in range(1000):
        root = 0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / 999
        product *= 1 - root**2
        kept.append(product / (shift + (1 - shift) * product))
    roots = [math.sqrt(x) for x in kept]
    return [((r - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2 for r in roots]


def test_cogvideox_levels_are_those_of_the_formula():
    schedule = noise_schedule(CogVideoXDDIMScheduler(**COGVIDEOX), 50)
    assert schedule.timesteps.tolist() == list(range(999, 0, -20))
    kept = slow_alphas_cumprod(3.0)
    for step, t in enumerate(schedule.timesteps.tolist()):
        alpha, sigma = math.sqrt(kept[t]), math.sqrt(1 - kept[t])
        assert schedule.alphas[step] == pytest.approx(alpha, abs=1e-6)
        assert schedule.sigmas[step] == pytest.approx(sigma, abs=1e-6)
        assert schedule.noise[step] == pytest.approx(sigma / (alpha + sigma), abs=1e-6)


def test_zero_terminal_signal_is_noise_alone():
    schedule = noise_schedule(CogVideoXDDIMScheduler(**COGVIDEOX), 50)
    assert schedule.noise[0] == 1.0
    latents, epsilon = torch.full((1, 2, 3, 4, 4), 7.0), torch.randn(1, 2, 3, 4, 4)
    assert torch.equal(schedule.add_noise(latents, epsilon, 0), epsilon)


@pytest.mark.parametrize(
    "scheduler",
    [
        CogVideoXDDIMScheduler(**COGVIDEOX),
        DDIMScheduler(timestep_spacing="linspace"),
        FlowMatchEulerDiscreteScheduler(shift=5.0),
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    ],
    ids=lambda s: type(s).__name__,
)
def test_step_0_is_the_noisiest_and_levels_fall(scheduler):
    schedule = noise_schedule(scheduler, 20)
    assert len(schedule) == 20
    assert ((schedule.noise >= 0) & (schedule.noise <= 1)).all()
    assert (np.diff(schedule.noise) < 0).all()
    assert (np.diff(schedule.timesteps.numpy()) < 0).all()


def test_flow_matching_uses_its_own_sigma():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    schedule = noise_schedule(scheduler, 10)
    assert np.allclose(schedule.noise, schedule.timesteps.numpy() / 1000, atol=1e-6)
    assert np.allclose(schedule.alphas + schedule.sigmas, 1)
    assert schedule.noise[0] == pytest.approx(1)


def test_options_reach_the_scheduler_and_the_scheduler_is_left_alone():
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    before = scheduler.timesteps.clone()
    low, high = (noise_schedule(scheduler, 10, mu=mu).noise for mu in (0.5, 1.5))
    assert (high[1:] > low[1:]).all()
    assert torch.equal(scheduler.timesteps, before)


def config_of(scheduler):
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


def test_more_steps_than_the_scheduler_has():
    config = config_of(CogVideoXDDIMScheduler(**COGVIDEOX))
    check_step_count(config, 1000)
    with pytest.raises(UsageError, match="cannot make 1001 steps: it makes at most 1000"):
        check_step_count(config, 1001)


@pytest.mark.parametrize(
    "scheduler", [FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)]
)
def test_a_scheduler_without_such_a_limit_makes_any_number(scheduler):
    check_step_count(config_of(scheduler), 2000)


def test_nothing_is_checked_where_nothing_is_known():
    check_step_count({}, 2000)
    check_step_count({"_class_name": "SomebodysScheduler", "num_train_timesteps": 1000}, 2000)


def test_an_unknown_kind_of_scheduler_is_refused():
    with pytest.raises(PluginError, match="KDPM2DiscreteScheduler"):
        noise_schedule(KDPM2DiscreteScheduler(), 10)


FAMILIES = {
    "euler": EulerDiscreteScheduler(**BETAS),
    "euler continuous": EulerDiscreteScheduler(
        **BETAS, use_karras_sigmas=True, timestep_type="continuous", prediction_type="v_prediction"
    ),
    "euler ancestral": EulerAncestralDiscreteScheduler(**BETAS),
    "heun": HeunDiscreteScheduler(**BETAS),
    "dpm-solver": DPMSolverMultistepScheduler(**BETAS),
    "dpm-solver karras": DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True),
    "dpm-solver flow": DPMSolverMultistepScheduler(
        **BETAS, use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
    ),
    "dpm-solver single": DPMSolverSinglestepScheduler(**BETAS, lower_order_final=True),
    "unipc": UniPCMultistepScheduler(**BETAS),
    "unipc karras": UniPCMultistepScheduler(**BETAS, use_karras_sigmas=True),
    "deis": DEISMultistepScheduler(**BETAS),
    "ddim": DDIMScheduler(**BETAS),
    "ddpm": DDPMScheduler(**BETAS),
    "pndm": PNDMScheduler(**BETAS),
    "lcm": LCMScheduler(**BETAS),
    "edm euler": EDMEulerScheduler(),
    "edm dpm-solver": EDMDPMSolverMultistepScheduler(sigma_data=1.0),
    "flow heun": FlowMatchHeunDiscreteScheduler(shift=2.0),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_noisy_latents_are_what_the_scheduler_itself_feeds_the_denoiser(name):
    scheduler = FAMILIES[name]
    schedule = noise_schedule(scheduler, 6)
    latents, epsilon = torch.randn(2, 1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(6)
    assert torch.equal(scheduler.timesteps, schedule.timesteps)
    for step, timestep in enumerate(scheduler.timesteps[:6]):
        add = scheduler.add_noise if hasattr(scheduler, "add_noise") else None
        noisy = (
            add(latents, epsilon, timestep[None]) if add else scheduler.scale_noise(latents, timestep[None], epsilon)
        )
        scheduler._step_index = None  # as a loop arrives at this timestep
        fed = scheduler.scale_model_input(noisy, timestep) if hasattr(scheduler, "scale_model_input") else noisy
        assert torch.allclose(schedule.add_noise(latents, epsilon, step), fed, atol=1e-5)
        scheduler._step_index = None
    assert ((schedule.noise > 0) & (schedule.noise <= 1)).all()
    assert (np.diff(schedule.noise) <= 1e-9).all()


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_edm_noise_is_of_latents_with_unit_variance(spread):
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80, sigma_data=spread)
    scheduler.set_timesteps(10)
    sigmas, schedule = scheduler.sigmas[:10].double().numpy(), noise_schedule(scheduler, 10)
    assert np.allclose(schedule.noise, sigmas / (spread + sigmas))
    # one signal-to-noise ratio is one noise level, as in flow matching, whose z = (1 - noise) x + noise eps
    generator = torch.Generator().manual_seed(0)
    signal, noise = (torch.randn(20_000, generator=generator) for _ in range(2))
    mixed = schedule.add_noise(signal * spread, torch.zeros(20_000), 4), schedule.add_noise(signal * 0, noise, 4)
    ratio = float(mixed[1].std() / mixed[0].std())
    assert ratio / (1 + ratio) == pytest.approx(schedule.noise[4], rel=0.03)


@pytest.mark.filterwarnings("ignore:invalid value|divide by zero")
def test_one_step_is_too_few_for_a_schedule_that_ends_at_a_given_noise_level():
    scheduler = FlowMatchEulerDiscreteScheduler(shift_terminal=0.1)
    config = {**scheduler.config, "_class_name": "FlowMatchEulerDiscreteScheduler"}
    with pytest.raises(UsageError, match=r"no noise levels for fewer than 2 steps(.|\n)*num_steps=2"):
        check_step_count(config, 1)
    with pytest.raises(UsageError, match="Scheduler has no noise level at step 0 of 1: it is nan"):
        check_levels(noise_schedule(scheduler, 1), "Scheduler")
    for steps in (2, 3):
        check_step_count(config, steps)
        check_levels(noise_schedule(scheduler, steps), "Scheduler")


def test_flow_matching_that_counts_from_noise_to_signal():
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    schedule = noise_schedule(scheduler, 8)
    clean, epsilon = torch.randn(2, 1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(8)
    sample = schedule.add_noise(clean, epsilon, 0)
    for step, timestep in enumerate(scheduler.timesteps):  # a denoiser that knows the way: velocity = clean - epsilon
        assert torch.allclose(sample, schedule.add_noise(clean, epsilon, step), atol=1e-5)
        sample = scheduler.step(clean - epsilon, timestep, sample).prev_sample
    assert torch.allclose(sample, clean, atol=1e-5)
    assert schedule.noise[0] == pytest.approx(1)


@pytest.mark.parametrize("step", [-1, 10, 99])
def test_steps_out_of_range(step):
    schedule = noise_schedule(FlowMatchEulerDiscreteScheduler(), 10)
    with pytest.raises(UsageError, match="10 steps, 0 to 9"):
        schedule.check(step)


def test_a_schedule_of_unequal_lengths_is_refused():
    with pytest.raises(PluginError, match="2 timesteps, 3 alphas"):
        NoiseSchedule(torch.zeros(2), np.zeros(3), np.zeros(2))


def test_noise_is_mixed_in_float32_and_keeps_the_dtype():
    schedule = noise_schedule(CogVideoXDDIMScheduler(**COGVIDEOX), 50)
    latents, epsilon = torch.randn(1, 2, 1, 2, 2).bfloat16(), torch.randn(1, 2, 1, 2, 2)
    mixed = schedule.add_noise(latents, epsilon, 25)
    expected = schedule.alphas[25] * latents.double() + schedule.sigmas[25] * epsilon.double()
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, expected.float().bfloat16())
