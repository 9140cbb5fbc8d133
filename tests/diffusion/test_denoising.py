"""The denoising loss is 0 for the output that the scheduler itself takes back to the clean latents."""

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from vcorr.contract.errors import UsageError
from vcorr.diffusion.denoising import denoising_target
from vcorr.diffusion.schedule import noise_levels

NUMBERS = torch.Generator().manual_seed(0)
CLEAN, NOISE = (torch.randn(1, 2, 3, 4, 4, generator=NUMBERS) for _ in range(2))


def set_up(scheduler):
    scheduler.set_timesteps(10)
    return scheduler, noise_levels(scheduler)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("scheduler", [CogVideoXDDIMScheduler, DDIMScheduler])
def test_the_target_leads_back_to_the_clean_latents(scheduler, kind):
    scheduler, schedule = set_up(scheduler(prediction_type=kind, clip_sample=False))
    noisy = schedule.add_noise(CLEAN, NOISE, 6)
    output = denoising_target(scheduler)(schedule, CLEAN, NOISE, 6)
    found = scheduler.step(output, schedule.timesteps[6], noisy).pred_original_sample
    assert torch.allclose(found, CLEAN, atol=1e-4)


def test_the_target_of_sigma_schedulers_leads_back_too():
    scheduler, schedule = set_up(EulerDiscreteScheduler(prediction_type="v_prediction"))
    scaled = schedule.add_noise(CLEAN, NOISE, 6)
    output = denoising_target(scheduler)(schedule, CLEAN, NOISE, 6)
    unscaled = scaled / float(schedule.alphas[6])
    found = scheduler.step(output, scheduler.timesteps[6], unscaled).pred_original_sample
    assert torch.allclose(found, CLEAN, atol=1e-4)


def test_the_velocity_of_flow_matching_ends_at_the_clean_latents():
    scheduler, schedule = set_up(FlowMatchEulerDiscreteScheduler())
    output = denoising_target(scheduler)(schedule, CLEAN, NOISE, 6)
    noisy = schedule.add_noise(CLEAN, NOISE, 6)
    assert torch.allclose(noisy - float(schedule.sigmas[6]) * output, CLEAN, atol=1e-5)


def test_an_unknown_output_is_refused():
    with pytest.raises(UsageError, match="denoising loss"):
        denoising_target(DDIMScheduler(prediction_type="odd"))
