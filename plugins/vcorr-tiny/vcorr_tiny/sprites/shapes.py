"""Computes the outlines of the sprites as radius per direction."""

import math

import torch
from torch import Tensor

from vcorr_tiny.sprites.words import SHAPES

DISK, SQUARE, TRIANGLE, HEXAGON, STAR, BLOB = range(len(SHAPES))


def outline(shape: Tensor, wobble: Tensor, angle: Tensor) -> Tensor:
    """Returns the distance from the centre to the outline, in sprite radii, in direction ``angle`` (n, ...).

    shape (n,): index into ``SHAPES``; wobble (n, 4) in [0, 1]: amplitudes and phases of the blob's two harmonics.
    """
    tail = (slice(None),) + (None,) * (angle.dim() - 1)
    kind = shape[tail]
    sides = torch.where(kind == SQUARE, 4.0, torch.where(kind == TRIANGLE, 3.0, 6.0))
    corner = torch.where(kind == SQUARE, 1.25, torch.where(kind == TRIANGLE, 1.5, 1.1))
    wedge = 2 * math.pi / sides
    polygon = corner * torch.cos(wedge / 2) / torch.cos(torch.remainder(angle, wedge) - wedge / 2)
    star = 0.92 + 0.42 * torch.cos(5 * angle)
    first = 0.3 * wobble[:, 0][tail] * torch.cos(2 * angle + 2 * math.pi * wobble[:, 1][tail])
    second = 0.22 * wobble[:, 2][tail] * torch.cos(3 * angle + 2 * math.pi * wobble[:, 3][tail])
    others = torch.where(kind == STAR, star, 1 + first + second)
    others = torch.where(kind == DISK, torch.ones_like(angle), others)
    return torch.where((kind >= SQUARE) & (kind <= HEXAGON), polygon, others)
