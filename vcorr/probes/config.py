"""Options of the built-in probes; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vcorr.errors import UsageError
from vcorr.records import HEAD_MEAN, Site

HeadChoice = Literal["mean", "each"] | tuple[int, ...]


@dataclass(frozen=True)
class ProbeConfig:
    """Which heads a probe reads, before or after the rotary embedding, and how it reads positions off the correlation.

    heads: "mean" (one answer from all heads together), "each" (that answer and one of every head alone), or chosen
    heads by comma, "0,3" (one answer from these together). An answer from several heads is stored under head -1,
    whether from all or from chosen ones (the options are part of the run); an answer from one chosen head under that
    head.
    radius: 0 answers with the centre of the best token; r > 0 with the mean of the centres within r tokens of it,
    weighted with the correlation. `feature` and `hidden`, whose scores are not weights, take 0 only.
    rotary: False reads q and k before the rotary embedding, so that only content is matched and not places. `qk`, `kk`
    and `qq` only, on models whose adapter says where these are.
    symmetric: False leaves out the reverse softmax, from frame 0 back. `feature` and `hidden` are one way in any case.
    `attention` matches nothing: it takes neither radius nor False for the last two.

    Raises:
        UsageError: an option cannot be used.
    """

    heads: str = "mean"
    radius: int = 0
    rotary: bool = True
    symmetric: bool = True

    def __post_init__(self) -> None:
        parse_heads(self.heads)
        for name in ("rotary", "symmetric"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name}: expected true or false, got {getattr(self, name)!r}.")
        if isinstance(self.radius, bool) or not isinstance(self.radius, int) or self.radius < 0:
            raise UsageError(f"radius: expected a whole number of tokens of at least 0, got {self.radius!r}.")

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Checks the chosen heads against the sites before anything runs; sites of unknown head count pass.

        Raises:
            UsageError: a site has fewer heads.
        """
        chosen = parse_heads(self.heads)
        for site in sites:
            if isinstance(chosen, tuple) and site.heads and max(chosen) >= site.heads:
                raise UsageError(
                    f"probe.heads={self.heads}: layer {site.layer} has {site.heads} heads, 0 to {site.heads - 1}."
                )


def parse_heads(heads: str) -> HeadChoice:
    """What the option `heads` means: "mean", "each", or the chosen heads.

    Raises:
        UsageError: it is none of these.
    """
    if heads == "mean":
        return "mean"
    if heads == "each":
        return "each"
    parts = [part.strip() for part in heads.split(",")] if isinstance(heads, str) else []
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"heads: expected 'mean', 'each', or heads counted from 0 as in '0,3', got {heads!r}.")
    chosen = tuple(int(part) for part in parts)
    if len(set(chosen)) != len(chosen):
        raise UsageError(f"heads: {heads!r} names a head twice.")
    return chosen


def head_column(chosen: tuple[int, ...]) -> int:
    """The head that the answer of `chosen` heads together is stored under."""
    return chosen[0] if len(chosen) == 1 else HEAD_MEAN


def refuse(asked: bool, probe: str, option: str, hint: str) -> None:
    """Raises UsageError when a value of an option was `asked` for that the probe cannot be given."""
    if asked:
        raise UsageError(f"Probe {probe!r} cannot be given this {option!r}.", hint=hint)
