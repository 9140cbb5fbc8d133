"""Injects faults of fixed doses into rendered scenes, for the validation of scores of generated videos.

Directions and times are drawn from the clip's own seed for each fault, so the doses of a clip differ in the dose alone.
Legend: n scenes, K sprites, L layers, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr_tiny.fault_doses import FREEZE, INJECTED, LEVEL, MELT, SPEED, TELEPORT, TEXTURE_JUMP, InjectedFault
from vcorr_tiny.sprites.clips import frames_of, scene
from vcorr_tiny.sprites.draws import Draws, seed_of
from vcorr_tiny.sprites.scenes import Scenes
from vcorr_tiny.sprites.textures import SPRITE_EXTENT
from vcorr_tiny.sprites.warps import Warp

JUMPS = 3
"""Number of jumps of every texture."""
WAVELENGTHS = (26.0, 52.0)
"""Range of the wavelengths of melting sprites, in pixels of a 128x128 frame, as at the level `warp`."""


def render_injected(
    fault: InjectedFault, dose: float, split: str, index: int, *, size: int = 128, frames: int = 17
) -> NDArray[np.uint8]:
    """Renders clip `index` of a split at the level clean with a fault, (T, H, W, 3)."""
    drawn = inject(fault, dose, split, index, size=size, frames=frames)
    video: NDArray[np.uint8] = frames_of(drawn).numpy()
    return hold_frames(video, dose) if fault is FREEZE else video


def inject(fault: InjectedFault, dose: float, split: str, index: int, *, size: int = 128, frames: int = 17) -> Scenes:
    """Draws the scene of a clip at the level clean, with a fault; a frozen clip is held after it is rendered."""
    if fault is SPEED:
        return slow_down(split, index, dose, size, frames)
    drawn = scene(split, index, size, frames, level=LEVEL)
    changes: dict[str, Callable[[Scenes, float, Draws], None]] = {
        TEXTURE_JUMP.name: jump_textures,
        MELT.name: melt_sprites,
        TELEPORT.name: teleport_sprites,
    }
    if dose and fault.name in changes:
        changes[fault.name](drawn, dose, draws_of(fault, split, index))
    return drawn


def draws_of(fault: InjectedFault, split: str, index: int) -> Draws:
    """Returns the draws of a fault in a clip; their seed belongs to no clip of fewer than 16 million."""
    number = index + ((INJECTED.index(fault) + 1) << 24)
    return Draws(torch.Generator("cpu").manual_seed(seed_of(split, number)))


def jump_textures(drawn: Scenes, dose: float, draws: Draws) -> None:
    """Moves the texture of every layer by `dose` pixels at three frames, each time in a direction of its own."""
    moves = draw_jumps(draws, len(drawn.surfaces), drawn.frames) * dose * drawn.size / 128
    units = [drawn.size, *(SPRITE_EXTENT * drawn.radius[0]).tolist()]
    drawn.surfaces = [
        replace(surface, shift=(move / unit)[None])
        for surface, move, unit in zip(drawn.surfaces, moves, units, strict=True)
    ]


def draw_jumps(draws: Draws, layers: int, frames: int) -> Tensor:
    """Draws where the texture of each layer is after jumps of length 1, (layers, T) complex; at 0 before the first."""
    when = draws.uniform((layers, frames - 1), 0, 1).argsort(1)[:, :JUMPS] + 1
    angle = draws.uniform((layers, JUMPS), 0, 2 * math.pi)
    steps = torch.zeros((layers, frames), dtype=torch.complex64)
    return steps.scatter(1, when, torch.polar(torch.ones_like(angle), angle)).cumsum(1)


def teleport_sprites(drawn: Scenes, dose: float, draws: Draws) -> None:
    """Moves every sprite by `dose` pixels from one frame on, in the middle half of the clip."""
    shape = (drawn.sprites, 1)
    when = drawn.frames // 4 + draws.index(shape, drawn.frames // 2)
    angle = draws.uniform(shape, 0, 2 * math.pi)
    jump = torch.polar(torch.full_like(angle, dose * drawn.size / 128), angle)
    drawn.layers.beta[0, 1:] += jump * (torch.arange(drawn.frames) >= when)


@dataclass(frozen=True)
class Melt(Warp):
    """Shear waves whose size grows over time. growth: (T,), by which the size is multiplied in each frame."""

    growth: Tensor

    def _shift(self, way: int, layer: int, coordinate: Tensor) -> Tensor:
        times = self.growth.view(1, -1, *(1,) * (coordinate.dim() - 2))
        return super()._shift(way, layer, coordinate) * times


def melt_sprites(drawn: Scenes, dose: float, draws: Draws) -> None:
    """Bends every sprite along waves that stand still and grow to the slope `dose`; the background stays rigid."""
    layers, frames = drawn.sprites + 1, drawn.frames
    length = draws.uniform((2, 1, layers), *WAVELENGTHS) * drawn.size / 128
    wavenumber = 2 * math.pi / length
    size = dose / wavenumber
    size[:, :, 0] = 0
    phase = draws.uniform((2, 1, layers, 1), 0, 2 * math.pi).expand(-1, -1, -1, frames)
    drawn.layers.warp = Melt(size, wavenumber, phase, drawn.time)


def slow_down(split: str, index: int, speed: float, size: int, frames: int) -> Scenes:
    """Draws the scene of a clip so that its first `frames` frames cover the share `speed` of the way."""
    drawn = scene(split, index, size, round((frames - 1) / speed) + 1, level=LEVEL)
    layers = drawn.layers
    drawn.time = drawn.camera_faults.time = drawn.time[:frames]
    drawn.frames = layers.frames = frames
    layers.alpha, layers.beta = layers.alpha[..., :frames], layers.beta[..., :frames]
    return drawn


def hold_frames(video: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Returns a video (T, H, W, 3) that stands still for the share of its steps at its end."""
    steps = len(video) - 1
    return video[np.minimum(np.arange(len(video)), round((1 - share) * steps))]
