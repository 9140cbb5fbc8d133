"""Splits an attention call into a `Capture`: the conditional branch of the batch, video tokens apart from text tokens.

A call is split once, whatever the number of probes. `Split` compares it with what the adapter declares, and its capture
makes each tensor when a probe first reads it. All tensors are views, with one exception: the keys and values of
grouped-query attention are repeated to one per query head. If frames come in several calls, F is the number of frames
in this call (`vcorr.capture.chunks` joins them).

Shape legend: B batch rows, R batch rows of the conditional branch (1 unless attention is factorised), H heads, N tokens
of a batch row's sequence. F x h x w video tokens, n text tokens, D = d head width, C = c width of a block's output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from vcorr.capture.batch_rows import CONDITIONAL, channels_on_grid, conditional_rows, heads_on_grid, tokens_of_a_row
from vcorr.capture.captures import Capture, TokenLayout, overwritten_error, version_of
from vcorr.capture.mask import TextMask, text_mask
from vcorr.capture.needs import POSITIONS, UNROTATED
from vcorr.capture.ranks import ALONE, Ranks
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Axes, Factorised, Site
from vcorr.functional.head_shares import WHOLE, HeadShare

__all__ = ["CONDITIONAL", "Split", "check_layout", "conditional_rows", "find_ranges", "hidden_capture", "split_call"]


def check_layout(layout: TokenLayout) -> None:
    """Checks a layout for contradictions.

    Raises:
        PluginError: a branch is missing or comes twice, or the text fields contradict each other.
    """
    if layout.branches.count(CONDITIONAL) != 1 or len(set(layout.branches)) != len(layout.branches):
        raise PluginError(
            f"TokenLayout: branches must be different names, one of them {CONDITIONAL!r}, got {layout.branches!r}."
        )
    if layout.text not in ("before", "after", "none"):
        raise PluginError(f"TokenLayout: text must be 'before', 'after' or 'none', got {layout.text!r}.")
    if layout.passes and CONDITIONAL not in layout.passes:
        raise PluginError(f"TokenLayout: one of the passes must be {CONDITIONAL!r}, got {layout.passes!r}.")
    count = layout.text_tokens
    if count is not None and (layout.text == "none" or not isinstance(count, int) or count < 0):
        raise PluginError(
            f"TokenLayout: text_tokens must be a whole number of at least 0, and None for text 'none'; got {count!r} "
            f"for {layout.text!r}."
        )


@dataclass(frozen=True)
class Split:
    """One attention call, split into the video tokens and the text tokens of the conditional branch.

    call: q (B, H, N, D) and its k, v, out. site: the module that made the call. grid: of the video tokens. layout:
    where the text and the conditional branch are. unrotated: q and k before the rotary embedding, by "q" and "k", as
    `conditional_rows` returns them, with all tokens; None if no probe needs them. positions: the call from positions
    alone; None if no probe needs it. ranks: the processes that share the pass; the call has the heads of this one, the
    capture has all heads, and its `own_heads` are these.

    Raises:
        CaptureError: the tensors do not have the batch, the tokens or the heads that the adapter declares.
    """

    call: AttentionCall
    site: Site
    grid: TokenGrid
    layout: TokenLayout
    unrotated: Mapping[str, Tensor] | None = None
    positions: AttentionCall | None = None
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        self._ranges  # noqa: B018  # raises if the tokens do not fit
        _check_heads(self.call, self.site, self.ranks)
        self._versions  # noqa: B018  # the counts of writes, before any probe reads

    @cached_property
    def frames(self) -> int:
        """Number of grid frames in the call: all of them, unless spatial attention takes a few frames at a time."""
        factorised = self.site.factorised
        if factorised is None or factorised.kind != "spatial":
            return self.grid.frames
        return self._rows(self.call.q).shape[0]

    @cached_property
    def mask(self) -> TextMask | None:
        """The text tokens that the mask of a call over the whole video leaves; None without a mask."""
        row = self.layout.branches.index(CONDITIONAL) if self.call.q.shape[0] > 1 else 0
        return text_mask(self.call, row, *self._ranges)

    def capture(self, step: int, noise: float) -> Capture:
        """Returns what the probes read; its tensors are made when they are first read.

        Args:
            step: 0-based index of the scheduler's timestep.
            noise: sigma / (alpha + sigma) of the step, NaN without noise.
        """
        own = self._capture(step, noise, ALONE, self.ranks.share) if self.ranks.count > 1 else None
        return self._capture(step, noise, self.ranks, WHOLE, own)

    def _capture(self, step: int, noise: float, joined: Ranks, share: HeadShare, own: Capture | None = None) -> Capture:
        """Returns a capture whose tensors are joined from the processes `joined`."""
        call = self.call
        return Capture(
            self.site,
            self.grid,
            step,
            noise,
            q=partial(self._video, "q", call.q, joined),
            k=partial(self._video, "k", call.k, joined),
            v=partial(self._video, "v", call.v, joined),
            out=None if call.out is None else partial(self._video, "out", call.out, joined),
            k_text=partial(self._text_keys, joined),
            q_unrotated=self._defer_unrotated("q_unrotated", share),
            k_unrotated=self._defer_unrotated("k_unrotated", share),
            q_position=self._defer_position("q_position", joined),
            k_position=self._defer_position("k_position", joined),
            key_mask=lambda: None if self.mask is None else self.mask.real,
            scale=call.scale,
            share=share,
            own=own,
        )

    @cached_property
    def _ranges(self) -> tuple[slice, slice]:
        return find_ranges(self.call, self.site.factorised, self.grid, self.layout)

    def _rows(self, tensor: Tensor) -> Tensor:
        return conditional_rows(self.call.name, tensor, self.site.factorised, self.grid, self.layout)

    def _video(self, part: str, whole: Tensor, joined: Ranks) -> Tensor:
        tokens, _ = self._ranges
        self._check_untouched(part, whole)
        own = heads_on_grid(self._rows(whole)[:, :, tokens], self.site.factorised, self.grid)
        return self._per_head(joined.join_heads(own), joined)

    def _text_keys(self, joined: Ranks) -> Tensor:
        _, text = self._ranges
        self._check_untouched("k", self.call.k)
        return self._per_head(joined.join_heads(self._rows(self.call.k)[0, :, text]), joined)

    @cached_property
    def _versions(self) -> Mapping[str, int]:
        parts = {name: getattr(self.call, name) for name in ("q", "k", "v", "out")}
        return {name: version_of(tensor) for name, tensor in parts.items() if tensor is not None}

    def _check_untouched(self, part: str, whole: Tensor) -> None:
        """Raises CaptureError if the model has overwritten a tensor before a probe read it."""
        if self._versions.get(part, version_of(whole)) != version_of(whole):
            raise overwritten_error(self.call.name, part)

    def _count_heads(self, joined: Ranks) -> int:
        """Returns the number of query heads, in these processes."""
        return self.call.q.shape[1] * joined.count

    def _per_head(self, one: Tensor, joined: Ranks) -> Tensor:
        return _per_head(one, self._count_heads(joined))

    def _defer_unrotated(self, part: str, share: HeadShare) -> Callable[[], Tensor] | None:
        if self.unrotated is None:
            return None
        before = self.unrotated.get(UNROTATED[part])

        def make() -> Tensor:
            if before is None:
                raise CaptureError(
                    f"{self.call.name}: its module for {UNROTATED[part]} before the rotary embedding did not run.",
                    hint="Check Site.unrotated: its modules must run before the attention is computed.",
                )
            rows = _split_unrotated(self.call, self.site, self._ranges[0], before)
            _check_shared(self.call, self._count_heads(self.ranks), rows.shape[1])
            # its tokens were joined already, with all heads
            return share.take(self._per_head(heads_on_grid(rows, self.site.factorised, self.grid), self.ranks))

        return make

    def _defer_position(self, part: str, joined: Ranks) -> Callable[[], Tensor] | None:
        if self.positions is None:
            return None
        return partial(self._video, part, getattr(self.positions, POSITIONS[part]), joined)


def split_call(
    call: AttentionCall, site: Site, grid: TokenGrid, layout: TokenLayout, *, step: int, noise: float, **more: Any
) -> Capture:
    """Returns what the probes read of one attention call: `Split(call, ..., **more).capture(step, noise)`."""
    return Split(call, site, grid, layout, **more).capture(step, noise)


def hidden_capture(
    output: Any, site: Site, grid: TokenGrid, layout: TokenLayout, *, step: int, noise: float, ranks: Ranks = ALONE
) -> Capture:
    """Returns a capture with the hidden state alone, (F, h, w, c).

    Args:
        output: of the block: a tensor with the axes of `Site.block_axes`, or a tuple with such a tensor at the index
            `Site.block_output`. It holds the video tokens alone or the whole sequence.
        site: names the block.
        grid: of the video tokens.
        layout: where the text and the conditional branch are.
        step: 0-based index of the scheduler's timestep.
        noise: sigma / (alpha + sigma) of the step, NaN without noise.
        ranks: the processes that share the pass; the output has the tokens of this one, or all.

    Raises:
        CaptureError: the output has another form, batch or number of tokens than the adapter declares.
    """
    tokens, factorised = _tokens_with_channels(output, site), _block_rows(site)
    rows = conditional_rows(site.block, tokens, factorised, grid, layout)
    expected = tokens_of_a_row(factorised, grid)
    rows = ranks.join_tokens(rows, 1, expected)
    total = rows.shape[1]
    text = total - expected
    if text < 0 or (text and layout.text == "none"):
        raise CaptureError(
            f"{site.block}: its output holds {total} tokens, the grid has {expected} and the text is {layout.text!r}.",
            hint="Site.block_output is the index of the output with the video tokens.",
        )
    video = rows[:, text:] if layout.text == "before" else rows[:, :expected]
    hidden = channels_on_grid(video, factorised, grid)
    own = Capture(site, grid, step, noise, hidden=hidden, share=ranks.share) if ranks.count > 1 else None
    return Capture(site, grid, step, noise, hidden=hidden, own=own)


def _block_rows(site: Site) -> Factorised | None:
    """Returns how the block's output spreads tokens over batch rows; it may differ from the attention's way."""
    if site.block_axes == "bnc":
        return site.factorised
    return Factorised("spatial", site.factorised.order if site.factorised is not None else "branch-major")


def _tokens_with_channels(output: Any, site: Site) -> Tensor:
    """Returns the output tensor at the index `Site.block_output`, as (B, N, C)."""
    tensor = output
    if isinstance(output, (tuple, list)):
        tensor = output[site.block_output] if 0 <= site.block_output < len(output) else None
    axes = len(site.block_axes)
    if not isinstance(tensor, Tensor) or tensor.ndim != axes:
        found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(output).__name__
        form = {"fchw": "(B, C, h, w)", "fhwc": "(B, h, w, C)"}.get(site.block_axes, "(B, N, C)")
        raise CaptureError(
            f"{site.block}: its output number {site.block_output} must be a tensor {form}, got {found}.",
            hint="Site.block names the module whose output is the hidden state, Site.block_output the index of the "
            "tensor, Site.block_axes its axes.",
        )
    if site.block_axes == "fhwc":
        return tensor.flatten(1, 2)
    return tensor.flatten(2).transpose(1, 2) if site.block_axes == "fchw" else tensor


def _split_unrotated(call: AttentionCall, site: Site, tokens: slice, rows: Tensor) -> Tensor:
    """Reshapes the batch rows of a norm's or a projection's output to (R, H_kv, tokens, d), by the site's axes."""
    total, width = call.q.shape[-2:]
    found = _heads_first(rows, site.unrotated.axes if site.unrotated is not None else "bhnd", width)
    if found is not None and found.shape[2] == tokens.stop - tokens.start:
        return found
    if found is not None and found.shape[2] == total:
        return found[:, :, tokens]
    raise CaptureError(
        f"{call.name}: the output that the site declares as q or k before the rotary embedding has shape "
        f"{tuple(rows.shape[1:])}; q in the attention call has {tuple(call.q.shape[1:])}.",
        hint="Check Site.unrotated: the modules, and the axes of their outputs.",
    )


def _heads_first(rows: Tensor, axes: Axes, width: int) -> Tensor | None:
    """Reshapes a tensor with the given axes to (R, H, N, d); returns None if it does not have these axes."""
    if rows.ndim != (3 if axes == "bnc" else 4) or rows.shape[-1] % width:
        return None
    if axes == "bnc":
        return rows.view(*rows.shape[:2], -1, width).transpose(1, 2)
    if rows.shape[-1] != width:
        return None
    return rows.transpose(1, 2) if axes == "bnhd" else rows


def find_ranges(
    call: AttentionCall, factorised: Factorised | None, grid: TokenGrid, layout: TokenLayout
) -> tuple[slice, slice]:
    """Returns the slices of the video tokens and of the text tokens in the sequence of a batch row.

    Raises:
        CaptureError: the tensors do not have the batch or the tokens that the adapter declares.
    """
    if call.q.ndim != 4:
        raise CaptureError(f"{call.name}: q must have shape (B, H, N, D), got {tuple(call.q.shape)}.")
    conditional_rows(call.name, call.q, factorised, grid, layout)
    total, video = call.q.shape[2], tokens_of_a_row(factorised, grid)
    sides = {side.shape[-2] for side in (call.k, call.v, call.out) if side is not None}
    if sides != {total}:
        raise CaptureError(
            f"{call.name}: {total} queries attend to {call.k.shape[-2]} keys; only self-attention can be read.",
            hint="Tap the self-attention module (often attn1), not the cross-attention one.",
        )
    text = "none" if factorised is not None and factorised.kind == "temporal" else layout.text
    shape = _describe_row(factorised, grid)
    if total < video:
        raise CaptureError(
            f"{call.name}: the sequence has {total} tokens, the grid {shape}.",
            hint="The adapter's grid(clip, site) does not describe this clip: check stride, patch and latent frames.",
        )
    if text == "none" and total != video:
        raise CaptureError(
            f"{call.name}: the sequence has {total} tokens, the grid {shape}, and the layout declares no text.",
            hint=f"If the other {total - video} are text, say TokenLayout('before') or TokenLayout('after'). If not, "
            "check the grid.",
        )
    if text != "none" and layout.text_tokens not in (None, total - video):
        raise CaptureError(
            f"{call.name}: the sequence has {total} tokens, the grid {shape}; that leaves {total - video} for the "
            f"text, of which the layout declares {layout.text_tokens}.",
            hint="Check stride and patch, or TokenLayout.text_tokens.",
        )
    if text == "before":
        return slice(total - video, total), slice(0, total - video)
    return slice(0, video), slice(video, total)


def _check_heads(call: AttentionCall, site: Site, ranks: Ranks) -> None:
    heads = call.q.shape[1] * ranks.count
    _check_shared(call, heads, call.k.shape[1] * ranks.count)
    if site.heads and heads != site.heads:
        raise CaptureError(
            f"{call.name}: its attention has {heads} heads, the site declares {site.heads}.",
            hint="Under tensor parallelism a process has only some of the heads: run the model on one device, or under "
            "diffusers' Ulysses parallelism. Otherwise correct Site(..., heads=...).",
        )


def _check_shared(call: AttentionCall, heads: int, shared: int) -> None:
    if heads % shared:
        raise CaptureError(f"{call.name}: {heads} query heads cannot share {shared} key and value heads evenly.")


def _describe_row(factorised: Factorised | None, grid: TokenGrid) -> str:
    space = f"{grid.rows} x {grid.cols}"
    if factorised is None:
        return f"{grid.frames} x {space} = {grid.tokens} video tokens"
    spatial = factorised.kind == "spatial"
    return f"{space} = {grid.tokens_per_frame} tokens per frame" if spatial else f"{grid.frames} frames"


def _per_head(one: Tensor, heads: int) -> Tensor:
    """Repeats (H_kv, ...) to (H, ...): kv head i serves the H/H_kv query heads from i * H/H_kv on."""
    return one if one.shape[0] == heads else one.repeat_interleave(heads // one.shape[0], dim=0)
