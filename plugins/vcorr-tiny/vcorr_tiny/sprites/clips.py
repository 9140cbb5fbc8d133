"""Draws single clips of a split, each from its own seed, so that a clip does not depend on the clips before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vcorr_tiny.sprites.draws import seed_of
from vcorr_tiny.sprites.levels import LEVELS
from vcorr_tiny.sprites.scenes import Scenes

if TYPE_CHECKING:
    from vcorr_tiny.sprites.pictures import Pictures


def scene(
    split: str,
    index: int,
    size: int = 128,
    frames: int = 17,
    sprites: int = 4,
    level: str = "easy",
    pictures: Pictures | None = None,
    returns: bool = False,
) -> Scenes:
    """Draws scene ``index`` of ``split`` ("train", "validation" or "test") on the CPU; the rest as in ``Scenes``.

    level: its name in LEVELS.
    """
    generator = torch.Generator("cpu").manual_seed(seed_of(split, index))
    return Scenes(1, generator, size, frames, sprites, LEVELS[level], pictures, returns)


def to_frames(video: Tensor) -> Tensor:
    """Converts a video (3, T, H, W) in [-1, 1] to uint8 frames (T, H, W, 3) on the CPU."""
    return ((video.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu()


def frames_of(scenes: Scenes) -> Tensor:
    """Renders a single scene as uint8 frames (T, H, W, 3)."""
    return to_frames(scenes.render()[0])
