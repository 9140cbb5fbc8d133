"""Parses the option `heads` of probes into a value; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vcorr.contract.errors import UsageError
from vcorr.contract.records import HEAD_MEAN, Site

HeadChoice = Literal["mean", "each"] | tuple[int, ...]
"""The argument `heads` of `vcorr.functional.match`: the mean over all heads, each head, or the mean over these."""


@dataclass(frozen=True)
class Heads:
    """The heads that a probe reads.

    choice: "mean", the mean over all heads; "each", this mean and each head alone; or chosen heads, counted from 0, for
    the mean over these.
    """

    choice: HeadChoice = "mean"

    @classmethod
    def parse(cls, text: object) -> Heads:
        """Parses "mean", "each", or numbers separated by commas, as in "0,3".

        Raises:
            UsageError: the text has another form, or names a head twice.
        """
        if text == "mean":
            return cls("mean")
        if text == "each":
            return cls("each")
        parts = [part.strip() for part in text.split(",")] if isinstance(text, str) else []
        if not parts or not all(part.isascii() and part.isdigit() for part in parts):
            raise UsageError(f"heads: expected 'mean', 'each', or heads counted from 0 as in '0,3', got {text!r}.")
        chosen = tuple(int(part) for part in parts)
        if len(set(chosen)) != len(chosen):
            raise UsageError(f"heads: {text!r} names a head twice.")
        return cls(chosen)

    @property
    def each(self) -> bool:
        """Whether each head has a prediction of its own, in addition to the mean."""
        return self.choice == "each"

    @property
    def chosen(self) -> tuple[int, ...]:
        """The chosen heads, which share one prediction; empty if all heads are read."""
        return self.choice if isinstance(self.choice, tuple) else ()

    @property
    def column(self) -> int:
        """The value of the column `head` for the prediction of several heads: -1, or the one chosen head."""
        return self.chosen[0] if len(self.chosen) == 1 else HEAD_MEAN

    def count(self, heads: int) -> int:
        """Returns the number of predictions at a site with `heads` heads."""
        return 1 + heads if self.each else 1

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Checks the chosen heads against the sites before anything runs; sites with an unknown number of heads pass.

        Raises:
            UsageError: a site has fewer heads.
        """
        for site in sites:
            if self.chosen and site.heads and max(self.chosen) >= site.heads:
                asked = ",".join(str(head) for head in self.chosen)
                raise UsageError(
                    f"probe.heads={asked}: layer {site.layer} has {site.heads} heads, 0 to {site.heads - 1}."
                )
