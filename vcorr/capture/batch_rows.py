"""Finds the batch rows of the conditional branch, and lays their tokens out on the grid.

A batch row holds a whole video. Under factorised attention it holds one frame (spatial) or one position along time
(temporal). All functions return views.

Shape legend: B batch rows, R batch rows of the conditional branch, H heads, N tokens in the sequence of a batch row.
F x h x w video tokens, d head width, C = c width of a block's output.
"""

from __future__ import annotations

from torch import Tensor

from vcorr.capture.captures import TokenLayout
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Factorised

CONDITIONAL = "cond"
_HELD = {"spatial": "frames", "temporal": "positions"}
"""What the batch rows of one branch are, under factorised attention."""


def conditional_rows(
    name: str, tensor: Tensor, factorised: Factorised | None, grid: TokenGrid, layout: TokenLayout
) -> Tensor:
    """Returns the batch rows of the conditional branch, (R, ...), of a tensor (B, ...).

    R is 1, or the number of frames or positions of the grid. A batch without guidance may hold only some of the frames,
    because a model may take them in several calls; R is then the number of frames in this call.

    Raises:
        CaptureError: B does not fit the branches of the layout.
    """
    batch, count, branches = tensor.shape[0], _rows_of_a_branch(factorised, grid), layout.branches
    if batch == count:
        return tensor
    if batch == count * len(branches):
        return _branch(tensor, factorised, branches.index(CONDITIONAL), count)
    if factorised is not None and factorised.kind == "spatial" and len(branches) == 1 and batch < count:
        return tensor
    declared = f"{len(branches)} branch(es) {branches!r}"
    raise CaptureError(
        f"{name}: the batch has {batch} rows, but the layout declares {declared}"
        + (f" of {count} {_HELD[factorised.kind]} each." if factorised else "."),
        hint="Run one clip at a time, and list all guidance branches in batch order in TokenLayout.branches.",
    )


def branches_of_call(call: AttentionCall, layout: TokenLayout, branches: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the guidance branches in an attention call.

    These are all branches of the pass. Under `TokenLayout.per_sample` it is one branch, since each batch row then has a
    call of its own.

    Args:
        call: with its number, and the size of the batch that its module got.
        layout: declares the branches.
        branches: of the pass.

    Raises:
        CaptureError: under `per_sample`, the number of calls differs from the number of branches.
    """
    if not layout.per_sample or call.batch == 1:
        return branches
    if call.batch != len(layout.branches) or call.number >= len(layout.branches):
        raise CaptureError(
            f"{call.name}: call {call.number + 1} for a batch of {call.batch}; the layout declares a call for each of "
            f"{len(layout.branches)} branch(es) {layout.branches!r}.",
            hint="Run one clip at a time, and check TokenLayout.per_sample and TokenLayout.branches.",
        )
    return (layout.branches[call.number],)


def tokens_of_a_row(factorised: Factorised | None, grid: TokenGrid) -> int:
    """Returns the number of video tokens in a batch row."""
    if factorised is None:
        return grid.tokens
    return grid.tokens_per_frame if factorised.kind == "spatial" else grid.frames


def heads_on_grid(rows: Tensor, factorised: Factorised | None, grid: TokenGrid) -> Tensor:
    """Reshapes video tokens per head, (R, H, tokens, d), to (H, F, h, w, d).

    Under spatial attention F is R, which is smaller than the grid's where frames come in several calls.
    """
    if factorised is None:
        return _split(rows[0], 1, (grid.frames, grid.rows, grid.cols))
    per_frame = rows.transpose(0, 1) if factorised.kind == "spatial" else rows.permute(1, 2, 0, 3)
    return _split(per_frame, 2, (grid.rows, grid.cols))


def channels_on_grid(rows: Tensor, factorised: Factorised | None, grid: TokenGrid) -> Tensor:
    """Reshapes video tokens with their channels, (R, tokens, C), to (F, h, w, c)."""
    return heads_on_grid(rows[:, None], factorised, grid)[0]


def _rows_of_a_branch(factorised: Factorised | None, grid: TokenGrid) -> int:
    if factorised is None:
        return 1
    return grid.frames if factorised.kind == "spatial" else grid.tokens_per_frame


def _branch(tensor: Tensor, factorised: Factorised | None, index: int, count: int) -> Tensor:
    if factorised is not None and factorised.order == "interleaved":
        return _split(tensor, 0, (count, -1))[:, index]
    return tensor[index * count : (index + 1) * count]


def _split(tensor: Tensor, axis: int, sizes: tuple[int, ...]) -> Tensor:
    # `view` can always split a dimension without a copy, however the model strides its memory
    return tensor.view(*tensor.shape[:axis], *sizes, *tensor.shape[axis + 1 :])
