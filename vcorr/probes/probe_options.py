"""Options of the built-in probes; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from vcorr.contract.errors import UsageError
from vcorr.probes.heads import Heads


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
        if isinstance(self.heads, str) and self.heads.startswith("[") and self.heads.endswith("]"):
            object.__setattr__(self, "heads", self.heads[1:-1])  # "[0,3]" and "0,3" are one option of one run
        self.head_choice  # noqa: B018  # parsed here once; text that cannot be read is refused
        for name in ("rotary", "symmetric"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name}: expected true or false, got {getattr(self, name)!r}.")
        if isinstance(self.radius, bool) or not isinstance(self.radius, int) or self.radius < 0:
            raise UsageError(f"radius: expected a whole number of tokens of at least 0, got {self.radius!r}.")

    @cached_property
    def head_choice(self) -> Heads:
        """The option `heads` as a value."""
        return Heads.parse(self.heads)


def refuse(asked: bool, probe: str, option: str, hint: str) -> None:
    """Raises UsageError when a value of an option was `asked` for that the probe cannot be given."""
    if asked:
        raise UsageError(f"Probe {probe!r} cannot be given this {option!r}.", hint=hint)
