"""Computes the attention of a perturbation, in the calls of a pass of the conditional branch alone.

Shape legend: R rows of the branch, H heads, N tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from vcorr.capture.captures import TokenLayout
from vcorr.capture.mask import text_mask
from vcorr.capture.split import find_ranges
from vcorr.capture.tap import AttentionCall, Compute
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import COND, GuidedCall, Perturbation
from vcorr.contract.records import Site


class AttentionEditor:
    """An interceptor of attention: gives each call to the edit of a perturbation, as a `GuidedCall`.

    Args:
        perturbation: of kind "attention".
        sites: the perturbed modules, by name.
        layout: where the text tokens are.
        grid: returns how the tokens of a site lie over the video.
    """

    def __init__(
        self,
        perturbation: Perturbation,
        sites: Mapping[str, Site],
        layout: TokenLayout,
        grid: Callable[[Site], TokenGrid],
    ) -> None:
        self._perturbation, self._sites, self._grid = perturbation, sites, grid
        self._layout = replace(layout, branches=(COND,), passes=(), per_sample=False)
        self._masks_checked: set[str] = set()

    def __call__(self, call: AttentionCall, compute: Compute) -> Tensor:
        """Computes the perturbed output of a call, (R, H, N, D); chosen heads alone, if the perturbation names some."""
        edit, heads = self._perturbation.edit, self._perturbation.heads
        assert edit is not None  # a perturbation of blocks needs no editor
        given = self._to_guided(call)
        if heads is None:
            return edit(given)
        chosen = list(heads)
        part = replace(given, q=given.q[:, chosen], k=given.k[:, chosen], v=given.v[:, chosen])
        out = compute(call).clone()
        out[:, chosen] = edit(part)
        return out

    def _to_guided(self, call: AttentionCall) -> GuidedCall:
        site = self._sites[call.name]
        if call.causal:
            raise CaptureError(f"{call.name}: its attention is causal, so it cannot be perturbed.")
        grid, layout = self._grid(site), self._layout
        video, text = find_ranges(call, site.factorised, grid, layout)
        mask = text_mask(call, 0, video, text)
        if mask is not None:
            self._check_mask(site, mask.plain)
        groups = call.q.shape[1] // call.k.shape[1]
        k, v = (each.repeat_interleave(groups, dim=1) if groups > 1 else each for each in (call.k, call.v))
        return GuidedCall(
            site,
            grid,
            call.q,
            k,
            v,
            n_text=text.stop - text.start,
            text_first=text.start < video.start,
            key_mask=None if mask is None else mask.real,
            scale=call.scale,
        )

    def _check_mask(self, site: Site, plain: Tensor) -> None:
        """Checks once per site that the mask hides text alone, because each check waits for the device."""
        if site.name in self._masks_checked:
            return
        self._masks_checked.add(site.name)
        if not bool(plain):
            raise CaptureError(
                f"{site.name}: its mask hides more than padded text, so its attention cannot be perturbed.",
                hint="Choose other layers: --set guidance.layers=...",
            )
