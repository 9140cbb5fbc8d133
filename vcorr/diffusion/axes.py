"""Reorders the axes of latents: from (1, C, F, h, w) to the order that a denoiser takes, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from vcorr.contract.errors import PluginError

OWN = "bcfhw"
"""The order of latents outside denoisers: batch, channels, frames, rows, columns."""


def insert_latents(latents: Tensor, own: Tensor, axes: str, model: str) -> Tensor:
    """Replaces a pipeline's own latents by others: see `DiffusersVideoModel.denoiser_input`.

    Args:
        latents: (1, C, F, h, w).
        own: the argument that the pipeline made; its channels beyond C stay.
        axes: the order in `own`, in the letters of `OWN` with or without b.
        model: the adapter's name for messages.

    Raises:
        PluginError: the latents cannot replace `own`, or `axes` is not such an order.
    """
    moved = _permute(latents.to(own.dtype), axes)
    if moved is None or moved.ndim != own.ndim:
        raise _unlike(model, latents, own)
    axis = axes.index("c")
    channels, further = moved.shape[axis], own.shape[axis] - moved.shape[axis]
    if further > 0:
        moved = torch.cat([moved, own.narrow(axis, channels, further)], dim=axis)
    if moved.shape != own.shape:
        raise _unlike(model, latents, own)
    return moved.contiguous()


def extract_latents(output: Tensor, latents: Tensor, axes: str) -> Tensor:
    """Returns a denoiser's output or input as latents, (1, C, F, h, w), without channels beyond the C of `latents`.

    Args:
        output: with its axes in the order of `axes`.
        latents: (1, C, F, h, w), for their size.
        axes: the letters of `OWN` with or without b.
    """
    back = "".join(axis for axis in OWN if axis in axes)
    found = output.permute([axes.index(axis) for axis in back])
    return (found if "b" in axes else found[None])[:, : latents.shape[1]]


def _permute(latents: Tensor, axes: str) -> Tensor | None:
    """Returns latents with their axes in that order; None if `axes` is not an order of them."""
    if sorted(axes) == sorted(OWN):
        return latents.permute([OWN.index(axis) for axis in axes])
    if sorted(axes) == sorted(OWN[1:]):
        return latents[0].permute([OWN[1:].index(axis) for axis in axes])
    return None


def _unlike(model: str, latents: Tensor, own: Tensor) -> PluginError:
    return PluginError(
        f"{model}: latents of shape {tuple(latents.shape)} cannot replace the pipeline's own, {tuple(own.shape)}.",
        hint="The adapter has to declare the order of axes, `latent_axes`, or override `denoiser_input`. Tiles that do "
        "not divide the video also change its size: try without --vae-tiling.",
    )
