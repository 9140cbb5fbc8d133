"""From an attention call to a `Capture`: the conditional branch of the batch, video tokens apart from text tokens.

Everything is a view; only the keys and values of grouped-query attention are repeated, of that one branch, to one per
query head.

Shape legend: B batch, H heads, N tokens of the whole sequence, F x h x w video tokens, n text tokens, D = d head width.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from vcorr.capture.records import Capture, TokenLayout
from vcorr.capture.tap import AttentionCall
from vcorr.errors import CaptureError, PluginError
from vcorr.geometry import TokenGrid
from vcorr.records import Site

CONDITIONAL = "cond"
PARTS = frozenset({"q", "k", "v", "out"})
"""The tensors of an attention call a probe may need."""


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
    needs: frozenset[str] = PARTS,
) -> Capture:
    """What the probes read of one attention call.

    Args:
        call: q (B, H, N, D) and its k, v, out.
        site: the module the call was made in.
        grid: of the video tokens.
        layout: where the text and the conditional branch are.
        step: 0-based index of the scheduler's timestep.
        noise: sigma / (alpha + sigma) of the step, NaN without noise.
        needs: which of "q", "k", "v", "out" to fill; the others, and without "k" also k_text, are None.

    Raises:
        CaptureError: the tensors do not have the batch, the tokens or the heads that the adapter declared.
    """
    row = _conditional_row(call, layout)
    q = call.q[row]
    tokens, text = _ranges(call, grid, layout)
    heads = q.shape[0]

    def video(part: str, whole: Tensor) -> Tensor:
        if part not in needs:
            return cast(Tensor, None)  # the record types what probes asked for; nobody asked for this one
        one = _per_head(call, _row(whole, row), heads)
        # splitting a dimension keeps a view a view, however the model strides its memory
        return one[:, tokens].view(heads, grid.frames, grid.rows, grid.cols, one.shape[-1])

    k_text = _per_head(call, _row(call.k, row), heads)[:, text] if "k" in needs else cast(Tensor, None)
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
    )


def _conditional_row(call: AttentionCall, layout: TokenLayout) -> int:
    if call.q.ndim != 4:
        raise CaptureError(f"{call.name}: q must have shape (B, H, N, D), got {tuple(call.q.shape)}.")
    batch = call.q.shape[0]
    if batch == 1:
        return 0
    if batch != len(layout.branches):
        raise CaptureError(
            f"{call.name}: the batch holds {batch} rows, the layout declares {len(layout.branches)} branch(es) "
            f"{layout.branches!r}.",
            hint="Run one clip at a time, and list all guidance branches in batch order in TokenLayout.branches.",
        )
    return layout.branches.index(CONDITIONAL)


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
