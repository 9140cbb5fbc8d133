"""Checks the declared layout of a rotary embedding: rotates queries and keys by it and compares with the model's.

Axes: H heads, F x h x w video tokens, d head width, P = d / 2 pairs of channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vcorr.capture.captures import Capture
from vcorr.contract.rotary import Rotary
from vcorr.functional.query_points import QueryPoints
from vcorr.testing.report import expect

TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Allowed error by dtype, as a share of the largest value."""


STRETCH = 0.3
"""Share by which an embedding may change the length of a token's vector.

V-JEPA 2 repeats its sines in another order than its cosines, so it does not rotate exactly: 14 % with random weights. A
norm changes lengths by several times.
"""


class SameLength:
    """A probe that expects vectors of equal length before and after the rotary embedding, which only rotates them."""

    needs = frozenset({"q", "k", "q_unrotated", "k_unrotated"})

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        """Fails when something else happens in between, such as the norm of queries and keys."""
        for name, before, after in (("q", capture.q_unrotated, capture.q), ("k", capture.k_unrotated, capture.k)):
            lengths = [tensor.float().norm(dim=(0, -1)) for tensor in (before, after)]
            off = float(((lengths[0] - lengths[1]).abs() / lengths[1].clamp(min=1e-6)).max())
            expect(
                off <= STRETCH,
                f"{capture.site.name}: the length of {name} changes by {off:.1%} between the module in `unrotated` and "
                "attention. Is a norm in between? `unrotated` must name the last module before the rotary embedding.",
            )
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


class Rotated:
    """A probe that rotates q and k from before the rotary embedding, and expects the q and k of attention.

    It predicts that nothing moves.
    """

    needs = frozenset({"q", "k", "q_unrotated", "k_unrotated"})

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        """Fails when the layout that the site declares is not the model's."""
        rotary = capture.site.rotary
        assert rotary is not None  # the suite chooses sites with a layout
        same = rotary.width == capture.q.shape[-1]
        expect(
            same,
            f"{capture.site.name}: rotary declares heads of {rotary.width} channels, the model's heads have "
            f"{capture.q.shape[-1]}.",
        )
        for name, before, after in (("q", capture.q_unrotated, capture.q), ("k", capture.k_unrotated, capture.k)):
            off = (rotate(before, rotary) - after.float()).abs().max() / after.abs().max()
            right = bool(off <= TOLERANCE.get(after.dtype, 1e-3))
            expect(
                right,
                f"{capture.site.name}: {name} rotated as `rotary` declares differs from the model's {name} by up to "
                f"{float(off):.1%} of its largest value.",
            )
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def rotate(tensor: Tensor, rotary: Rotary) -> Tensor:
    """Rotates queries or keys (H, F, h, w, d) as a rotary layout declares; returns float32."""
    angles = torch.from_numpy(rotary.angles(*tensor.shape[1:4])).to(tensor.device)
    cos, sin = angles.cos().float(), angles.sin().float()
    first, second = (torch.from_numpy(channels).to(tensor.device) for channels in rotary.channels())
    a, b = tensor[..., first].float(), tensor[..., second].float()
    found = torch.empty_like(tensor, dtype=torch.float32)
    found[..., first] = a * cos - b * sin
    found[..., second] = a * sin + b * cos
    return found
