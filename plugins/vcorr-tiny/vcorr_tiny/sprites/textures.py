"""Draws the textures of the layers: multi-octave noise, stripes, checks and dots.

Legend: n scenes, K sprites per scene, S texture side in texels. Colours are in [0, 1].
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.words import PATTERNS, RGB

STRIPED, CHECKED, DOTTED = (PATTERNS.index(name) for name in ("striped", "checked", "dotted"))
ROUGH = PATTERNS.index("rough")
SPRITE_EXTENT = 1.6
"""A sprite's texture covers [-1.6, 1.6] sprite radii, slightly more than the largest shape."""


def noise(draws: Draws, count: int, side: int, cells: tuple[int, ...], falloff: Tensor) -> Tensor:
    """Draws multi-octave noise (count, 3, side, side) of about unit variance, two thirds of it grey.

    cells: grid points along one side of each octave; octave c has amplitude (c / cells[0]) ** -falloff. falloff:
    (count,).
    """
    total = torch.zeros((count, 4, side, side), device=draws.device)
    power = torch.zeros(count, device=draws.device)
    for cell in cells:
        amplitude = (cell / cells[0]) ** -falloff
        octave = draws.symmetric((count, 4, cell, cell), math.sqrt(3.0))
        octave = functional.interpolate(octave, (side, side), mode="bicubic", align_corners=False)
        total += amplitude[:, None, None, None] * octave
        power += amplitude**2
    total /= power.sqrt()[:, None, None, None]
    return 0.82 * total[:, :1] + 0.57 * total[:, 1:]


def pattern(kind: Tensor, x: Tensor, y: Tensor, wavelength: Tensor, angle: Tensor) -> Tensor:
    """Returns the share of the second colour at (x, y), (n, h, w) in [0, 1]; 0 for plain and rough.

    kind, wavelength (pixels) and angle (radians): (n,). x, y: (n, h, w) pixels.
    """
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    wavenumber = 2 * math.pi / wavelength[:, None, None]
    along, across = (cos * x + sin * y) * wavenumber, (cos * y - sin * x) * wavenumber
    stripes = torch.sigmoid(5 * torch.sin(along))
    checks = torch.sigmoid(7 * torch.sin(along) * torch.sin(across))
    dots = torch.sigmoid(6 * (torch.cos(along) + torch.cos(across) - 0.7))
    choice = kind[:, None, None]
    plain = torch.zeros_like(stripes)
    chosen = torch.where(choice == STRIPED, stripes, torch.where(choice == CHECKED, checks, plain))
    return torch.where(choice == DOTTED, dots, chosen)


def backgrounds(draws: Draws, count: int, size: int) -> Tensor:
    """Draws background textures (n, 3, 2·size, 2·size): noise, with a faint pattern in about half of them."""
    side, scale = 2 * size, size / 128
    base = draws.uniform((count, 3, 1, 1), 0.28, 0.72)
    contrast = draws.uniform((count, 1, 1, 1), 0.07, 0.2)
    falloff = draws.uniform((count,), 0.3, 1.0)
    texture = base + contrast * noise(draws, count, side, (4, 8, 16, 32, 64), falloff)
    axis = torch.arange(side, device=draws.device) + 0.5 - size
    x = axis[None, None, :].expand(count, side, side)
    y = axis[None, :, None].expand(count, side, side)
    # One draw in six is an index beyond the patterns, which is plain too.
    kind = draws.index((count,), len(PATTERNS) + 1)
    mask = pattern(kind, x, y, draws.uniform((count,), 14, 38) * scale, draws.uniform((count,), 0, math.pi))
    return (texture + draws.symmetric((count, 3, 1, 1), 0.25) * mask[:, None]).clamp(0, 1)


def sprite_textures(draws: Draws, colour: Tensor, kind: Tensor, radius: Tensor, size: int) -> Tensor:
    """Draws sprite textures (n, K, 3, side, side) over ±SPRITE_EXTENT radii; colour, kind, radius (pixels): (n, K)."""
    count, side = colour.numel(), max(16, 3 * size // 4)
    rgb = torch.tensor(RGB, device=draws.device)[colour.flatten()]
    towards = torch.where(rgb.mean(-1, keepdim=True) > 0.5, -1.0, 1.0)
    second = (rgb + draws.uniform((count, 1), 0.35, 0.6) * towards).clamp(0, 1)
    axis = (torch.arange(side, device=draws.device) + 0.5 - side / 2) * 2 * SPRITE_EXTENT / side
    reach = radius.flatten()[:, None, None]
    x = axis[None, None, :] * reach.expand(count, side, side)
    y = axis[None, :, None] * reach.expand(count, side, side)
    wavelength = draws.uniform((count,), 11, 20) * (size / 128)
    mask = pattern(kind.flatten(), x, y, wavelength, draws.uniform((count,), 0, math.pi))[:, None]
    amplitude = torch.where(kind.flatten() == ROUGH, 0.22, 0.07)[:, None, None, None]
    grain = amplitude * noise(draws, count, side, (3, 6, 12, 24), draws.uniform((count,), 0.2, 0.9))
    colours = torch.lerp(rgb[:, :, None, None], second[:, :, None, None], mask)
    return (colours + grain).clamp(0, 1).view(*colour.shape, 3, side, side)
