"""Tensor descriptors: Hopper copies whole tiles by itself, so a program needs no registers for addresses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vcorr.kernels.tilings import Tiling, interprets, launch_first, needs_float32

DESCRIBING = (9, 0)
"""The first NVIDIA generation that copies tiles so (Hopper)."""

_ALIGNMENT = 16
"""Bytes: addresses, strides and vectors are multiples of it."""


def can_describe(*tensors: Tensor) -> bool:
    """Says whether kernels read tensors (A, F, P, d) through descriptors: in half precision on Hopper, and aligned.

    Products of float32 are slow for other reasons.
    """
    device = tensors[0].device
    if len({tensor.dtype for tensor in tensors}) > 1:
        return False
    if not interprets() and (needs_float32(*tensors) or torch.cuda.get_device_capability(device) < DESCRIBING):
        return False
    return all(_is_aligned(tensor) for tensor in tensors)


def _is_aligned(tensor: Tensor) -> bool:
    size, width = tensor.element_size(), tensor.shape[-1]
    strides = [stride for stride, count in zip(tensor.stride(), tensor.shape[:-1], strict=False) if count > 1]
    together = width == 1 or tensor.stride(-1) == 1
    sizes = [tensor.data_ptr(), width * size, *(stride * size for stride in strides)]
    return together and 0 not in strides and not any(each % _ALIGNMENT for each in sizes)


def as_argument(tensor: Tensor, tokens: int, step: int, *, described: bool) -> Any:
    """Returns what a kernel takes for (A, F, P, d): a descriptor of tiles, `tokens` x `step` channels, or a pointer."""
    if not described:
        return tensor
    from triton.tools.tensor_descriptor import TensorDescriptor

    # an axis with one entry may have any stride, and a descriptor takes aligned ones
    unused = _ALIGNMENT // tensor.element_size()
    strides = [
        stride if count > 1 else unused for stride, count in zip(tensor.stride(), tensor.shape[:-1], strict=False)
    ]
    return TensorDescriptor(tensor, list(tensor.shape), [*strides, 1], [1, 1, tokens, step])


def take_tokens(q: Tensor, k: Tensor, tokens: Tensor, frame: int) -> tuple[Tensor, Tensor]:
    """Returns the chosen tokens of a frame, contiguous, each (A, 1, U, d); one tensor twice if q is k.

    A descriptor gives neighbouring tokens alone.

    q, k: (A, F, P, d), of one dtype. tokens: (U,) int64.
    """
    heads, width, sides = q.shape[0], q.shape[3], 1 if q is k else 2
    out = torch.empty(sides, heads, 1, len(tokens), width, dtype=q.dtype, device=q.device)
    from vcorr.kernels.device_results import take_kernel

    def start(tiling: Tiling) -> None:
        take_kernel[-(-len(tokens) // tiling.rows), heads, sides](
            q[:, frame],
            k[:, frame],
            tokens,
            out,
            len(tokens),
            width,
            q.stride(0),
            q.stride(2),
            k.stride(0),
            k.stride(2),
            out.stride(0),
            block_rows=tiling.rows,
            step=tiling.reach(width),
        )

    launch_first("take", q.device, (Tiling(16, 0, 128),), start)
    return out[0], out[-1]
