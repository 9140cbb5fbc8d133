"""Interceptors that knock out attention at chosen layers, heads and steps, or measure what a knock-out would change.

They are for `vcorr.capture.intercept`. Shape legend: B batch rows, H heads, N tokens, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.capture.captures import TokenLayout
from vcorr.capture.interceptors import EditableCall
from vcorr.capture.tap import AttentionCall, Compute
from vcorr.contract.errors import CaptureError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site
from vcorr.interventions.knockout_cuts import CutKind, check_cut, check_kind, compute_cut

GridOf: TypeAlias = TokenGrid | Callable[[Site], TokenGrid]
"""The grid of the video tokens: one for all sites, or a function of the site."""


@dataclass(frozen=True)
class Knockout:
    """What is knocked out, and where; an interceptor for `vcorr.capture.intercept` at the sites of its layers.

    The new output is plain + dose * (cut - plain), in the chosen heads of the chosen layers, in every guidance branch.

    kind: see `vcorr.interventions.knockout_cuts.KINDS`. heads: the chosen heads by layer; an empty tuple for all
    heads. grid, layout: of the model's tokens. dose: 0 for no change, 1 for the whole cut. Controls of equal norm may
    need more than 1. steps: the denoising steps; None for all. changes: if given, gets the norm of what was changed in
    each chosen head, by layer, as in `ChangeMeter.norms`.

    Raises:
        UsageError: the kind is unknown, no layer is chosen, or the dose is negative or not finite.
    """

    kind: CutKind
    heads: Mapping[int, Sequence[int]]
    grid: GridOf
    layout: TokenLayout
    dose: float = 1.0
    steps: frozenset[int] | None = None
    changes: dict[int, NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        check_kind(self.kind)
        if not self.heads:
            raise UsageError("A knock-out needs at least one layer.", hint="For example: heads={17: ()}")
        if not (_is_number(self.dose) and self.dose >= 0):
            raise UsageError(f"A dose must be a number of at least 0, got {self.dose!r}.", hint="1 is the whole cut.")

    def __call__(self, call: EditableCall, compute: Compute) -> Tensor:
        """Returns the output of a call, (B, H, N, D), with the cut where it acts."""
        plain = compute(call)
        layer = call.site.layer
        active = self.steps is None or call.step in self.steps
        if not (active and self.dose) or layer not in self.heads:
            return plain
        heads = check_heads(call, self.heads[layer])
        chosen = _choose_heads(call, heads)
        own, grid = plain[:, heads], _grid_at(self.grid, call.site)
        cut = compute_cut(self.kind, chosen, own, call.site, grid, self.layout)
        changed = plain.clone()
        changed[:, heads] = torch.lerp(own, cut, self.dose)
        if self.changes is not None:
            self.changes[layer] = head_norms(changed[:, heads] - own)
        return changed

    def check(self, sites: Sequence[Site]) -> None:
        """Checks that the knock-out removes something at each of its layers.

        Raises:
            UsageError: a layer or a head does not exist, or nothing would be removed there; the message says why.
        """
        for site in self.find_sites(sites):
            check_cut(self.kind, site, _grid_at(self.grid, site), self.layout)

    def find_sites(self, sites: Sequence[Site]) -> list[Site]:
        """Returns the sites of its layers, out of all sites of a model.

        Raises:
            UsageError: a layer or a head does not exist.
        """
        known = {site.layer: site for site in sites}
        if missing := [layer for layer in self.heads if layer not in known]:
            raise UsageError(
                f"The model has no layer {missing[0]}.", hint=f"It has {len(known)} layers, counted from 0."
            )
        for layer, heads in self.heads.items():
            count = known[layer].heads
            wrong = [head for head in heads if head < 0 or head >= count > 0]
            if wrong:
                raise UsageError(f"Layer {layer} has no head {wrong[0]}.", hint=f"It has heads 0-{count - 1}.")
        return [known[layer] for layer in self.heads]


@dataclass(frozen=True)
class ChangeMeter:
    """An interceptor that changes nothing, and measures what a whole cut would change in every head.

    norms: by layer, (H,) float64, of the last pass: the root of the sum of squares of cut - plain over batch rows,
    tokens and channels of the attention output, before its output projection.
    """

    kind: CutKind
    grid: GridOf
    layout: TokenLayout
    norms: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    def __call__(self, call: EditableCall, compute: Compute) -> Tensor:
        """Returns the output of a call as it is, (B, H, N, D), and notes the norms."""
        plain = compute(call)
        cut = compute_cut(self.kind, call, plain, call.site, _grid_at(self.grid, call.site), self.layout)
        self.norms[call.site.layer] = head_norms(cut - plain)
        return plain


def head_norms(change: Tensor) -> NDArray[np.float64]:
    """Returns the norm of a change of the attention output (B, H, N, D) per head, (H,) float64."""
    squares = change.float().square().sum(dim=(0, 2, 3), dtype=torch.float64)
    return np.asarray(squares.sqrt().cpu().numpy(), dtype=np.float64)


def check_heads(call: AttentionCall, heads: Sequence[int]) -> list[int]:
    """Returns the chosen heads of a call, all of them if `heads` is empty; raises CaptureError if one is not there."""
    count = call.q.shape[1]
    if wrong := [head for head in heads if not 0 <= head < count]:
        raise CaptureError(f"{call.name}: there is no head {wrong[0]}; it has {count}, counted from 0.")
    return list(heads) or list(range(count))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _choose_heads(call: EditableCall, heads: list[int]) -> EditableCall:
    """Returns the call with some of its heads alone."""
    count = call.q.shape[1]
    if len(heads) == count:
        return call
    k, v = (_of_heads(part, heads, count) for part in (call.k, call.v))
    mask = call.mask
    if mask is not None and mask.ndim >= 3 and mask.shape[-3] > 1:
        mask = mask[..., heads, :, :]
    return replace(call, q=call.q[:, heads], k=k, v=v, mask=mask)


def _of_heads(shared: Tensor, heads: list[int], count: int) -> Tensor:
    """Returns keys or values of some heads; several heads may share one."""
    each = count // shared.shape[1]
    return shared[:, [head // each for head in heads]]


def _grid_at(grid: GridOf, site: Site) -> TokenGrid:
    return grid if isinstance(grid, TokenGrid) else grid(site)
