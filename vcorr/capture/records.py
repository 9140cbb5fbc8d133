"""What a tapped attention call hands to the probes.

Shape legend: B batch, H heads, N tokens of the whole sequence, F x h x w video tokens, n text tokens, d head width, c
width of the hidden state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vcorr.geometry import TokenGrid
from vcorr.records import Site

if TYPE_CHECKING:  # a layout is data an adapter declares without loading torch
    from torch import Tensor

TextPlace = Literal["before", "after", "none"]


@dataclass(frozen=True)
class TokenLayout:
    """How a model lays out the tokens and the batch of its attention calls, as data.

    text: where text tokens stand in the sequence relative to the video tokens ("none": the sequence is video only).
    branches: the guidance branches in batch order when the batch holds more than one, e.g. ("uncond", "cond"); "cond"
    must be among them and is the one that is read. A batch of one is the conditional branch itself.
    text_tokens: how many text tokens stand there, for models that always have the same number (the class token and the
    registers of an image backbone); None for whatever is left of the sequence.
    per_sample: each row of the batch is attended to in a call of its own, in their order, as in models whose rows
    differ in length; `branches` then says which call is read.

    Where attention is factorised (`Site.factorised`), this is said of each row that holds a frame; rows that hold a
    place never hold text.
    """

    text: TextPlace = "none"
    branches: tuple[str, ...] = ("cond",)
    text_tokens: int | None = None
    per_sample: bool = False


@dataclass(frozen=True)
class Capture:
    """One attention call of the conditional branch, text set apart, exactly as the model computed with it.

    q, k, v: after query-key norm and rotary embedding, (H, F, h, w, d). out: the attention output before its output
    projection, same shape. k_text: (H, n, d), keys of the text tokens (n may be 0); of the first frame, where every
    frame has its own. Tensors the probe did not ask for are None; k_text comes with k.
    step: 0-based index of the scheduler's timestep. noise: sigma / (alpha + sigma), NaN without noise.
    hidden: (F, h, w, c), the output of the block the attention is in. q_unrotated, k_unrotated: q and k before the
    rotary embedding, of their shapes. q_position, k_position: what q and k would be if all video tokens had the same
    content, its mean: the rotary embedding alone.
    key_mask: (n,) bool, True where a text token is real and not padding; None when the model masks nothing, and when
    the probe did not ask for "mask". scale: of the dot products inside the softmax; None means 1/sqrt(d).
    All tensors are views into the model's own memory, or copies where the frames come in several calls: read them,
    never write.
    """

    site: Site
    grid: TokenGrid
    step: int
    noise: float
    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    k_text: Tensor
    # the type is that of what a probe asked for; nobody asked for what is left None
    hidden: Tensor = None  # type: ignore[assignment]
    q_unrotated: Tensor = None  # type: ignore[assignment]
    k_unrotated: Tensor = None  # type: ignore[assignment]
    q_position: Tensor = None  # type: ignore[assignment]
    k_position: Tensor = None  # type: ignore[assignment]
    key_mask: Tensor | None = None
    scale: float | None = None
