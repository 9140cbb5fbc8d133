"""The shift of a flow-matching schedule, set on a pipeline."""

import math

import numpy as np
import pytest
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from support.schedules import noise_schedule

from vcorr import UsageError
from vcorr.diffusion.options import shift_schedule


class Pipe:
    """As much of a pipeline as has a scheduler."""

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def register_modules(self, scheduler):
        self.scheduler = scheduler


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=7.0),
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    ],
)
@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_noise_is_shifted_as_asked_and_the_rest_stays(scheduler, shift):
    pipe = Pipe(scheduler)
    before = dict(scheduler.config)
    shift_schedule(pipe, shift)
    even = noise_schedule(pipe.scheduler, 20).noise / shift
    even = even / (1 - (shift - 1) * even)  # undoes t' = s t / (1 + (s - 1) t)
    assert np.allclose(np.diff(even), np.diff(even)[0], atol=3e-3)
    assert even[0] == pytest.approx(1, abs=3e-3)
    now = dict(pipe.scheduler.config)
    assert {name for name in before if before[name] != now[name]} <= {"flow_shift", "shift", "_use_default_values"}


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_a_shift_replaces_the_dynamic_one(shift):
    pipe = Pipe(FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=True))
    before = noise_schedule(pipe.scheduler, 20, mu=1.0).noise
    shift_schedule(pipe, shift)
    fixed = noise_schedule(FlowMatchEulerDiscreteScheduler(shift=shift), 20).noise
    assert np.allclose(noise_schedule(pipe.scheduler, 20, mu=1.0).noise, fixed)
    assert not np.allclose(before, fixed, atol=0.01)


def test_a_schedule_that_is_right_is_left_as_it_is():
    pipe = Pipe(FlowMatchEulerDiscreteScheduler(shift=7.0))
    before = pipe.scheduler
    shift_schedule(pipe, 7.0)
    assert pipe.scheduler is before


@pytest.mark.parametrize("shift", [0.0, -2.0, math.nan, math.inf])
def test_a_shift_that_is_none_is_refused(shift):
    with pytest.raises(UsageError, match="must be above 0"):
        shift_schedule(Pipe(FlowMatchEulerDiscreteScheduler()), shift)


@pytest.mark.parametrize("scheduler", [DDIMScheduler(), UniPCMultistepScheduler()])
def test_a_scheduler_without_a_shift_is_named(scheduler):
    with pytest.raises(UsageError, match=rf"{type(scheduler).__name__} has no shift(.|\n)*model\.flow_shift"):
        shift_schedule(Pipe(scheduler), 3.0)
