"""The order of the axes of latents: from (1, C, F, h, w) to what a denoiser takes, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from vcorr.contract.errors import PluginError

OWN = "bcfhw"
"""The order of latents outside denoisers: batch, channels, frames, rows, columns."""


def put_in_place(latents: Tensor, own: Tensor, axes: str, model: str) -> Tensor:
    """Latents in the place of a pipeline's own: see `DiffusersVideoModel.denoiser_input`.

    Args:
        latents: (1, C, F, h, w).
        own: the argument that the pipeline made; channels beyond C stay.
        axes: their order in `own`, the letters of `OWN` with or without b; anything else is refused.
        model: how the message names the adapter.

    Raises:
        PluginError: the latents cannot be put in the place of `own`.
    """
    moved = _moved(latents.to(own.dtype), axes)
    if moved is None or moved.ndim != own.ndim:
        raise _unlike(model, latents, own)
    axis = axes.index("c")
    channels, further = moved.shape[axis], own.shape[axis] - moved.shape[axis]
    if further > 0:
        moved = torch.cat([moved, own.narrow(axis, channels, further)], dim=axis)
    if moved.shape != own.shape:
        raise _unlike(model, latents, own)
    return moved.contiguous()


def taken_back(output: Tensor, latents: Tensor, axes: str) -> Tensor:
    """What a denoiser puts out, or takes, as latents, (1, C, F, h, w), without channels beyond those of `latents`.

    Args:
        output: with its axes in the order of `axes`.
        latents: (1, C, F, h, w), for their size.
        axes: the letters of `OWN` with or without b.
    """
    back = "".join(axis for axis in OWN if axis in axes)
    found = output.permute([axes.index(axis) for axis in back])
    return (found if "b" in axes else found[None])[:, : latents.shape[1]]


def _moved(latents: Tensor, axes: str) -> Tensor | None:
    """Latents with their axes in that order; None where it is no order of them."""
    if sorted(axes) == sorted(OWN):
        return latents.permute([OWN.index(axis) for axis in axes])
    if sorted(axes) == sorted(OWN[1:]):
        return latents[0].permute([OWN[1:].index(axis) for axis in axes])
    return None


def _unlike(model: str, latents: Tensor, own: Tensor) -> PluginError:
    return PluginError(
        f"{model}: latents of shape {tuple(latents.shape)} cannot take the place of the pipeline's own, "
        f"{tuple(own.shape)}.",
        hint="The adapter has to say the order of axes, `latent_axes`, or override `denoiser_input`. Tiles that do not "
        "divide the video change its size as well: try without --vae-tiling.",
    )
