"""The options of the built-in guidances. They are not in guidances.py, so that listing them imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vcorr.contract.errors import UsageError
from vcorr.contract.guidance_protocols import GuidedSite, GuidedStep
from vcorr.contract.index_text import read_indices
from vcorr.contract.option_notes import option

CARD, ALL = "card", "all"
AUTO = "auto"
"""The value of `guidance.layers` for the best layers of a run, which replaces it before a guidance is made."""
_FORMS = "'13,17,21' or '13-17'"


@dataclass(frozen=True, kw_only=True)
class IntervalOptions:
    """Options of every guidance."""

    steps: str = option(ALL, "Steps that are guided, such as 0-24; other steps cost nothing more.")

    def __post_init__(self) -> None:
        assert self.chosen_steps is not None  # raises for a text that cannot be read

    def guides(self, step: GuidedStep) -> bool:
        """Returns whether a step is in the interval; steps beyond the last one of the run are allowed in it."""
        return step.step in self.chosen_steps

    @property
    def chosen_steps(self) -> range | frozenset[int]:
        """The steps of the interval.

        Raises:
            UsageError: the text cannot be read.
        """
        if self.steps.strip() == ALL:
            return range(_MOST_STEPS)
        return frozenset(read_indices(self.steps.strip(), _MOST_STEPS, "steps", "'0-24', or 'all'", "steps:"))


_MOST_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class LayerOptions(IntervalOptions):
    """Options of guidances with a further prediction from perturbed layers."""

    layers: str = option(
        CARD, "Perturbed layers, such as 13,17,21; card for those on the model's card, auto for the best ones of a run."
    )
    scale: float = option(1.0, "Strength, which multiplies the difference to the perturbed prediction; 0 for none.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.scale):
            raise UsageError(f"scale: expected a finite number, got {self.scale}.")

    def choose(self, sites: Sequence[GuidedSite]) -> tuple[int, ...]:
        """Returns the layers that the options name, ascending.

        Raises:
            UsageError: a layer does not exist, or neither the options nor the card name any.
        """
        text = self.layers.strip()
        if text == CARD:
            return _layers_on_card(sites)
        if text == AUTO:
            raise UsageError(
                "guidance.layers=auto needs a run that ranks the layers.",
                hint="Name one with --from RUN, or name the layers: --set guidance.layers=13,17,21",
            )
        total = 1 + max((each.layer for each in sites), default=-1)
        return read_indices(text, total, "layers", f"{_FORMS}, or 'card'", "guidance.layers")


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(LayerOptions):
    """Options of guidances that perturb attention."""

    heads: str = option(ALL, "Perturbed heads of these layers, such as 0,3-5, or all.")

    def choose_heads(self, sites: Sequence[GuidedSite], layers: Sequence[int]) -> tuple[int, ...] | None:
        """Returns the heads that the options name, ascending; None for all.

        Raises:
            UsageError: a layer does not have such a head.
        """
        if self.heads.strip() == ALL:
            return None
        counts = [each.site.heads for each in sites if each.layer in layers and each.site.heads]
        total = min(counts, default=_MOST_STEPS)
        return read_indices(self.heads.strip(), total, "heads", "'0,3-5', or 'all'", "guidance.heads")


@dataclass(frozen=True, kw_only=True)
class CrossFrameOptions(AttentionOptions):
    """Options of cross-attention guidance."""

    variant: Literal["corrected", "difftrack"] = option(
        "corrected",
        "corrected: other frames are masked before the softmax. difftrack: their weights are dropped after it, as in "
        "the published code, so that the output shrinks.",
    )


@dataclass(frozen=True, kw_only=True)
class CfgZeroOptions(IntervalOptions):
    """Options of `cfg-zero`."""

    zero_steps: int = option(
        1, "First steps whose predictions are zero. Use 0 for networks that predict noise.", unit="steps", least=0
    )


@dataclass(frozen=True, kw_only=True)
class MoreStepsOptions:
    """Options of `more-steps`."""

    factor: float = option(
        1.5, "Steps for each step that was asked for; 1.5 costs as much as a third prediction.", least=1
    )


def _layers_on_card(sites: Sequence[GuidedSite]) -> tuple[int, ...]:
    found = tuple(sorted({each.layer for each in sites if each.recommended}))
    if not found:
        raise UsageError(
            "The model's card names no layers for guidance: it has neither matching_layers nor tracking.",
            hint="Name them, --set guidance.layers=13,17,21, or take the best ones of a run: guidance.layers=auto",
        )
    return found
