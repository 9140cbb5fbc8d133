"""Holds the options of the built-in probes; imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from vcorr.contract.errors import UsageError
from vcorr.contract.option_notes import option
from vcorr.probes.heads import Heads


@dataclass(frozen=True)
class ProbeConfig:
    """The heads that a probe reads, before or after the rotary embedding, and how it reads positions.

    A prediction from several heads, all or chosen ones, is stored under head -1; the run records the option. A
    prediction from one chosen head is stored under that head. `feature` and `hidden` take radius 0 only, because their
    correlations are not weights, and never have a reverse softmax. `attention` matches nothing, so it takes no radius,
    and neither `rotary` nor `symmetric` can be False. `LEFT_OUT` names the options that a probe
    refuses, or that change nothing.

    Raises:
        UsageError: an option has a wrong value.
    """

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"rotary"})

    heads: str = option(
        "mean",
        '"mean": one prediction from all heads together. "each": this prediction, and one from each head alone. '
        'Chosen heads, as in "0,3": one prediction from these together.',
    )
    radius: int = option(
        0,
        "0 predicts the centre of the best token. A larger number predicts the mean of the centres within so many"
        " tokens of it, weighted by the correlation. Only probes with a softmax take it.",
        unit="tokens",
        least=0,
    )
    rotary: bool = option(
        True,
        "false reads q and k before the rotary embedding, so that content matches and positions do not. Only qk, "
        "kk and qq take it, on models whose adapter declares where these tensors are.",
    )
    symmetric: bool = option(
        True,
        "false leaves out the reverse softmax, from the other frames back to the frame of the query.",
    )

    def __post_init__(self) -> None:
        if isinstance(self.heads, str) and self.heads.startswith("[") and self.heads.endswith("]"):
            object.__setattr__(self, "heads", self.heads[1:-1])  # "[0,3]" and "0,3" name the same run
        self.head_choice  # noqa: B018  # raises for text that cannot be parsed
        for name in ("rotary", "symmetric"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name}: expected true or false, got {getattr(self, name)!r}.")
        if isinstance(self.radius, bool) or not isinstance(self.radius, int) or self.radius < 0:
            raise UsageError(f"radius: expected a whole number of tokens of at least 0, got {self.radius!r}.")

    @cached_property
    def head_choice(self) -> Heads:
        """The option `heads` as a value."""
        return Heads.parse(self.heads)


@dataclass(frozen=True)
class RotaryConfig(ProbeConfig):
    """The options of the probes that match queries and keys: as in `ProbeConfig`, with a choice of rotary bands.

    Raises:
        UsageError: an option has a wrong value.
    """

    LEFT_OUT = frozenset()

    slow_bands: float = option(
        1.0,
        "Share of the rotary channel pairs that is kept: the slowest ones along time, along rows and along columns. 0.5"
        " drops the faster half. It needs a model whose adapter declares its rotary embedding.",
        least=0,
        most=1,
        later=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.slow_bands
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise UsageError(f"slow_bands: expected a share above 0 and up to 1, got {value!r}.")
        if value < 1 and not self.rotary:
            raise UsageError("slow_bands: without the rotary embedding (rotary=false) there are no bands to choose.")


@dataclass(frozen=True)
class CosineConfig(ProbeConfig):
    """The options of the probes that match unit vectors: as in `ProbeConfig`, with the temperature of the softmax.

    Raises:
        UsageError: an option has a wrong value.
    """

    temperature: float = option(
        0.07,
        "The softmax takes cosines divided by it. A small temperature sharpens the correlation, so that each head votes"
        " for fewer tokens. Choose another one on held-out clips.",
        least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.temperature
        usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
        if not usable:
            raise UsageError(f"temperature: expected a number above 0, got {value!r}.")

    @property
    def scale(self) -> float:
        """The factor on the cosines inside the softmax."""
        return 1.0 / self.temperature


@dataclass(frozen=True)
class OneWayConfig(ProbeConfig):
    """The options of `feature`, which has no softmax."""

    LEFT_OUT = frozenset({"radius", "rotary", "symmetric"})


@dataclass(frozen=True)
class HiddenConfig(ProbeConfig):
    """The options of `hidden`: none, because the hidden state has no heads, and it is matched one way."""

    LEFT_OUT = frozenset({"heads", "radius", "rotary", "symmetric"})


@dataclass(frozen=True)
class HiddenCosineConfig(CosineConfig):
    """The options of `hidden-cos`."""

    LEFT_OUT = frozenset({"heads", "rotary"})


@dataclass(frozen=True)
class SummaryConfig(ProbeConfig):
    """The options of the probes that summarise attention."""

    LEFT_OUT = frozenset({"radius", "rotary", "symmetric"})


def refuse(asked: bool, probe: str, option: str, hint: str) -> None:
    """Raises UsageError if a value of an option was `asked` for that the probe does not take."""
    if asked:
        raise UsageError(f"Probe {probe!r} does not take this {option!r}.", hint=hint)
