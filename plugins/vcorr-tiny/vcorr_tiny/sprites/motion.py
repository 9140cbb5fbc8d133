"""Draws camera motion and sprite paths as complex similarities over time.

Legend: n scenes, K sprites, L layers, T frames. Screen points are complex numbers x + iy in pixels from the image
centre (x right, y down). A point u of a layer appears on the screen at p = alpha_t·u + beta_t: the two numbers hold
pan, zoom and rotation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.words import CAMERAS, DIRECTIONS, MOVES

TURNS = (0.7, 1.4)
"""How often a layer goes its way and comes back, in clips in which layers return."""
ZOOM_IN, ZOOM_OUT = CAMERAS.index("zooms-in"), CAMERAS.index("zooms-out")


@dataclass(frozen=True)
class Camera:
    """Cameras, which move the background.

    word: (n,) index into CAMERAS. alpha, centre: (n, T) complex; the background's similarity is p = alpha·(u - centre).
    """

    word: Tensor
    alpha: Tensor
    centre: Tensor


@dataclass(frozen=True)
class Paths:
    """Paths of sprites in the coordinates of the background.

    word: (n, K) index into MOVES. alpha, position: (n, K, T) complex; the similarity is p = alpha·u + position.
    """

    word: Tensor
    alpha: Tensor
    position: Tensor


def _progress(time: Tensor, ease: Tensor) -> Tensor:
    """Returns the covered share of a motion's way, 0 to 1; it is faster first (ease > 0) or last (ease < 0)."""
    return time + ease * time * (1 - time)


def draw_returns(draws: Draws, count: int, layers: int, time: Tensor) -> Tensor:
    """Draws where each layer is on its way at ``time`` (T,), (n, L, T) in [0, 1]: it goes and comes back, in a wave."""
    turns, phase = draws.uniform((count, layers, 1), *TURNS), draws.uniform((count, layers, 1), 0, 1)
    return 0.5 - 0.5 * torch.cos(2 * math.pi * (turns * time + phase))


def draw_words(draws: Draws, shape: tuple[int, ...], words: tuple[str, ...], moving: bool) -> Tensor:
    """Draws indices into ``words``, of which the first means no motion; if ``moving``, it is one draw in ten."""
    if not moving:
        return draws.index(shape, len(words))
    chosen, still = draws.index(shape, len(words) - 1) + 1, draws.chance(shape, 0.1)
    return chosen * (1 - still).long()


def draw_camera(draws: Draws, count: int, time: Tensor, scale: float, moving: bool = False) -> Camera:
    """Draws cameras over ``time`` (T,) or (n, T) in [0, 1]; ``scale`` is the image's side divided by 128 pixels."""
    word = draw_words(draws, (count,), CAMERAS, moving)
    directions = torch.tensor([*DIRECTIONS, (0.0, 0.0), (0.0, 0.0)], device=draws.device)
    moves = (word > 0).float()[:, None]
    way = directions[word] * draws.uniform((count, 1), 8, 34) + draws.symmetric((count, 2), 5) * moves
    progress = _progress(time, draws.symmetric((count, 1), 0.4))
    swing = draws.uniform((count, 1), 0, 1.5) * moves
    phase = draws.uniform((count, 2), 0, 2 * math.pi)
    sway = [torch.sin(2 * math.pi * time + phase[:, i : i + 1]) - torch.sin(phase[:, i : i + 1]) for i in (0, 1)]
    centre = torch.complex(way[:, :1] * progress + swing * sway[0], way[:, 1:] * progress + swing * sway[1])
    zoom_in = (word == ZOOM_IN).float() * draws.uniform((count,), 0.15, 0.42)
    zoom_out = (word == ZOOM_OUT).float() * draws.uniform((count,), 0.15, 0.35)
    turn = draws.symmetric((count,), 0.32) * draws.chance((count,), 0.35) * moves[:, 0]
    alpha = torch.exp(torch.complex((zoom_in - zoom_out)[:, None] * progress, turn[:, None] * progress))
    return Camera(word, alpha, centre * scale)


def draw_paths(draws: Draws, count: int, sprites: int, time: Tensor, scale: float, fast: Tensor | None = None) -> Paths:
    """Draws curved paths of uneven speed; half the sprites spin, two in five grow or shrink.

    time: (T,) or (n, K, T), the share of the way that is behind a sprite, before its speed varies.
    fast: (n,) 1 where the sprites of a scene cross most of the image, else 0; None for scenes in which a fifth of the
    sprites stands still.
    """
    shape = (count, sprites, 1)
    word = draw_words(draws, (count, sprites), MOVES, fast is not None)
    moving = (word > 0).float()[..., None]
    length = draws.uniform(shape, 14, 46)
    if fast is not None:
        length = torch.lerp(length, 68 + 0.8 * length, fast[:, None, None])
    way = torch.tensor(DIRECTIONS, device=draws.device)[word] * length
    way = way + draws.symmetric((count, sprites, 2), 8) * moving
    start = draws.symmetric((count, sprites, 2), 44) - 0.35 * way
    if fast is not None:
        start = torch.lerp(start, 0.4 * start - 0.36 * way, fast[:, None, None])
    progress = _progress(time, draws.symmetric(shape, 0.6))
    bow = draws.symmetric(shape, 8) * moving * 4 * time * (1 - time)
    heading = way / (way.norm(dim=-1, keepdim=True) + 1e-6)
    x = start[..., :1] + way[..., :1] * progress - heading[..., 1:] * bow
    y = start[..., 1:] + way[..., 1:] * progress + heading[..., :1] * bow
    spin = draws.symmetric(shape, 1.0) * draws.chance(shape, 0.5)
    tilt = draws.uniform(shape, 0, 2 * math.pi)
    growth = draws.symmetric(shape, 0.3) * draws.chance(shape, 0.4)
    alpha = torch.exp(torch.complex(growth * progress, tilt + spin * progress))
    return Paths(word, alpha, torch.complex(x, y) * scale)


def stack_layers(camera: Camera, paths: Paths) -> tuple[Tensor, Tensor]:
    """Returns alpha and beta, each (n, K+1, T), of the background (0) and the sprites (1 .. K) on the screen."""
    alpha = torch.cat([camera.alpha[:, None], camera.alpha[:, None] * paths.alpha], 1)
    offsets = torch.cat([torch.zeros_like(camera.centre)[:, None], paths.position], 1) - camera.centre[:, None]
    return alpha, camera.alpha[:, None] * offsets
