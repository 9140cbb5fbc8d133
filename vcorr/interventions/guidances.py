"""The built-in guidances: cross-attention guidance and its controls (docs/guidance.md)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vcorr.contract.bases import GuidanceBase
from vcorr.contract.errors import UsageError
from vcorr.contract.guidance_protocols import COND, PERTURBED, UNCOND, GuidedSite, GuidedStep, Perturbation
from vcorr.interventions.guidance_options import (
    AttentionOptions,
    CfgZeroOptions,
    CrossFrameOptions,
    LayerOptions,
    MoreStepsOptions,
)
from vcorr.interventions.perturbed_attention import attend_own_token, check_frames_join, own_frame_edit


class _AwayFromPerturbed(GuidanceBase):
    """Adds scale (c - c') to every prediction, with c' the conditional prediction of perturbed layers.

    Source: DiffTrack (arXiv 2506.17220), as the sum u + s_cfg (c - u) + scale (c - c').
    """

    config: LayerOptions

    def guides(self, step: GuidedStep) -> bool:
        """Returns whether the step is in the guidance interval, and the scale is not 0."""
        return self.config.scale != 0 and self.config.guides(step)

    def combine(self, predictions: Mapping[str, Tensor], step: GuidedStep) -> Mapping[str, Tensor]:
        """Adds the difference between the conditional and the perturbed prediction to all others."""
        change = self.config.scale * (predictions[COND] - predictions[PERTURBED])
        return {branch: each + change for branch, each in predictions.items() if branch != PERTURBED}


@dataclass(frozen=True)
class CrossFrameGuidance(_AwayFromPerturbed):
    """Cross-attention guidance: in the perturbed layers, no video token sees another latent frame."""

    config: CrossFrameOptions

    def perturb(self, sites: Sequence[GuidedSite]) -> Perturbation:
        """Chooses layers with attention between frames. Raises UsageError if a chosen layer has none."""
        layers = self.layers(sites)
        check_frames_join([each for each in sites if each.layer in layers])
        edit = own_frame_edit(self.config.variant)
        return Perturbation(layers, self.config.choose_heads(sites, layers), edit=edit)

    def layers(self, sites: Sequence[GuidedSite]) -> tuple[int, ...]:
        """Returns the perturbed layers: the ones that the options name."""
        _check_model(sites)
        return self.config.choose(sites)


@dataclass(frozen=True)
class RandomLayers(CrossFrameGuidance):
    """Cross-attention guidance at as many other layers, drawn from the run's seed: shows what the choice is worth."""

    seed: int = 0

    def with_seed(self, seed: int) -> Self:
        """Returns the guidance with its layers drawn from `seed`."""
        return type(self)(self.config, seed)

    def layers(self, sites: Sequence[GuidedSite]) -> tuple[int, ...]:
        """Returns as many layers as the options name, drawn among the other layers with attention between frames.

        Raises:
            UsageError: there are not enough other layers.
        """
        named = super().layers(sites)
        others = sorted({each.layer for each in sites if each.joins_frames} - set(named))
        if len(others) < len(named):
            raise UsageError(
                f"random-layers needs {len(named)} layers other than {', '.join(map(str, named))} with attention "
                f"between frames; the model has {len(others)}.",
                hint="Name fewer layers: --set guidance.layers=...",
            )
        # a text seeds alike in every version of Python
        return tuple(sorted(random.Random(f"random-layers {self.seed}").sample(others, len(named))))


@dataclass(frozen=True)
class PerturbedAttentionGuidance(_AwayFromPerturbed):
    """Perturbed-attention guidance: in the perturbed layers, video tokens see themselves and the text alone."""

    config: AttentionOptions

    def perturb(self, sites: Sequence[GuidedSite]) -> Perturbation:
        """Chooses layers with attention over several tokens. Raises UsageError if a chosen layer has none."""
        layers = self.config.choose(sites)
        for each in sites:
            if each.layer in layers and each.site.attention in ("linear", "none"):
                check_frames_join([each])
        return Perturbation(layers, self.config.choose_heads(sites, layers), edit=attend_own_token)


@dataclass(frozen=True)
class SkipLayerGuidance(_AwayFromPerturbed):
    """Skip-layer guidance (spatio-temporal guidance): the perturbed prediction leaves whole blocks out."""

    config: LayerOptions

    def perturb(self, sites: Sequence[GuidedSite]) -> Perturbation:
        """Chooses the layers whose blocks are skipped."""
        return Perturbation(self.config.choose(sites), kind="block")


@dataclass(frozen=True)
class CfgZero(GuidanceBase):
    """CFG-Zero*: the unconditional prediction is scaled to fit the conditional one, and the first predictions are zero.

    Source: CFG-Zero* (arXiv 2503.18886): u becomes a u, with a = <c, u> / <u, u> per video.
    """

    config: CfgZeroOptions

    def guides(self, step: GuidedStep) -> bool:
        """Returns whether the step is in the guidance interval."""
        return self.config.guides(step)

    def combine(self, predictions: Mapping[str, Tensor], step: GuidedStep) -> Mapping[str, Tensor]:
        """Scales the unconditional prediction; in the first steps every prediction is zero."""
        if step.step < self.config.zero_steps:
            return {branch: torch.zeros_like(each) for branch, each in predictions.items()}
        if UNCOND not in predictions:
            return predictions
        u, c = predictions[UNCOND], predictions[COND]
        fit = (u.float() * c.float()).sum() / u.float().square().sum().clamp_min(_TINY)
        return {**predictions, UNCOND: (fit * u).to(u.dtype)}


@dataclass(frozen=True)
class MoreSteps(GuidanceBase):
    """Plain guidance with more steps: as many network evaluations as others spend on a further prediction."""

    config: MoreStepsOptions

    def num_steps(self, asked: int) -> int:
        """Returns the number of steps, rounded up."""
        return math.ceil(asked * self.config.factor)


_TINY = 1e-12


def _check_model(sites: Sequence[GuidedSite]) -> None:
    """Checks that some layer has attention between frames.

    Raises:
        UsageError: none has.
    """
    if any(each.joins_frames for each in sites):
        return
    kinds = ", ".join(sorted({_kind(each) for each in sites})) or "no"
    raise UsageError(
        f"The model has no attention between frames that could be perturbed: its layers have {kinds} attention.",
        hint="Skip-layer guidance works without it: --guidance slg",
    )


def _kind(each: GuidedSite) -> str:
    factorised = each.site.factorised
    return each.site.attention if factorised is None else factorised.kind
