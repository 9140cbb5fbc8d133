"""The probes that match: `qk`, `qk-position`, `kk`, `qq`, `vv`, `feature`, `hidden` and the fair twins of the last two
(PROTOCOL sections 2, 3 and 5).

Axes: H heads, F x h x w video tokens, d head width, c width of the hidden state, N query points. Answers are {head:
(N, F, 2) pixels}, -1 for several heads together.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from vcorr.capture.records import Capture
from vcorr.errors import UsageError
from vcorr.functional import match, match_features
from vcorr.geometry import TokenGrid
from vcorr.probes.config import ProbeConfig, head_column, parse_heads, refuse
from vcorr.records import HEAD_MEAN, Readout


class SoftmaxMatch:
    """Two tensors of an attention call matched as DiffTrack matches queries and keys: softmax per head and frame, both
    ways, mean over heads.

    Subclasses say `name`, which tensors in `left` and `right`, and in `scaled` whether they are queries and keys, which
    take the scale of the model's attention; all others are scaled by 1/sqrt(d). Only `q` and `k` can be read without
    the rotary embedding.

    Raises:
        UsageError: an option is given that this probe does not have.
    """

    name: ClassVar[str]
    left: ClassVar[str]
    right: ClassVar[str]
    scaled: ClassVar[bool] = False
    needs: frozenset[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.needs = frozenset({cls.left, cls.right})

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self._config = config or ProbeConfig()
        parts = (self.left, self.right)
        if not self._config.rotary:
            turned = {"q", "k"}.issuperset(parts)
            refuse(not turned, self.name, "rotary", "'qk', 'kk' and 'qq' have it: only q and k are rotated.")
            parts = (f"{self.left}_unrotated", f"{self.right}_unrotated")
        self._parts = parts
        self.needs = frozenset(parts)

    @property
    def readout(self) -> Readout:
        """What positions can be answered: those of whole tokens, unless a radius refines them."""
        return "free" if self._config.radius else "token"

    def read(self, capture: Capture, queries: Tensor) -> dict[int, Tensor]:
        """Positions per head; see `vcorr.protocols.Probe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        left, right = (self._tensor(capture, part) for part in self._parts)
        scale = capture.scale if self.scaled else None
        return _match(left, right, capture.grid, queries, self._config, scale)

    def _tensor(self, capture: Capture, part: str) -> Tensor:
        tensor: Tensor = getattr(capture, part)
        return tensor


class QueryKey(SoftmaxMatch):
    """`qk`: queries of frame 0 match keys of the later frames and the other way round."""

    name, left, right, scaled = "qk", "q", "k", True


class QueryKeyPosition(SoftmaxMatch):
    """`qk-position`: as `qk`, with the content of all tokens replaced by its mean, so that positions alone match: what
    the rotary embedding answers without any picture.
    """

    name, left, right, scaled = "qk-position", "q_position", "k_position", True


class KeyKey(SoftmaxMatch):
    """`kk`: keys match keys."""

    name, left, right, scaled = "kk", "k", "k", True


class QueryQuery(SoftmaxMatch):
    """`qq`: queries match queries."""

    name, left, right, scaled = "qq", "q", "q", True


class ValueValue(SoftmaxMatch):
    """`vv`: values match values."""

    name, left, right = "vv", "v", "v"


class FeatureFair(SoftmaxMatch):
    """`feature-fair`: the attention output matches itself per head and symmetrically, so that it compares with `qk`."""

    name, left, right = "feature-fair", "out", "out"


class HiddenFair(SoftmaxMatch):
    """`hidden-fair`: the block's output matches itself as `feature-fair` does, cut into as many slices as there are
    heads.
    """

    name, left, right = "hidden-fair", "hidden", "hidden"

    def _tensor(self, capture: Capture, part: str) -> Tensor:
        hidden, heads = capture.hidden, capture.site.heads
        if heads < 1 or hidden.shape[-1] % heads:
            raise UsageError(
                f"Probe 'hidden-fair' cuts the {hidden.shape[-1]} channels of {capture.site.block} into one slice a "
                f"head; its site declares {heads} heads.",
                hint="The model's adapter says so in Site(..., heads=...).",
            )
        return hidden.view(*hidden.shape[:3], heads, -1).permute(3, 0, 1, 2, 4)


class Feature:
    """`feature`: the attention output before its projection, heads side by side, matches itself by raw dot product.

    Raises:
        UsageError: an option is given that this probe does not have.
    """

    needs = frozenset({"out"})
    readout: Readout = "token"

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self._config = config or ProbeConfig()
        _refuse_softmax_options("feature", self._config)

    def read(self, capture: Capture, queries: Tensor) -> dict[int, Tensor]:
        """Positions per head; see `vcorr.protocols.Probe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        out, grid, chosen = capture.out, capture.grid, parse_heads(self._config.heads)
        if isinstance(chosen, tuple):
            return {head_column(chosen): match_features(_side_by_side(take_heads(out, chosen)), grid, queries)}
        answers = {HEAD_MEAN: match_features(_side_by_side(out), grid, queries)}
        if chosen == "each":
            answers.update({head: match_features(one, grid, queries) for head, one in enumerate(out)})
        return answers


class Hidden:
    """`hidden`: the output of the block, all its channels, matches itself by raw dot product. It has no heads.

    Raises:
        UsageError: an option is given that this probe does not have.
    """

    needs = frozenset({"hidden"})
    readout: Readout = "token"

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self._config = config or ProbeConfig()
        _refuse_softmax_options("hidden", self._config)
        chosen = isinstance(parse_heads(self._config.heads), tuple)
        refuse(chosen, "hidden", "heads", "'hidden-fair' has it: it cuts the channels into one slice a head.")

    def read(self, capture: Capture, queries: Tensor) -> dict[int, Tensor]:
        """Positions, under head -1 alone; see `vcorr.protocols.Probe`."""
        return {HEAD_MEAN: match_features(capture.hidden, capture.grid, queries)}


def take_heads(tensor: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """The chosen heads of a tensor (H, ...).

    Raises:
        UsageError: one does not exist.
    """
    if max(chosen) >= len(tensor):
        raise UsageError(
            f"heads: {max(chosen)} is out of range: there are {len(tensor)} heads, 0 to {len(tensor) - 1}."
        )
    return torch.stack([tensor[head] for head in chosen])  # indexing with a list would wait for the device


def _refuse_softmax_options(name: str, config: ProbeConfig) -> None:
    refuse(bool(config.radius), name, "radius", f"'{name}-fair' and 'qk' have it: their correlation is a softmax.")
    refuse(not config.rotary, name, "rotary", "'qk', 'kk' and 'qq' have it: only q and k are rotated.")


def _match(
    q: Tensor, k: Tensor, grid: TokenGrid, queries: Tensor, config: ProbeConfig, scale: float | None
) -> dict[int, Tensor]:
    chosen, radius, both = parse_heads(config.heads), config.radius, config.symmetric
    if isinstance(chosen, tuple):
        together = match(q, k, grid, queries, heads=chosen, radius=radius, symmetric=both, scale=scale)
        return {head_column(chosen): together}
    answers = {HEAD_MEAN: match(q, k, grid, queries, radius=radius, symmetric=both, scale=scale)}
    if chosen == "each":
        each = match(q, k, grid, queries, heads="each", radius=radius, symmetric=both, scale=scale)
        answers.update(enumerate(each))
    return answers


def _side_by_side(out: Tensor) -> Tensor:
    """(H, F, h, w, d) to features (F, h, w, H*d)."""
    return out.permute(1, 2, 3, 0, 4).flatten(3)
