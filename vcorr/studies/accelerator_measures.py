"""Measures that are no run of their own: the denoising loss, and seconds per video in turn with the plain model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vcorr.capture.recorder import Recorder
from vcorr.diffusion.denoising import RenoisedClip
from vcorr.metrics.pixels import psnr
from vcorr.runner.plan import Plan
from vcorr.runner.predict import prepare_clip, sample_clip
from vcorr.runner.track import is_video_kept, read_video
from vcorr.store.rundir import RunDirectory


@dataclass(frozen=True)
class PairedTimes:
    """Seconds per video of an accelerated model and of the plain one, timed in turn in one process.

    seconds, plain: medians. ratio: median over the pairs of accelerated / plain. pairs: their number.
    """

    seconds: float
    plain: float
    ratio: float
    pairs: int


def load_model(plan: Plan) -> None:
    """Loads the model of a plan."""
    plan.live.adapter.load(plan.hardware.device, plan.hardware.dtype, plan.spec.weights)


def measure_losses(plan: Plan, clips: Sequence[str]) -> dict[str, float]:
    """Returns the denoising loss of some clips of a plan of mode renoise, the mean over its steps.

    The loss of a step is the mean square of output - target over all latents (`RenoisedClip.denoise`), with the noise
    of the run.

    Raises:
        UsageError, PluginError, NumericalError: the model cannot be run, or its output is not finite.
    """
    load_model(plan)
    losses = {}
    for clip_id in clips:
        clip = prepare_clip(plan, clip_id).clip
        settings = plan.settings_for(clip_id)
        with plan.parts.model.name.calling("a pass"):
            renoised = RenoisedClip(plan.live.adapter.made, clip, settings)
            each = [renoised.denoise(step, Recorder({}, clip.queries, layers=())) for step in settings.steps]
        losses[clip_id] = float(np.mean(each))
    return losses


def time_in_turn(accelerated: Plan, plain: Plan, pairs: int, *, cold: Sequence[Plan] = ()) -> PairedTimes:
    """Measures seconds per video of the first prompt in one process: plain, accelerated, plain, and so on.

    On a CPU it is the time of the processor, so that other programs do not count; on a GPU the time of the clock.

    cold: plans that have made no video in this process yet; each makes one before, to warm up.
    """
    clock = _device_clock(plain.hardware.device)
    for plan in (plain, accelerated):
        load_model(plan)
    for plan in cold:
        _time_video(plan, clock)
    timed = [(_time_video(plain, clock), _time_video(accelerated, clock)) for _ in range(pairs)]
    return PairedTimes(
        statistics.median(own for _, own in timed),
        statistics.median(other for other, _ in timed),
        statistics.median(own / other for other, own in timed),
        pairs,
    )


def _time_video(plan: Plan, clock: Callable[[], float]) -> float:
    began = clock()
    sample_clip(plan, plan.selection.clips[0])
    return clock() - began


def _device_clock(device: str) -> Callable[[], float]:
    if not device.startswith("cuda"):
        return time.process_time
    import torch

    def read() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


def compare_videos(run: RunDirectory, plain: RunDirectory, clips: Sequence[str]) -> dict[str, float]:
    """Returns the PSNR in dB, by clip, of the videos of two runs; at most 100, which means equal.

    Clips that failed, and videos of another size, have none.
    """
    there = [clip for clip in clips if is_video_kept(run, clip) and is_video_kept(plain, clip)]
    pairs = {clip: (read_video(run, clip), read_video(plain, clip)) for clip in there}
    return {clip: psnr(own, other) for clip, (own, other) in pairs.items() if own.shape == other.shape}
