"""Is the declared layout of a rotary embedding the model's? Queries and keys are turned by it, and compared.

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
"""Of the largest value, by dtype."""


STRETCH = 0.3
"""Share by which an embedding may change the length of a token. V-JEPA 2 repeats its sines in another order than its
cosines, which is no exact turn: 14 % on random weights. A norm changes lengths several times over."""


class SameLength:
    """A probe that expects what comes before the rotary embedding to be as long as what attends: it only turns."""

    needs = frozenset({"q", "k", "q_unrotated", "k_unrotated"})

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        """Fails where something else happens in between, the norm of queries and keys for instance."""
        for name, before, after in (("q", capture.q_unrotated, capture.q), ("k", capture.k_unrotated, capture.k)):
            lengths = [tensor.float().norm(dim=(0, -1)) for tensor in (before, after)]
            off = float(((lengths[0] - lengths[1]).abs() / lengths[1].clamp(min=1e-6)).max())
            expect(
                off <= STRETCH,
                f"{capture.site.name}: {name} changes its length by {off:.1%} from where it is said to be unrotated to "
                "attention: is a norm in between? `unrotated` names the last module before the rotary embedding.",
            )
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


class Turned:
    """A probe that turns what comes before the rotary embedding, and expects what attends; answers nothing moves."""

    needs = frozenset({"q", "k", "q_unrotated", "k_unrotated"})

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        """Fails where the layout of the site is not the model's."""
        rotary = capture.site.rotary
        assert rotary is not None  # only such sites are asked for
        same = rotary.width == capture.q.shape[-1]
        expect(same, f"{capture.site.name}: rotary has heads of {rotary.width} channels, not {capture.q.shape[-1]}.")
        for name, before, after in (("q", capture.q_unrotated, capture.q), ("k", capture.k_unrotated, capture.k)):
            off = (turned(before, rotary) - after.float()).abs().max() / after.abs().max()
            right = bool(off <= TOLERANCE.get(after.dtype, 1e-3))
            expect(right, f"{capture.site.name}: {name} is not turned as rotary says, by {float(off):.1%} of its size.")
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def turned(tensor: Tensor, rotary: Rotary) -> Tensor:
    """Queries or keys (H, F, h, w, d), turned as a rotary layout says; float32."""
    angles = torch.from_numpy(rotary.angles(*tensor.shape[1:4])).to(tensor.device)
    cos, sin = angles.cos().float(), angles.sin().float()
    first, second = (torch.from_numpy(channels).to(tensor.device) for channels in rotary.channels())
    a, b = tensor[..., first].float(), tensor[..., second].float()
    found = torch.empty_like(tensor, dtype=torch.float32)
    found[..., first] = a * cos - b * sin
    found[..., second] = a * sin + b * cos
    return found
