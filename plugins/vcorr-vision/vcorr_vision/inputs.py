"""Brings pixels into the form in which a vision network of transformers takes them.

Shape legend: T video frames, H x W pixels, h x w patches, p pixels along the side of a patch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """The size of an input. patch: (height, width) of a token. tubelet: frames that a token covers.

    video: whether the network takes a whole video, else one frame at a time.
    """

    frames: int
    height: int
    width: int
    patch: tuple[int, int]
    tubelet: int
    video: bool


def network_inputs(network: Any, pixels: Tensor, shape: Shape) -> Mapping[str, Any]:
    """Returns the keyword arguments of a pass. pixels: (T, 3, H, W), normalised; T may be less than the shape's."""
    takes = inspect.signature(network.forward).parameters
    found: dict[str, Any] = {}
    if "spatial_shapes" in takes:  # a sequence of patches, for pictures of any proportions
        found = _as_patches(pixels, shape)
    elif shape.video:
        found = {network.main_input_name: pixels[None]}
    else:
        found = {network.main_input_name: pixels}
    if "interpolate_pos_encoding" in takes:
        found["interpolate_pos_encoding"] = True
    if "skip_predictor" in takes:
        found["skip_predictor"] = True
    return found


def _as_patches(pixels: Tensor, shape: Shape) -> dict[str, Any]:
    """Returns patches (T, h·w, p·p·3), the channels of a pixel together, and the (h, w) of each frame."""
    import torch

    rows, cols = shape.patch
    patches = pixels.unflatten(3, (-1, cols)).unflatten(2, (-1, rows))  # (T, 3, h, p, w, p)
    sizes = torch.tensor([[patches.shape[2], patches.shape[4]]] * len(pixels))
    return {
        "pixel_values": patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
        "pixel_attention_mask": None,
        "spatial_shapes": sizes,
    }
