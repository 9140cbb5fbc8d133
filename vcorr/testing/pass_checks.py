"""Compares the passes of renoise mode with the passes that the pipeline itself makes while it samples.

Shape legend: C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vcorr.capture.passes import Pass, PassListener, PassWatch
from vcorr.capture.recorder import Recorder
from vcorr.capture.split import CONDITIONAL
from vcorr.contract.bases import GuidanceBase
from vcorr.contract.entries import Entry
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import PERTURBED, GuidedSite, GuidedStep, Perturbation
from vcorr.contract.records import Clip, RunSettings
from vcorr.diffusion.adapter import DiffusersVideoModel
from vcorr.diffusion.borrowed import parameters
from vcorr.diffusion.latents import clip_noise
from vcorr.diffusion.schedule import NoiseSchedule, noise_levels
from vcorr.testing.report import Report, expect, make, run_checks

NUM_STEPS = 4
STEPS = (0, 2, 3)
GUIDANCE = 4.0


def check_passes(
    model: Any,
    clip: Clip,
    *,
    config: Any = None,
    weights: str = "random",
    device: str = "cpu",
    dtype: str = "float32",
    skip: Collection[str] = (),
) -> Report:
    """Checks that an adapter of a diffusers pipeline makes the same passes in renoise mode as the pipeline itself.

    The pipeline samples with guidance in generate mode, and every pass of its denoiser is stored. Then the same steps
    run in renoise mode. Every argument except the latents must equal the argument of the conditional pass of that
    step. The latents must enter the denoiser as in the pipeline; this is checked with the pipeline's own latents.
    Noise levels are compared with the tensors that arrive at the denoiser.

    Args:
        model: a ModelEntry, or a class, of a `vcorr.diffusion.DiffusersVideoModel`.
        clip: with a video of the size that the model takes and generates.
        config: options of the adapter; the defaults when None.
        weights: passed to `load`, like device and dtype.
        device: where to run.
        dtype: of the model.
        skip: names of checks to leave out.
    """
    label = model.label if isinstance(model, Entry) else model.__name__
    suite = _PassSuite(model, config, clip, (device, dtype, weights))
    return run_checks(
        label,
        [
            ("arguments are the pipeline's own, at every step", suite.arguments),
            ("latents enter the denoiser as in the pipeline", suite.latents),
            ("the pass is the conditional branch", suite.branch),
            ("renoise and generate have the same schedule", suite.schedule),
            ("the video gets the noise level of the step", suite.noise),
            ("the pipeline is not changed", suite.side_effects),
            ("a guidance's further prediction equals a whole pass", suite.further),
        ],
        skip,
    )


@dataclass(frozen=True)
class _Pass:
    """One pass of a denoiser: the component, the name of the latents' argument, the branches, the arguments by name."""

    denoiser: str
    latents: str
    branches: tuple[str, ...]
    arguments: Mapping[str, Any]


class _PassSuite:
    def __init__(self, model: Any, config: Any, clip: Clip, where: tuple[str, str, str]) -> None:
        self._part, self._config, self._clip, self._where = model, config, clip, where

    def arguments(self) -> str:
        for step, ours in zip(STEPS, self._renoised, strict=True):
            theirs = self._own(step)
            expect(ours.denoiser == theirs.denoiser, f"step {step} runs {ours.denoiser} instead of {theirs.denoiser}.")
            names = (set(ours.arguments), set(theirs.arguments))
            expect(names[0] == names[1], f"step {step}: arguments {sorted(names[0])} instead of {sorted(names[1])}.")
            for name, value in ours.arguments.items():
                if name != ours.latents:
                    _expect_equal(f"step {step}: {name}", value, theirs.arguments[name])
        return f"{len(self._own(0).arguments)} arguments, {len(STEPS)} steps"

    def latents(self) -> str:
        passes = self._borrowed
        for step in STEPS:
            own = self._own(step)
            theirs = own.arguments[own.latents]
            latents = self._model.as_latents(theirs, self._encoded)
            made = passes.inputs(latents, step)
            _expect_equal(f"step {step}: {own.latents}", made[own.latents], theirs)
            self._expect_read(step, latents)
        self._expect_kept()
        return " x ".join(map(str, theirs.shape))

    def _expect_read(self, step: int, latents: Tensor) -> None:
        """Expects that probes read the latents of the conditional branch, without channels of a condition."""
        found = next(one for one in self._sampled[step] if CONDITIONAL in one.branches)
        read = self._model.latents_in(found.arguments, found.latents, self._grid)
        expect(
            read.shape == latents.shape,
            f"`latents_in` returns latents of shape {tuple(read.shape)}, `encode` of {tuple(latents.shape)}: the "
            "adapter's `latent_channels` or the latents of a token in its `compression` are wrong.",
        )
        _expect_equal(f"step {step}: `latents_in`", read, latents)

    def _expect_kept(self) -> None:
        """Expects that values which the pipeline never changes, such as an image, are the same in renoise mode."""
        sampled = [self._own(step) for step in range(NUM_STEPS)]
        for ours in self._renoised:
            same = [each.arguments[each.latents] for each in sampled if each.denoiser == ours.denoiser]
            given, found = _unchanging(same), ours.arguments[ours.latents]
            if len(same) < 2 or found.shape != given.shape:
                continue
            lost = float((given & (found != same[0])).double().mean())
            # an image fills a whole frame; in half precision, rounding keeps a few latents equal from step to step
            expect(
                lost <= 0.5 / self._grid.frames,
                f"{lost:.0%} of the values of {ours.latents} are the same at every step of the pipeline, like an image "
                "condition, but differ in renoise mode. `denoiser_input` has to keep these values of `own`.",
            )

    def branch(self) -> str:
        own, other = self._own(0), self._other(0)
        if other is None:
            return "the pipeline runs one branch"
        same = all(
            _difference(own.arguments[name], other.arguments.get(name)) == ""
            for name in own.arguments
            if name != own.latents
        )
        expect(
            not same,
            "both guidance branches get the same arguments, so the check cannot find out which one is conditional.",
        )
        return (
            ", ".join(self._model.branches if len(self._model.branches) > 1 else self._model.passes)
            or "labelled passes"
        )

    def schedule(self) -> str:
        sampled, ours = self._sampled_schedule, self._borrowed.schedule
        for name, found in (("renoise", ours), ("schedule()", self._model.schedule(NUM_STEPS, self._grid))):
            same = np.allclose(sampled.timesteps.double().cpu(), found.timesteps.double().cpu())
            expect(
                same and np.allclose(sampled.noise, found.noise),
                f"{name} has the timesteps {_timesteps(found)}; the pipeline samples at {_timesteps(sampled)}.",
            )
        self._expect_scheduler(sampled)
        return _timesteps(ours)

    def _expect_scheduler(self, declared: NoiseSchedule) -> None:
        """Compares the adapter's own `noise_levels` with vcorr's reading of the scheduler, where vcorr can read it."""
        try:
            read = noise_levels(self._model.pipe.scheduler)
        except (PluginError, UsageError):
            return  # vcorr cannot read this scheduler, so there is nothing to compare
        for name, ours, theirs in (("alphas", declared.alphas, read.alphas), ("sigmas", declared.sigmas, read.sigmas)):
            expect(
                np.allclose(ours, theirs, atol=1e-4),
                f"the adapter's `noise_levels` has {name} {_numbers(ours)}; the scheduler has {_numbers(theirs)}.",
            )

    def noise(self) -> str:
        epsilon = clip_noise(self._encoded.shape, self._settings.seed, self._clip.id).double()
        for step, ours in zip(STEPS, self._renoised, strict=True):
            noisy = self._model.as_latents(ours.arguments[ours.latents], self._encoded)
            found = _mixture(noisy, self._encoded, epsilon)
            wanted = (self._sampled_schedule.alphas[step], self._sampled_schedule.sigmas[step])
            close = np.allclose(found, wanted, atol=self._tolerance)
            expect(
                close,
                f"step {step}: the latents are {found[0]:.4g} x + {found[1]:.4g} eps instead of {wanted[0]:.4g} x + "
                f"{wanted[1]:.4g} eps.",
            )
        return f"{len(STEPS)} steps"

    def side_effects(self) -> None:
        pipe, before = self._model.pipe, dict(vars(self._model.pipe.scheduler))
        modules = [getattr(pipe, name) for name in self._model.denoisers]
        hooks = [_count_hooks(module) for module in modules]
        self._model.borrow(self._read, self._grid, self._settings)
        now = vars(pipe.scheduler)
        changed = sorted(name for name in {*before, *now} if now.get(name) is not before.get(name))
        expect(not changed, f"the scheduler's {', '.join(changed)} changed.")
        expect([_count_hooks(module) for module in modules] == hooks, "hooks remain on the denoiser.")

    def further(self) -> str:
        """Compares the perturbed prediction that shares blocks with a whole pass, in the last layer between frames."""
        model = self._model
        layers = [site.layer for site in model.sites() if GuidedSite(site).joins_frames]
        if not layers or not model.joins_rows:
            return "always a whole pass" if layers else "no attention between frames"
        found: list[Tensor] = []
        for joins in (True, False):
            kept = _KeptPrediction(layers[-1])
            vars(model)["joins_rows"] = joins
            try:
                strength = None if model.embedded_guidance else GUIDANCE
                settings = RunSettings("generate", (), NUM_STEPS, cfg=strength, guidance=kept)
                model.run(self._clip, settings, Recorder({}, self._clip.queries))
            finally:
                del vars(model)["joins_rows"]
            expect(kept.perturbed is not None, "the pipeline made no conditional pass that could be followed.")
            assert kept.perturbed is not None  # for mypy; the line above raises
            found.append(kept.perturbed)
        shared, whole = found
        close = torch.allclose(shared, whole, atol=self._tolerance, rtol=self._tolerance)
        expect(close, f"layer {layers[-1]}: they differ; the adapter has to say joins_rows = False.")
        return f"layer {layers[-1]}"

    # ---------------------------------------------------------------------------------------------------------- shared

    @cached_property
    def _model(self) -> DiffusersVideoModel[Any]:
        model = make(self._part, self._config)[1]
        if not isinstance(model, DiffusersVideoModel):
            raise UsageError(f"{type(model).__name__} is not a vcorr.diffusion.DiffusersVideoModel.")
        model.load(*self._where)
        return model

    @property
    def _tolerance(self) -> float:
        return 1e-3 if self._where[1] == "float32" else 0.05

    @cached_property
    def _settings(self) -> RunSettings:
        return RunSettings("renoise", STEPS, NUM_STEPS)

    @cached_property
    def _grid(self) -> TokenGrid:
        return self._model.grid(self._clip, None)

    @cached_property
    def _read(self) -> Clip:
        """The clip with the prompt that the pipeline gets in generate mode, where a template of the authors counts."""
        made, read = (self._model.fill_template(self._clip, mode) for mode in ("generate", "renoise"))
        return made if read.prompt == self._clip.prompt else self._clip

    @cached_property
    def _encoded(self) -> Tensor:
        assert self._clip.video is not None  # the suite needs a clip with a video
        with torch.no_grad():
            return self._model.encode(self._clip.video)

    @cached_property
    def _borrowed(self) -> Any:
        return self._model.borrow(self._read, self._grid, self._settings)

    @cached_property
    def _renoised(self) -> Sequence[_Pass]:
        return self._run(self._read, self._settings)

    @cached_property
    def _sampled(self) -> Sequence[Sequence[_Pass]]:
        """Passes of every step of sampling."""
        strength = None if self._model.embedded_guidance else GUIDANCE
        found = self._run(self._clip, RunSettings("generate", STEPS, NUM_STEPS, cfg=strength))
        expect(len(found) % NUM_STEPS == 0, f"the pipeline made {len(found)} passes in {NUM_STEPS} steps.")
        each = len(found) // NUM_STEPS
        return [found[step * each : (step + 1) * each] for step in range(NUM_STEPS)]

    @cached_property
    def _sampled_schedule(self) -> NoiseSchedule:
        """Schedule in the pipeline's scheduler after sampling."""
        assert self._sampled
        return self._model.noise_levels(self._model.pipe.scheduler)

    def _own(self, step: int) -> _Pass:
        """Returns the conditional pass of a step of sampling, and only the conditional batch rows."""
        branches = [one.branches for one in self._sampled[step]]
        found = next((one for one in self._sampled[step] if CONDITIONAL in one.branches), None)
        expect(found is not None, f"step {step} of sampling has no conditional pass; its passes are {branches}.")
        assert found is not None  # for mypy; the line above raises
        return self._only(found, CONDITIONAL)

    def _other(self, step: int) -> _Pass | None:
        """Returns a pass of that step for another branch, and only this branch's batch rows; None if there is none."""
        others = ((one, name) for one in self._sampled[step] for name in one.branches if name != CONDITIONAL)
        found = next(others, None)
        return None if found is None else self._only(*found)

    def _only(self, one: _Pass, branch: str) -> _Pass:
        if len(one.branches) == 1:
            return one
        inputs = self._model.branch_inputs(one.arguments, one.latents, self._grid, branch)
        return replace(one, branches=(branch,), arguments=inputs)

    def _run(self, clip: Clip, settings: RunSettings) -> list[_Pass]:
        kept = _Kept(self._model)
        with kept.watch, kept.watch.listen(kept):
            self._model.run(clip, settings, Recorder({}, clip.queries))
        return kept.passes


class _KeptPrediction(GuidanceBase):
    """Keeps the first perturbed prediction, in which the values of a layer go through unchanged; guides nothing."""

    def __init__(self, layer: int) -> None:
        self._layer = layer
        self.perturbed: Tensor | None = None

    def perturb(self, sites: Sequence[GuidedSite]) -> Perturbation:
        return Perturbation((self._layer,), edit=lambda call: call.v)

    def combine(self, predictions: Mapping[str, Tensor], step: GuidedStep) -> Mapping[str, Tensor]:
        if self.perturbed is None:
            self.perturbed = predictions.get(PERTURBED)
        return predictions


class _Kept(PassListener):
    """Collects every pass that a model's denoisers make."""

    def __init__(self, model: DiffusersVideoModel[Any]) -> None:
        self._names = model.denoisers
        self._modules = [getattr(model.pipe, name) for name in self._names]
        self.watch = PassWatch(self._modules, model.layout())
        self.passes: list[_Pass] = []

    def pass_ends(self, now: Pass, *, failed: bool) -> None:
        if failed:  # such a pass was stopped to borrow its arguments
            return
        names = parameters(self._modules[now.denoiser])
        arguments = {**dict(zip(names, now.args, strict=False)), **now.kwargs}
        arguments[names[0]] = arguments[names[0]].clone()  # sampling loops may change the latents in place
        self.passes.append(_Pass(self._names[now.denoiser], names[0], now.branches, arguments))


def _unchanging(each: Sequence[Tensor]) -> Tensor:
    """Returns where all tensors have the same value; bool, in the shape of one tensor."""
    return torch.stack([one == each[0] for one in each]).all(dim=0)


def _expect_equal(name: str, ours: Any, theirs: Any) -> None:
    difference = _difference(ours, theirs)
    expect(not difference, f"{name} is not the pipeline's own: {difference}.")


def _difference(ours: Any, theirs: Any) -> str:
    """Describes the difference between two arguments; "" when they are equal."""
    one, other = tree_leaves(ours), tree_leaves(theirs)
    if len(one) != len(other):
        return f"{len(one)} values instead of {len(other)}"
    return next((text for pair in zip(one, other, strict=True) if (text := _unlike(*pair))), "")


def _unlike(ours: Any, theirs: Any) -> str:
    if not (isinstance(ours, Tensor) and isinstance(theirs, Tensor)):
        return "" if type(ours) is type(theirs) and ours == theirs else f"{ours!r} instead of {theirs!r}"
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{ours.dtype} {tuple(ours.shape)} instead of {theirs.dtype} {tuple(theirs.shape)}"
    if torch.equal(ours, theirs):
        return ""
    return f"values differ by up to {float((ours.double() - theirs.double()).abs().max()):.3g}"


def _mixture(noisy: Tensor, clean: Tensor, epsilon: Tensor) -> tuple[float, float]:
    """Fits alpha and sigma of noisy = alpha clean + sigma epsilon by least squares over the last latent frame.

    The first frame is not used, because in image-to-video models it is the image and has no noise.
    """
    known = torch.stack([clean[:, :, -1].double().flatten(), epsilon[:, :, -1].flatten().to(clean.device)], dim=1)
    found = torch.linalg.lstsq(known, noisy[:, :, -1].double().flatten()[:, None]).solution
    return float(found[0]), float(found[1])


def _count_hooks(module: Any) -> tuple[int, ...]:
    return (len(module._forward_pre_hooks), len(module._forward_hooks), "cache_context" in vars(module))


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _timesteps(schedule: NoiseSchedule) -> str:
    return ", ".join(f"{float(timestep):.5g}" for timestep in schedule.timesteps)
