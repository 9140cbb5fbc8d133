"""From what a model computed to a `Capture`: the conditional branch of the batch, video tokens apart from text tokens.

Everything is a view; only the keys and values of grouped-query attention are repeated, of that one branch, to one per
query head.

Shape legend: B batch, H heads, N tokens of the whole sequence, F x h x w video tokens, n text tokens, D = d head width,
C = c width of a block's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from vcorr.capture.mask import TextMask, text_mask
from vcorr.capture.needs import CALL_PARTS, UNROTATED
from vcorr.capture.records import Capture, TokenLayout
from vcorr.capture.tap import AttentionCall
from vcorr.errors import CaptureError, PluginError
from vcorr.geometry import TokenGrid
from vcorr.records import Axes, Site

CONDITIONAL = "cond"


def check_layout(layout: TokenLayout) -> None:
    """Raises PluginError when the layout has no conditional branch, a branch twice, or an unknown place of the text."""
    if layout.branches.count(CONDITIONAL) != 1 or len(set(layout.branches)) != len(layout.branches):
        raise PluginError(
            f"TokenLayout: branches must be different names with {CONDITIONAL!r} among them, got {layout.branches!r}."
        )
    if layout.text not in ("before", "after", "none"):
        raise PluginError(f"TokenLayout: text must be 'before', 'after' or 'none', got {layout.text!r}.")


def split_call(
    call: AttentionCall,
    site: Site,
    grid: TokenGrid,
    layout: TokenLayout,
    *,
    step: int,
    noise: float,
    needs: frozenset[str] = CALL_PARTS,
    unrotated: Mapping[str, Tensor] | None = None,
) -> Capture:
    """What the probes read of one attention call.

    Args:
        call: q (B, H, N, D) and its k, v, out.
        site: the module the call was made in.
        grid: of the video tokens.
        layout: where the text and the conditional branch are.
        step: 0-based index of the scheduler's timestep.
        noise: sigma / (alpha + sigma) of the step, NaN without noise.
        needs: which of `PARTS` to fill; the others, and without "k" also k_text, are None.
        unrotated: q and k before the rotary embedding as `conditional_row` gave them, by "q" and "k"; what `needs` asks
            for must be there.

    Raises:
        CaptureError: the tensors do not have the batch, the tokens or the heads that the adapter declared.
    """
    row = _call_row(call, layout)
    tokens, text = _ranges(call, grid, layout)
    heads = call.q.shape[1]

    def video(part: str, whole: Tensor) -> Tensor:
        if part not in needs:
            return cast(Tensor, None)  # the record types what probes asked for; nobody asked for this one
        return _on_grid(_per_head(call, _row(whole, row), heads)[:, tokens], grid)

    def turned_back(part: str) -> Tensor:
        if part not in needs:
            return cast(Tensor, None)
        before = (unrotated or {}).get(UNROTATED[part])
        if before is None:
            raise CaptureError(
                f"{call.name}: its module for {UNROTATED[part]} before the rotary embedding did not run.",
                hint="Check Site.unrotated: the modules it names must run before the attention is computed.",
            )
        return _on_grid(_per_head(call, _split_unrotated(call, site, tokens, before), heads), grid)

    k_text = _per_head(call, _row(call.k, row), heads)[:, text] if "k" in needs else cast(Tensor, None)
    mask = text_mask(call, row, tokens, text) if "mask" in needs else None
    return Capture(
        site=site,
        grid=grid,
        step=step,
        noise=noise,
        q=video("q", call.q),
        k=video("k", call.k),
        v=video("v", call.v),
        out=video("out", call.out),
        k_text=k_text,
        q_unrotated=turned_back("q_unrotated"),
        k_unrotated=turned_back("k_unrotated"),
        key_mask=None if mask is None else mask.real,
        scale=call.scale,
    )


def mask_of(call: AttentionCall, grid: TokenGrid, layout: TokenLayout) -> TextMask | None:
    """What the mask of a call hides of the text; None without a mask. Raises as `split_call`."""
    return text_mask(call, _call_row(call, layout), *_ranges(call, grid, layout))


def hidden_capture(
    output: Any, site: Site, grid: TokenGrid, layout: TokenLayout, *, step: int, noise: float
) -> Capture:
    """A capture with the hidden state alone, (F, h, w, c).

    Args:
        output: of the block: a tensor (B, N, C), or several of which the site says the one to read. It holds the video
            tokens alone or the whole sequence.
        site: which block.
        grid: of the video tokens.
        layout: where the text and the conditional branch are.
        step: 0-based index of the scheduler's timestep.
        noise: sigma / (alpha + sigma) of the step, NaN without noise.

    Raises:
        CaptureError: the output has another form, batch or number of tokens than the adapter declared.
    """
    tensor = output
    if isinstance(output, (tuple, list)):
        tensor = output[site.block_output] if 0 <= site.block_output < len(output) else None
    if not isinstance(tensor, Tensor) or tensor.ndim != 3:
        found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(output).__name__
        raise CaptureError(
            f"{site.block}: its output number {site.block_output} must be a tensor (B, N, C), got {found}.",
            hint="Site.block names the module whose output is the hidden state, Site.block_output which tensor of it.",
        )
    hidden = conditional_row(site.block, tensor, layout)
    total, text = hidden.shape[0], hidden.shape[0] - grid.tokens
    if text < 0 or (text and layout.text == "none"):
        raise CaptureError(
            f"{site.block}: its output holds {total} tokens, the grid has {grid.tokens} and the text is "
            f"{layout.text!r}.",
            hint="Site.block_output says which of several outputs holds the video tokens.",
        )
    video = hidden[text:] if layout.text == "before" else hidden[: grid.tokens]
    none = cast(Tensor, None)
    return Capture(
        site=site,
        grid=grid,
        step=step,
        noise=noise,
        q=none,
        k=none,
        v=none,
        out=none,
        k_text=none,
        hidden=video.view(grid.frames, grid.rows, grid.cols, video.shape[-1]),
    )


def conditional_row(name: str, tensor: Tensor, layout: TokenLayout) -> Tensor:
    """The conditional branch of a tensor (B, ...): one row of it.

    Raises:
        CaptureError: the batch is not that of the layout.
    """
    batch = tensor.shape[0]
    if batch == 1:
        return tensor[0]
    if batch != len(layout.branches):
        raise CaptureError(
            f"{name}: the batch holds {batch} rows, the layout declares {len(layout.branches)} branch(es) "
            f"{layout.branches!r}.",
            hint="Run one clip at a time, and list all guidance branches in batch order in TokenLayout.branches.",
        )
    return tensor[layout.branches.index(CONDITIONAL)]


def _split_unrotated(call: AttentionCall, site: Site, tokens: slice, one: Tensor) -> Tensor:
    """One row of a norm's or projection's output to (H_kv, F*h*w, d), by the axes the site declares."""
    total, width = call.q.shape[-2:]
    found = _heads_first(one, site.unrotated.axes if site.unrotated is not None else "bhnd", width)
    if found is not None and found.shape[1] == tokens.stop - tokens.start:
        return found
    if found is not None and found.shape[1] == total:
        return found[:, tokens]
    raise CaptureError(
        f"{call.name}: what the site says to be q or k before the rotary embedding has shape {tuple(one.shape)}; "
        f"attention sees {tuple(call.q.shape[1:])}.",
        hint="Check Site.unrotated: the modules, and the axes of what they put out.",
    )


def _heads_first(one: Tensor, axes: Axes, width: int) -> Tensor | None:
    """(H, N, d) from one row of a tensor with the given axes; None when it does not have them."""
    if one.ndim != (2 if axes == "bnc" else 3) or one.shape[-1] % width:
        return None
    if axes == "bnc":
        return one.view(one.shape[0], -1, width).transpose(0, 1)
    if one.shape[-1] != width:
        return None
    return one.transpose(0, 1) if axes == "bnhd" else one


def _on_grid(tokens: Tensor, grid: TokenGrid) -> Tensor:
    # splitting a dimension keeps a view a view, however the model strides its memory
    return tokens.view(tokens.shape[0], grid.frames, grid.rows, grid.cols, tokens.shape[-1])


def _call_row(call: AttentionCall, layout: TokenLayout) -> int:
    if call.q.ndim != 4:
        raise CaptureError(f"{call.name}: q must have shape (B, H, N, D), got {tuple(call.q.shape)}.")
    conditional_row(call.name, call.q, layout)
    return layout.branches.index(CONDITIONAL) if call.q.shape[0] > 1 else 0


def _ranges(call: AttentionCall, grid: TokenGrid, layout: TokenLayout) -> tuple[slice, slice]:
    """Where the video tokens and where the text tokens are in the sequence."""
    total, video = call.q.shape[2], grid.tokens
    sides = {side.shape[-2] for side in (call.k, call.v, call.out)}
    if sides != {total}:
        raise CaptureError(
            f"{call.name}: {total} queries attend to {call.k.shape[-2]} keys; only self-attention can be read.",
            hint="Tap the self-attention module (often attn1), not the cross-attention one.",
        )
    shape = f"{grid.frames} x {grid.rows} x {grid.cols} = {video} video tokens"
    if total < video:
        raise CaptureError(
            f"{call.name}: the sequence has {total} tokens, the grid {shape}.",
            hint="The adapter's grid(clip, site) does not describe this clip: check stride, patch and latent frames.",
        )
    if layout.text == "none" and total != video:
        raise CaptureError(
            f"{call.name}: the sequence has {total} tokens, the grid {shape}, and the layout declares no text.",
            hint=f"If the other {total - video} are text, say TokenLayout('before') or 'after'; else check the grid.",
        )
    if layout.text == "before":
        return slice(total - video, total), slice(0, total - video)
    return slice(0, video), slice(video, total)


def _row(whole: Tensor, row: int) -> Tensor:
    return whole[row if whole.shape[0] > 1 else 0]  # a batch of one is broadcast over the rows of q


def _per_head(call: AttentionCall, one: Tensor, heads: int) -> Tensor:
    """(H_kv, N, D) brought to (H, N, D): kv head i serves the query heads i * H/H_kv and following."""
    if one.shape[0] == heads:
        return one
    if heads % one.shape[0]:
        raise CaptureError(f"{call.name}: {heads} query heads do not share {one.shape[0]} key and value heads evenly.")
    return one.repeat_interleave(heads // one.shape[0], dim=0)
