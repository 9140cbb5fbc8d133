"""Times guided steps against plain ones, in one process, taking turns, and measures their memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vcorr.bench.measuring import Progress, choose_model, measure_or_explain, say_nothing
from vcorr.bench.random_models import Pass, build_model, empty_clip, one_pass
from vcorr.bench.timing import Turns, time_in_turns
from vcorr.capture.captures import TokenLayout
from vcorr.capture.passes import PassWatch
from vcorr.contract.bases import GuidanceBase, with_defaults
from vcorr.contract.guidance_protocols import COND, PERTURBED, Guidance, GuidedStep, Perturbation
from vcorr.diffusion import DiffusersVideoModel
from vcorr.diffusion.guiding import describe_model
from vcorr.interventions.guided_model import GuidedModel
from vcorr.interventions.guided_sampling import guide_passes
from vcorr.plugins.registry import Registry
from vcorr.runner.gaps import Gaps
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.parts import Part, make_part
from vcorr.runner.spec import RunSpec

_STEP = 0


@dataclass(frozen=True)
class GuidanceCost:
    """What a guided step costs in addition to a plain step with classifier-free guidance.

    Attributes:
        layers: that are perturbed; empty for none.
        batch: number of guidance branches in a pass.
        plain_ms, guided_ms: median time of a step, in milliseconds.
        more_ms: median over the rounds of guided - plain: what a user pays for each guided step.
        whole_ms: of a guided step whose perturbed prediction is a whole pass; NaN where it always is.
        three_ms: of a plain step with one more row in the batch; NaN for models that run their branches apart.
        ratio, whole_ratio, three_ratio: medians over the rounds of these times / the plain time.
        plain_gib, guided_gib, three_gib: peak memory on the device, weights included; NaN on a CPU.
        memory_ratio: guided_gib / three_gib.
        difference: largest difference between the perturbed predictions of the guided step and of a whole pass.
        error: why nothing was measured; then the numbers are NaN or 0.
    """

    model: str
    device: str
    dtype: str
    guidance: str
    layers: tuple[int, ...] = ()
    batch: int = 0
    plain_ms: float = math.nan
    guided_ms: float = math.nan
    more_ms: float = math.nan
    whole_ms: float = math.nan
    three_ms: float = math.nan
    ratio: float = math.nan
    whole_ratio: float = math.nan
    three_ratio: float = math.nan
    plain_gib: float = math.nan
    guided_gib: float = math.nan
    three_gib: float = math.nan
    memory_ratio: float = math.nan
    difference: float = math.nan
    error: str = ""


@dataclass(frozen=True)
class GuidanceBench:
    """What is to be measured for one model; nothing is built yet. rounds: timed ones, after one to warm up."""

    model: Part
    guidance: Part
    hardware: Hardware
    rounds: int = 5

    def run(self, say: Progress = say_nothing) -> GuidanceCost:
        """Builds the model with random weights and times it; a failure is in `error`, so that others are measured."""
        hardware = self.hardware
        blank = GuidanceCost(self.model.entry.name, hardware.name, hardware.dtype, self.guidance.entry.name)

        def measure() -> GuidanceCost:
            say("building the network")
            model = build_model(self.model.create(), hardware.device, hardware.dtype)
            return _compare(blank, model, self.guidance.create(), self.rounds, say)

        return measure_or_explain(blank, hardware.device, measure)


def make_guidance_bench(spec: RunSpec, registry: Registry, guidance: str, rounds: int) -> GuidanceBench:
    """Makes the measurement that `spec` describes: model, device, dtype, and the options of the guidance.

    Raises:
        UsageError: a name is unknown, an option or device does not exist, or the model cannot be timed.
    """
    model, adapter = choose_model(spec, registry)
    part = make_part(registry.guidances.get(guidance), spec.options.get("guidance", {}), "guidance")
    made: Guidance = part.create()
    made.perturb(GuidedModel.sites_of(adapter.sites(), adapter.guidance_layers))  # raises before anything is built
    return GuidanceBench(model, part, choose_hardware(spec, Gaps()), rounds)


class _Kept(GuidanceBase):
    """A guidance that keeps the perturbed prediction."""

    def __init__(self, own: Guidance) -> None:
        self._own = with_defaults(own, GuidanceBase)
        self.perturbed: Tensor | None = None

    def perturb(self, sites: Any) -> Perturbation | None:
        return self._own.perturb(sites)

    def combine(self, predictions: Mapping[str, Tensor], step: GuidedStep) -> Mapping[str, Tensor]:
        self.perturbed = predictions.get(PERTURBED)
        return self._own.combine(predictions, step)


def _compare(
    blank: GuidanceCost, model: DiffusersVideoModel[Any], guidance: Guidance, rounds: int, say: Progress
) -> GuidanceCost:
    one, layout = one_pass(model), model.layout()
    described, kept = describe_model(model, empty_clip()), _Kept(guidance)
    perturbation = kept.perturb(described.guided_sites)
    step = _step_of(one, model, layout)
    runs: dict[str, Callable[[], object]] = {"plain": step, "guided": _guide_step(step, kept, described)}
    if described.joins_rows and perturbation is not None:
        runs["whole"] = _guide_step(step, kept, replace(described, joins_rows=False))
    if one.batch > 1:
        runs["three"] = Pass(one.module, _add_row(one, layout), one.batch + 1)
    turns = time_in_turns(runs, model.device, rounds, say)
    merged: dict[str, Any] = {key: value for name in runs for key, value in _summarise(name, turns).items()}
    return replace(
        blank,
        layers=() if perturbation is None else perturbation.layers,
        batch=one.batch,
        difference=_difference(runs, kept),
        memory_ratio=turns.gib("guided") / turns.gib("three") if "three" in runs else math.nan,
        **merged,
    )


def _summarise(name: str, turns: Turns) -> dict[str, float]:
    """Returns the columns of one kind of step."""
    found = {f"{name}_ms": turns.ms(name)}
    if name != "whole":
        found[f"{name}_gib"] = turns.gib(name)
    if name == "guided":
        found |= {"ratio": turns.ratio(name, "plain"), "more_ms": turns.more_ms(name, "plain")}
    elif name != "plain":
        found[f"{name}_ratio"] = turns.ratio(name, "plain")
    return found


def _difference(runs: Mapping[str, Callable[[], object]], kept: _Kept) -> float:
    """Returns the largest difference between the perturbed predictions with and without shared blocks."""
    if "whole" not in runs:
        return math.nan
    found = []
    for name in ("guided", "whole"):
        runs[name]()
        assert kept.perturbed is not None  # a step that shares blocks has a perturbation
        found.append(kept.perturbed)
    return float((found[0] - found[1]).abs().max())


def _step_of(one: Pass, model: DiffusersVideoModel[Any], layout: TokenLayout) -> Callable[[], None]:
    """Returns what runs all passes of a step: one, or one per branch, labelled as the pipeline labels them."""
    branches = layout.passes or (COND, *("other",) * (max(model.guided_branches, 1) - 1))
    if one.batch > 1:
        return one

    def run() -> None:
        for branch in branches:
            label = getattr(one.module, "cache_context", None)
            with label(branch) if label is not None and not layout.passes else nullcontext():
                one()

    return run


def _guide_step(step: Callable[[], None], guidance: Guidance, model: GuidedModel) -> Callable[[], None]:
    """Returns what runs a step under a guidance."""

    def run() -> None:
        with _guiding(guidance, model):
            step()

    return run


@contextmanager
def _guiding(guidance: Guidance, model: GuidedModel) -> Iterator[None]:
    with PassWatch(model.denoisers, model.layout) as watch:
        watch.start()
        facts = GuidedStep(_STEP, 1)
        with guide_passes(guidance, model, watch, lambda step: facts, lambda: 1.0):
            yield


def _add_row(one: Pass, layout: TokenLayout) -> dict[str, Any]:
    """Returns the arguments of a pass with the conditional branch once more at the end of the batch."""
    index = layout.branches.index(COND)

    def add(value: Any) -> Any:
        rows = len(value) // one.batch if isinstance(value, Tensor) and value.ndim else 0
        batched = rows and len(value) == rows * one.batch
        return torch.cat([value, value[index * rows : (index + 1) * rows]]) if batched else value

    return {name: add(value) for name, value in one.inputs.items()}
