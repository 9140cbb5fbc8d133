"""From what a model computed to a `Capture`: the conditional branch of the batch, video tokens apart from text tokens.

A call is split once, whatever the number of probes: `Split` checks it against what the adapter declared, and its
capture makes each tensor when a probe first reads it. Everything is a view; only the keys and values of grouped-query
attention are repeated, of that one branch, to one per query head. Where frames come in several calls, F is the frames
of this one (`vcorr.capture.chunks` joins them).

Shape legend: B batch, R rows of the conditional branch (1 unless attention is factorised), H heads, N tokens of a row's
sequence, F x h x w video tokens, n text tokens, D = d head width, C = c width of a block's output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from vcorr.capture.batch_rows import CONDITIONAL, channels_on_grid, conditional_rows, heads_on_grid, tokens_of_a_row
from vcorr.capture.captures import Capture, TokenLayout, overwritten, version_of
from vcorr.capture.mask import TextMask, text_mask
from vcorr.capture.needs import POSITIONS, UNROTATED
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Axes, Factorised, Site

__all__ = ["CONDITIONAL", "Split", "check_layout", "conditional_rows", "hidden_capture", "split_call"]


def check_layout(layout: TokenLayout) -> None:
    """Raises PluginError when the layout has no conditional branch, a branch twice, or text it cannot have."""
    if layout.branches.count(CONDITIONAL) != 1 or len(set(layout.branches)) != len(layout.branches):
        raise PluginError(
            f"TokenLayout: branches must be different names with {CONDITIONAL!r} among them, got {layout.branches!r}."
        )
    if layout.text not in ("before", "after", "none"):
        raise PluginError(f"TokenLayout: text must be 'before', 'after' or 'none', got {layout.text!r}.")
    if layout.passes and CONDITIONAL not in layout.passes:
        raise PluginError(f"TokenLayout: passes must have {CONDITIONAL!r} among them, got {layout.passes!r}.")
    count = layout.text_tokens
    if count is not None and (layout.text == "none" or not isinstance(count, int) or count < 0):
        raise PluginError(
            f"TokenLayout: text_tokens must be a whole number of at least 0, and None for text 'none'; got {count!r} "
            f"for {layout.text!r}."
        )


@dataclass(frozen=True)
class Split:
    """One attention call, cut into the conditional branch's video and text tokens.

    call: q (B, H, N, D) and its k, v, out. site: the module the call was made in. grid: of the video tokens. layout:
    where the text and the conditional branch are. unrotated: q and k before the rotary embedding as `conditional_rows`
    gave them, by "q" and "k"; None where no probe asks for them. positions: what the call would be of positions alone;
    None where no probe asks for that.

    Raises:
        CaptureError: the tensors do not have the batch, the tokens or the heads that the adapter declared.
    """

    call: AttentionCall
    site: Site
    grid: TokenGrid
    layout: TokenLayout
    unrotated: Mapping[str, Tensor] | None = None
    positions: AttentionCall | None = None

    def __post_init__(self) -> None:
        self._ranges  # noqa: B018  # raises
        _check_heads(self.call, self.site)
        self._versions  # noqa: B018  # as they are now

    @cached_property
    def frames(self) -> int:
        """How many frames of the grid the call holds: all, unless a row of its batch holds one frame."""
        factorised = self.site.factorised
        if factorised is None or factorised.kind != "spatial":
            return self.grid.frames
        return self._rows(self.call.q).shape[0]

    @cached_property
    def mask(self) -> TextMask | None:
        """What the mask of a call over the whole video hides of the text; None without a mask."""
        row = self.layout.branches.index(CONDITIONAL) if self.call.q.shape[0] > 1 else 0
        return text_mask(self.call, row, *self._ranges)

    def capture(self, step: int, noise: float) -> Capture:
        """What the probes read; its tensors are made when they are first read.

        Args:
            step: 0-based index of the scheduler's timestep.
            noise: sigma / (alpha + sigma) of the step, NaN without noise.
        """
        call = self.call
        return Capture(
            self.site,
            self.grid,
            step,
            noise,
            q=partial(self._video, "q", call.q),
            k=partial(self._video, "k", call.k),
            v=partial(self._video, "v", call.v),
            out=None if call.out is None else partial(self._video, "out", call.out),
            k_text=self._text_keys,
            q_unrotated=self._turned_back("q_unrotated"),
            k_unrotated=self._turned_back("k_unrotated"),
            q_position=self._placed("q_position"),
            k_position=self._placed("k_position"),
            key_mask=lambda: None if self.mask is None else self.mask.real,
            scale=call.scale,
        )

    @cached_property
    def _ranges(self) -> tuple[slice, slice]:
        return _ranges(self.call, self.site.factorised, self.grid, self.layout)

    def _rows(self, tensor: Tensor) -> Tensor:
        return conditional_rows(self.call.name, tensor, self.site.factorised, self.grid, self.layout)

    def _video(self, part: str, whole: Tensor) -> Tensor:
        tokens, _ = self._ranges
        self._check_untouched(part, whole)
        return self._per_head(heads_on_grid(self._rows(whole)[:, :, tokens], self.site.factorised, self.grid))

    def _text_keys(self) -> Tensor:
        _, text = self._ranges
        self._check_untouched("k", self.call.k)
        return self._per_head(self._rows(self.call.k)[0, :, text])

    @cached_property
    def _versions(self) -> Mapping[str, int]:
        parts = {name: getattr(self.call, name) for name in ("q", "k", "v", "out")}
        return {name: version_of(tensor) for name, tensor in parts.items() if tensor is not None}

    def _check_untouched(self, part: str, whole: Tensor) -> None:
        """Raises CaptureError where the model has written over a tensor before anybody read it."""
        if self._versions.get(part, version_of(whole)) != version_of(whole):
            raise overwritten(self.call.name, part)

    def _per_head(self, one: Tensor) -> Tensor:
        return _per_head(one, self.call.q.shape[1])

    def _turned_back(self, part: str) -> Callable[[], Tensor] | None:
        if self.unrotated is None:
            return None
        before = self.unrotated.get(UNROTATED[part])

        def make() -> Tensor:
            if before is None:
                raise CaptureError(
                    f"{self.call.name}: its module for {UNROTATED[part]} before the rotary embedding did not run.",
                    hint="Check Site.unrotated: the modules it names must run before the attention is computed.",
                )
            rows = _split_unrotated(self.call, self.site, self._ranges[0], before)
            _check_shared(self.call, rows.shape[1])
            return self._per_head(heads_on_grid(rows, self.site.factorised, self.grid))

        return make

    def _placed(self, part: str) -> Callable[[], Tensor] | None:
        if self.positions is None:
            return None
        return partial(self._video, part, getattr(self.positions, POSITIONS[part]))


def split_call(
    call: AttentionCall, site: Site, grid: TokenGrid, layout: TokenLayout, *, step: int, noise: float, **more: Any
) -> Capture:
    """What the probes read of one attention call: `Split(call, site, grid, layout, **more).capture(step, noise)`."""
    return Split(call, site, grid, layout, **more).capture(step, noise)


def hidden_capture(
    output: Any, site: Site, grid: TokenGrid, layout: TokenLayout, *, step: int, noise: float
) -> Capture:
    """A capture with the hidden state alone, (F, h, w, c).

    Args:
        output: of the block: a tensor with the axes the site says, or several of which the site says the one to read.
            It holds the video tokens alone or the whole sequence.
        site: which block.
        grid: of the video tokens.
        layout: where the text and the conditional branch are.
        step: 0-based index of the scheduler's timestep.
        noise: sigma / (alpha + sigma) of the step, NaN without noise.

    Raises:
        CaptureError: the output has another form, batch or number of tokens than the adapter declared.
    """
    tokens, factorised = _tokens_with_channels(output, site), _block_rows(site)
    rows = conditional_rows(site.block, tokens, factorised, grid, layout)
    total, expected = rows.shape[1], tokens_of_a_row(factorised, grid)
    text = total - expected
    if text < 0 or (text and layout.text == "none"):
        raise CaptureError(
            f"{site.block}: its output holds {total} tokens, the grid has {expected} and the text is {layout.text!r}.",
            hint="Site.block_output says which of several outputs holds the video tokens.",
        )
    video = rows[:, text:] if layout.text == "before" else rows[:, :expected]
    return Capture(site, grid, step, noise, hidden=channels_on_grid(video, factorised, grid))


def _block_rows(site: Site) -> Factorised | None:
    """What a row of the block's output holds, which need not be what a row of the attention holds."""
    if site.block_axes == "bnc":
        return site.factorised
    return Factorised("spatial", site.factorised.order if site.factorised is not None else "branch-major")


def _tokens_with_channels(output: Any, site: Site) -> Tensor:
    """The tensor of a block's output that the site says, as (B, N, C)."""
    tensor = output
    if isinstance(output, (tuple, list)):
        tensor = output[site.block_output] if 0 <= site.block_output < len(output) else None
    axes = 4 if site.block_axes == "fchw" else 3
    if not isinstance(tensor, Tensor) or tensor.ndim != axes:
        found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(output).__name__
        form = "(B, C, h, w)" if axes == 4 else "(B, N, C)"
        raise CaptureError(
            f"{site.block}: its output number {site.block_output} must be a tensor {form}, got {found}.",
            hint="Site.block names the module whose output is the hidden state, Site.block_output which tensor of it, "
            "Site.block_axes its axes.",
        )
    return tensor.flatten(2).transpose(1, 2) if axes == 4 else tensor


def _split_unrotated(call: AttentionCall, site: Site, tokens: slice, rows: Tensor) -> Tensor:
    """Rows of a norm's or projection's output to (R, H_kv, tokens, d), by the axes the site declares."""
    total, width = call.q.shape[-2:]
    found = _heads_first(rows, site.unrotated.axes if site.unrotated is not None else "bhnd", width)
    if found is not None and found.shape[2] == tokens.stop - tokens.start:
        return found
    if found is not None and found.shape[2] == total:
        return found[:, :, tokens]
    raise CaptureError(
        f"{call.name}: what the site says to be q or k before the rotary embedding has shape {tuple(rows.shape[1:])}; "
        f"attention sees {tuple(call.q.shape[1:])}.",
        hint="Check Site.unrotated: the modules, and the axes of what they put out.",
    )


def _heads_first(rows: Tensor, axes: Axes, width: int) -> Tensor | None:
    """(R, H, N, d) from a tensor with the given axes; None when it does not have them."""
    if rows.ndim != (3 if axes == "bnc" else 4) or rows.shape[-1] % width:
        return None
    if axes == "bnc":
        return rows.view(*rows.shape[:2], -1, width).transpose(1, 2)
    if rows.shape[-1] != width:
        return None
    return rows.transpose(1, 2) if axes == "bnhd" else rows


def _ranges(
    call: AttentionCall, factorised: Factorised | None, grid: TokenGrid, layout: TokenLayout
) -> tuple[slice, slice]:
    """Where the video tokens and where the text tokens are in the sequence of a row."""
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
    place = "none" if factorised is not None and factorised.kind == "temporal" else layout.text
    shape = _shape_of_a_row(factorised, grid)
    if total < video:
        raise CaptureError(
            f"{call.name}: the sequence has {total} tokens, the grid {shape}.",
            hint="The adapter's grid(clip, site) does not describe this clip: check stride, patch and latent frames.",
        )
    if place == "none" and total != video:
        raise CaptureError(
            f"{call.name}: the sequence has {total} tokens, the grid {shape}, and the layout declares no text.",
            hint=f"If the other {total - video} are text, say TokenLayout('before') or 'after'; else check the grid.",
        )
    if place != "none" and layout.text_tokens not in (None, total - video):
        raise CaptureError(
            f"{call.name}: the sequence has {total} tokens, the grid {shape}; that leaves {total - video} for the "
            f"text, of which the layout declares {layout.text_tokens}.",
            hint="Check stride and patch, or TokenLayout.text_tokens.",
        )
    if place == "before":
        return slice(total - video, total), slice(0, total - video)
    return slice(0, video), slice(video, total)


def _check_heads(call: AttentionCall, site: Site) -> None:
    heads = call.q.shape[1]
    _check_shared(call, call.k.shape[1])
    if site.heads and heads != site.heads:
        raise CaptureError(
            f"{call.name}: its attention has {heads} heads, the site declares {site.heads}.",
            hint="Under context or tensor parallelism a process holds a part of the heads: run the model on one "
            "device. Otherwise correct Site(..., heads=...).",
        )


def _check_shared(call: AttentionCall, shared: int) -> None:
    heads = call.q.shape[1]
    if heads % shared:
        raise CaptureError(f"{call.name}: {heads} query heads do not share {shared} key and value heads evenly.")


def _shape_of_a_row(factorised: Factorised | None, grid: TokenGrid) -> str:
    space = f"{grid.rows} x {grid.cols}"
    if factorised is None:
        return f"{grid.frames} x {space} = {grid.tokens} video tokens"
    return (
        f"{space} = {grid.tokens_per_frame} tokens a frame" if factorised.kind == "spatial" else f"{grid.frames} frames"
    )


def _per_head(one: Tensor, heads: int) -> Tensor:
    """(H_kv, ...) brought to (H, ...): kv head i serves the query heads i * H/H_kv and following."""
    return one if one.shape[0] == heads else one.repeat_interleave(heads // one.shape[0], dim=0)
