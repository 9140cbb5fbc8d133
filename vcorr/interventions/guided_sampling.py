"""Applies a guidance while a pipeline samples, without a change of the pipeline.

A hook on the denoiser replaces its output. Pipelines combine the predictions of a step with weights that add up to 1.
So a change that all predictions share comes out of the combination as it went in.

Shape legend: B batch rows of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vcorr.capture.modules import find
from vcorr.capture.passes import Pass, PassListener, PassWatch
from vcorr.capture.tap import Place
from vcorr.contract.bases import GuidanceBase, with_defaults
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.guidance_protocols import COND, PERTURBED, UNCOND, Guidance, GuidedStep
from vcorr.interventions.guided_model import GuidedModel
from vcorr.interventions.perturbed_pass import PerturbedPass

StepFacts = Callable[[int], GuidedStep]
"""Takes the index of a step; returns what a guidance may know of it."""
Strength = Callable[[], float | None]
"""Returns the strength of classifier-free guidance of the running call; None if it is not known."""


@contextmanager
def guide_passes(
    guidance: Guidance, model: GuidedModel, watch: PassWatch, facts: StepFacts, strength: Strength
) -> Iterator[None]:
    """Guides all passes of the denoisers while the block runs; afterwards the model is as it was.

    Args:
        guidance: decides what changes.
        model: the model.
        watch: an open watch over its passes, which knows the steps.
        facts: of a step.
        strength: of classifier-free guidance. Only pipelines that run the unconditional pass first need it.

    Raises:
        UsageError: the guidance does not fit the model, or needs the strength, and it is not known. Or a denoiser is
            guided already: the second guidance would take the first one's output for the network's.
        PluginError: the guidance returned other predictions than it may.
    """
    guided = _GuidedPasses(with_defaults(guidance, GuidanceBase), model, facts, strength)
    with ExitStack() as stack:
        stack.enter_context(_claim(model))
        stack.enter_context(watch.listen(guided))
        stack.enter_context(guided.attach())
        yield


_guided: set[nn.Module] = set()
"""The denoisers that are guided now."""


def is_guided(denoiser: nn.Module) -> bool:
    """Returns whether a guidance acts on a denoiser now. denoiser: compiled or not."""
    return (find(denoiser, "")[0] or denoiser) in _guided


@contextmanager
def _claim(model: GuidedModel) -> Iterator[None]:
    """Marks the denoisers as guided while the block runs; raises UsageError if one is guided already."""
    if any(map(is_guided, model.denoisers)):
        raise UsageError(
            f"{model.name} is guided already.",
            hint="End the first block before the second one begins, or write one vcorr.Guidance that does both.",
        )
    modules = {find(denoiser, "")[0] or denoiser for denoiser in model.denoisers}
    _guided.update(modules)
    try:
        yield
    finally:
        _guided.difference_update(modules)


class _GuidedPasses(PassListener):
    """Replaces the outputs of the denoisers, pass by pass.

    raw: the predictions of the running step so far, in float32. sent: what the pipeline got for a branch before the
    conditional branch was known.
    """

    def __init__(self, guidance: GuidanceBase, model: GuidedModel, facts: StepFacts, strength: Strength) -> None:
        self._guidance, self._model, self._facts, self._strength = guidance, model, facts, strength
        perturbation = guidance.perturb(model.guided_sites)
        self._further = None if perturbation is None else PerturbedPass(model, perturbation, self._find_wanted)
        self._now: Pass | None = None
        self._step: int | None = None
        self._facts_now: GuidedStep | None = None
        self._raw: dict[str, Tensor] = {}
        self._sent: dict[str, Tensor] = {}

    @contextmanager
    def attach(self) -> Iterator[None]:
        """Hooks the denoisers while the block runs."""
        place = Place.here()

        def see(index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            now, self._now = (self._now, None) if place.is_here() else (None, self._now)
            if now is None or self._facts_now is None or now.denoiser != index:
                return None
            return self._replace(now, self._facts_now, output)

        with ExitStack() as stack:
            if self._further is not None:
                stack.enter_context(self._further.attach())
            for index, denoiser in enumerate(self._model.denoisers):
                module = find(denoiser, "")[0]
                assert module is not None  # the empty name is the module itself
                stack.callback(module.register_forward_hook(partial(see, index), with_kwargs=True).remove)
            yield

    def pass_begins(self, now: Pass) -> None:
        """Begins a step with its first pass."""
        self._now = now
        # another call of the pipeline, or one after a failure, may begin with the step that ran last
        if now.step is None or (now.step == self._step and now.number):
            return
        self._step = now.step
        self._raw, self._sent = {}, {}
        facts = self._facts(now.step)
        self._facts_now = facts if self._guidance.guides(facts) else None

    def _find_wanted(self) -> Pass | None:
        """Returns the running pass if a perturbed prediction follows it."""
        now = self._now
        return now if now is not None and now.conditional and self._facts_now is not None else None

    def _replace(self, now: Pass, facts: GuidedStep, output: Any) -> Any:
        """Returns the output that the pipeline gets in place of the denoiser's own."""
        sample = sample_of(output)
        parts = sample.chunk(len(now.branches))
        self._raw.update({branch: part.float() for branch, part in zip(now.branches, parts, strict=True)})
        if self._further is not None and now.conditional:
            further = self._further.compute(now)
            self._raw[PERTURBED] = sample_of(further).float()
        if COND not in self._raw:
            self._sent.update({branch: self._raw[branch] for branch in now.branches})
            return None
        new = self._combine(facts)
        if self._sent and now.conditional:
            new[COND] = self._make_up(new)
        rows = [new[branch].to(sample.dtype) for branch in now.branches]
        return with_sample(output, torch.cat(rows))

    def _combine(self, facts: GuidedStep) -> dict[str, Tensor]:
        combined: Any = self._guidance.combine(dict(self._raw), facts)
        if not isinstance(combined, Mapping):
            raise self._refuse(f"predictions by branch: {type(combined).__name__}")
        for branch, value in combined.items():
            if branch not in self._raw or not isinstance(value, Tensor) or value.shape != self._raw[branch].shape:
                raise self._refuse(f"predictions for {branch!r}: {getattr(value, 'shape', type(value).__name__)}")
        return {**self._raw, **combined}

    def _refuse(self, what: str) -> PluginError:
        return PluginError(
            f"{type(self._guidance).__name__}.combine() returned something else than {what}.",
            hint="vcorr.testing.check_guidance checks a guidance.",
        )

    def _make_up(self, new: Mapping[str, Tensor]) -> Tensor:
        """Returns the conditional prediction that makes up for an unconditional one which went out unchanged.

        With strength s the pipeline computes u + s (c - u). It has got u in place of the new u'. The result is the same
        if c is c' + (u' - u) (1 - s) / s.
        """
        if all(new[branch] is sent for branch, sent in self._sent.items()):
            return new[COND]
        strength = self._strength()
        if set(self._sent) != {UNCOND} or not strength:
            passes = ", ".join(self._sent)
            raise UsageError(
                f"{self._model.name} runs the passes {passes} before the conditional one, and the strength of "
                "classifier-free guidance is not known.",
                hint="Give it: --cfg 6, or guide(..., cfg=6).",
            )
        return new[COND] + (new[UNCOND] - self._sent[UNCOND]) * ((1 - strength) / strength)


def sample_of(output: Any) -> Tensor:
    """Returns the prediction in what a denoiser puts out: a tensor, a tuple, or a record with a `sample`.

    Raises:
        PluginError: there is no prediction in it.
    """
    found = output[0] if isinstance(output, (tuple, list)) else getattr(output, "sample", output)
    if not isinstance(found, Tensor):
        raise PluginError(f"The denoiser puts out {type(output).__name__}, in which no prediction was found.")
    return found


def with_sample(output: Any, sample: Tensor) -> Any:
    """Returns what a denoiser puts out with another prediction in it."""
    if isinstance(output, Tensor):
        return sample
    if isinstance(output, (tuple, list)):
        return type(output)([sample, *output[1:]])
    return type(output)(**{**vars(output), "sample": sample})
