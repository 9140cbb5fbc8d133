"""Reads from a configuration of transformers which pictures or videos a vision network takes. Imports no torch."""

from __future__ import annotations

import math
from typing import Any

from vcorr import UsageError
from vcorr.diffusion import Sizes, check_size
from vcorr_vision.inputs import Shape
from vcorr_vision.pixel_model import SEVERAL_FRAMES

FIXED_FRAMES = ("num_frames",)
"""Names of the number of frames for which a video network has positions."""
USUAL_FRAMES = (*FIXED_FRAMES, "frames_per_clip")
"""Names of the number of frames that a video network was made for."""
USUAL_SIDES = ("crop_size", "image_size")
"""Names of the side of the square that a network was made for."""


def vision_part(settings: Any) -> Any:
    """Returns the part of a configuration that belongs to the vision network; the whole, if there is no other part."""
    return getattr(settings, "vision_config", settings)


def find_value(vision: Any, *names: str) -> Any:
    """Returns the first of these values that a configuration has, or that the one of its backbone has; else None."""
    for settings in (vision, getattr(vision, "backbone_config", None)):
        for name in names:
            if (found := getattr(settings, name, None)) is not None:
                return found
    return None


def choose_sides(vision: Any, height: int | None, width: int | None, title: str) -> tuple[int, int]:
    """Returns the height and width that are asked for; where one is None, the side that the network was made for.

    That side is rounded down to whole patches: of the 384 pixels of a SigLIP with patches of 14, 378 are read.

    Raises:
        UsageError: the configuration does not say that side, or says no size of patches.
    """
    usual = _usual_side(vision)
    if usual is not None:
        rows, cols = _patch(vision)
        height = height or usual // rows * rows or usual
        width = width or usual // cols * cols or usual
    if height is None or width is None:
        raise UsageError(
            f"{title}: its configuration says no size of pictures.",
            hint="Give one: --set model.height=224 --set model.width=224",
        )
    return height, width


def input_shape(vision: Any, sides: tuple[int, int], frames: int | None, title: str) -> Shape:
    """Returns the size of the input. frames: the largest number that is asked for; None for the network's own.

    Raises:
        UsageError: height or width are no multiples of the patch.
    """
    patch, tubelet = _patch(vision), _tubelet(vision)
    for name, side, own in zip(("height", "width"), sides, patch, strict=True):
        check_size(name, side, Sizes(own, own), title)
    usual = find_value(vision, *USUAL_FRAMES)
    if usual is None and tubelet is None:
        return Shape(SEVERAL_FRAMES.first, *sides, patch, 1, video=False)
    return Shape(frames or usual or 2 * (tubelet or 1), *sides, patch, tubelet or 1, video=True)


def frame_counts(vision: Any, shape: Shape) -> Sizes:
    """Returns the numbers of frames that a network can read."""
    if not shape.video:
        return SEVERAL_FRAMES
    if find_value(vision, *FIXED_FRAMES) is not None:
        return Sizes(shape.frames, 1, shape.frames)
    return Sizes(2 * shape.tubelet, shape.tubelet)


def _usual_side(vision: Any) -> int | None:
    """Returns the side of the square that a network was made for, in pixels; None if that is not known."""
    side, count = _equal(find_value(vision, *USUAL_SIDES)), find_value(vision, "num_patches")
    if side is not None or not isinstance(count, int):
        return side
    return math.isqrt(count) * _patch(vision)[0] if math.isqrt(count) ** 2 == count else None


def _equal(value: Any) -> int | None:
    """Returns the number, or the number of which a list has only copies; else None."""
    if isinstance(value, (list, tuple)) and len(set(value)) == 1:
        value = value[0]
    return value if isinstance(value, int) and value > 0 else None


def _patch(vision: Any) -> tuple[int, int]:
    """Returns height and width of a patch; a single pixel for a network without patches.

    Raises:
        UsageError: a side is no pixel long.
    """
    found = find_value(vision, "patch_stride", "patch_size")
    if found is None and isinstance(tubelet := find_value(vision, "tubelet_size"), (list, tuple)):
        found = tubelet
    found = [found, found] if isinstance(found, int) else found
    sides = (int(found[-2]), int(found[-1])) if isinstance(found, (list, tuple)) and len(found) >= 2 else (1, 1)
    if min(sides) < 1:
        raise UsageError(f"The configuration says patches of {sides[0]}x{sides[1]} pixels; a side is at least 1.")
    return sides


def _tubelet(vision: Any) -> int | None:
    """Returns the number of frames that a token covers; None if the configuration says none."""
    found = find_value(vision, "tubelet_size")
    return int(found[0]) if isinstance(found, (list, tuple)) else found
