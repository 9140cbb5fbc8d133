"""Cuts attention: computes the output of a call as if some tokens, or a head, were not there (docs/knockouts.md).

No mask over all pairs of tokens is built. Every latent frame attends to its own list of keys, so a mask has at most the
rows of one frame.

Shape legend: B batch rows, H heads, N tokens in the sequence of a batch row, D head width. P video tokens of one latent
frame in a batch row: h*w, but 1 under temporal attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from vcorr.capture.captures import TokenLayout
from vcorr.capture.split import find_ranges
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError, UsageError, unknown_name
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site
from vcorr.interventions.partial_attention import attend_to

CutKind = Literal["cross-frame", "self-frame", "text", "head", "head-mean"]
KINDS: tuple[CutKind, ...] = get_args(CutKind)
"""cross-frame: video tokens do not see the video tokens of other latent frames. self-frame: video tokens do not see
their own latent frame, except for themselves. text: video tokens do not see the text. head: the output is 0. head-mean:
the output of every token is the mean over the video tokens, or over the text tokens, of its batch row."""


def check_kind(kind: str) -> CutKind:
    """Returns the kind of cut with this name; raises UsageError if there is none."""
    for known in KINDS:
        if kind == known:
            return known
    raise unknown_name("kind of knock-out", str(kind), KINDS)


def check_cut(kind: CutKind, site: Site, grid: TokenGrid, layout: TokenLayout) -> None:
    """Checks that a kind of cut removes something at a site.

    Raises:
        UsageError: it does not; the message has the reason.
    """
    reason = _why_not(kind, site, grid, layout)
    if reason:
        raise UsageError(
            f"Layer {site.layer} ({site.name}) has no {kind} attention to knock out: {reason}.",
            hint="Choose other layers, or another kind of cut.",
        )


def _why_not(kind: CutKind, site: Site, grid: TokenGrid, layout: TokenLayout) -> str:
    """Returns why a cut would remove nothing at a site; "" if it removes something."""
    factorised = "" if site.factorised is None else site.factorised.kind
    of_tokens = kind not in ("head", "head-mean")
    reasons = {
        "it computes no attention that can be changed": site.attention == "none",
        "its attention is linear, so there are no weights of single tokens; the kind head works there": (
            of_tokens and site.attention == "linear"
        ),
        "its spatial attention never sees another frame; temporal layers do": (
            kind == "cross-frame" and factorised == "spatial"
        ),
        "there is one latent frame alone": kind == "cross-frame" and grid.frames == 1,
        "its temporal attention sees one token per frame, and a token keeps itself; spatial layers see more": (
            kind == "self-frame" and factorised == "temporal"
        ),
        "no text tokens are in its sequence": (kind == "text" and (layout.text == "none" or factorised == "temporal")),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


@dataclass(frozen=True)
class _Sequence:
    """The tokens of a batch row. frames: slices of its latent frames, in order. text: slice of the text."""

    frames: tuple[slice, ...]
    text: slice
    video: slice


def compute_cut(
    kind: CutKind, call: AttentionCall, plain: Tensor, site: Site, grid: TokenGrid, layout: TokenLayout
) -> Tensor:
    """Computes the output of an attention call with a cut in all its heads.

    Only rows of video tokens change, except under "head" and "head-mean". Masks of the call stay in force.

    Args:
        kind: what is removed; `KINDS` has the definitions.
        call: q (B, H, N, D), with k and v of as many heads or of fewer, which are then shared.
        plain: its output without a cut, (B, H, N, D).
        site: the attention module.
        grid: of the video tokens.
        layout: where the text tokens are.

    Returns:
        (B, H, N, D); a new tensor.

    Raises:
        UsageError: the cut removes nothing at this site.
        CaptureError: the tensors do not fit site, grid and layout, or the attention is causal.
    """
    check_cut(kind, site, grid, layout)
    if kind == "head":
        return torch.zeros_like(plain)
    tokens = _find_tokens(call, site, grid, layout)
    if kind == "head-mean":
        return _replace_by_means(plain, (tokens.video, tokens.text))
    if call.causal:
        raise CaptureError(
            f"{call.name}: its attention is causal; knock-outs of tokens are not defined for it.",
            hint="Choose the kind head.",
        )
    keys, frames = _KEYS[kind], tokens.frames if kind != "text" else (tokens.video,)
    if kind == "text" and tokens.text.start == tokens.text.stop:
        raise CaptureError(f"{call.name}: its sequence of {call.q.shape[2]} tokens holds no text to knock out.")
    cut = plain.clone()
    for frame in frames:
        cut[:, :, frame] = _attend(call, frame, keys(tokens, frame), alone=kind == "self-frame")
    return cut


def _find_tokens(call: AttentionCall, site: Site, grid: TokenGrid, layout: TokenLayout) -> _Sequence:
    video, text = find_ranges(call, site.factorised, grid, layout)
    count = 1 if site.factorised is not None and site.factorised.kind == "spatial" else grid.frames
    size = (video.stop - video.start) // count
    starts = range(video.start, video.stop, size)
    return _Sequence(tuple(slice(start, start + size) for start in starts), text, video)


def _own_frame(tokens: _Sequence, frame: slice) -> list[slice]:
    return [tokens.text, frame]


def _other_frames(tokens: _Sequence, frame: slice) -> list[slice]:
    """Returns text and the other frames, and the own frame at the end, of which a token sees itself alone."""
    before, after = slice(tokens.video.start, frame.start), slice(frame.stop, tokens.video.stop)
    return [tokens.text, before, after, frame]


def _all_frames(tokens: _Sequence, frame: slice) -> list[slice]:
    return [tokens.video]


_KEYS: dict[CutKind, Callable[[_Sequence, slice], list[slice]]] = {
    "cross-frame": _own_frame,
    "self-frame": _other_frames,
    "text": _all_frames,
}


def _attend(call: AttentionCall, rows: slice, keys: Sequence[slice], *, alone: bool) -> Tensor:
    """Returns (B, H, P, D), the attention of the tokens `rows` over the tokens `keys`.

    alone: whether the last P keys are `rows` themselves, and each token sees only itself among them.
    """
    seen = None
    if alone:
        size, count = rows.stop - rows.start, sum(part.stop - part.start for part in keys)
        seen = torch.ones(size, count, dtype=torch.bool, device=call.k.device)
        seen[:, -size:] = torch.eye(size, dtype=torch.bool, device=call.k.device)
    return attend_to(call, rows, keys, seen)


def _replace_by_means(plain: Tensor, parts: Sequence[slice]) -> Tensor:
    changed = plain.clone()
    for part in parts:
        if part.stop > part.start:
            changed[:, :, part] = plain[:, :, part].float().mean(dim=2, keepdim=True).to(plain.dtype)
    return changed
