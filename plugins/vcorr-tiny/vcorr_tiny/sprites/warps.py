"""Bends layers like cloth, by shear waves that can be undone exactly.

Legend: n scenes, L layers, T frames. A texture point v = x + iy is shifted by one wave along y, then by one along x.
Each shear keeps the coordinate that its wave depends on, so undoing it subtracts the same number.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vcorr_tiny.sprites.draws import Draws


@dataclass(frozen=True)
class Warp:
    """Shear waves of layers: shift = slope / wavenumber · sin(wavenumber · coordinate + phase_t).

    size, wavenumber: (2, n, L), shift in pixels and radians per pixel of the wave along y (0) and along x (1). phase:
    (2, n, L, T) radians.
    """

    size: Tensor
    wavenumber: Tensor
    phase: Tensor

    def bend(self, layer: int, point: Tensor) -> Tensor:
        """Returns where texture points (n, T, ...) of a layer are in the layer's own plane, same shape."""
        y = point.imag - self._shift(1, layer, point.real)
        return torch.complex(point.real - self._shift(0, layer, y), y)

    def unbend(self, layer: int, point: Tensor) -> Tensor:
        """Returns which texture points are at the points (n, T, ...) of a layer's plane; undoes ``bend``."""
        x = point.real + self._shift(0, layer, point.imag)
        return torch.complex(x, point.imag + self._shift(1, layer, x))

    def _shift(self, way: int, layer: int, coordinate: Tensor) -> Tensor:
        more = (...,) + (None,) * (coordinate.dim() - 2)
        size, wavenumber = (values[way, :, layer, None][more] for values in (self.size, self.wavenumber))
        return size * torch.sin(wavenumber * coordinate + self.phase[way, :, layer][more])


def draw_warp(draws: Draws, slope: Tensor, layers: int, time: Tensor, scale: float) -> Warp:
    """Draws the waves of ``layers`` layers: one of the background, then the sprites, whose waves are shorter.

    slope: (n,), the largest slope of a wave in each scene; below 1 nothing folds. time: (T,) in [0, 1].
    """
    count = len(slope)
    length = draws.uniform((2, count, layers), 26, 52) * scale
    length[:, :, 0] *= 1.8
    wavenumber = 2 * math.pi / length
    size = slope[:, None] * draws.uniform((2, count, layers), 0.7, 1) / wavenumber
    begin = draws.uniform((2, count, layers, 1), 0, 2 * math.pi)
    return Warp(size, wavenumber, begin + draws.symmetric((2, count, layers, 1), 2 * math.pi) * time)
