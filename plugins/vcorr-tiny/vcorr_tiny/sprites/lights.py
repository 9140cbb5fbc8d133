"""Lights the scenes: a faint wave, and coloured spots and shadows. Lights move over the screen, not with the layers.

Legend: n scenes, T frames, S image side.
"""

import torch
from torch import Tensor

from vcorr_tiny.sprites.draws import Draws

SPOTS = 3
"""Number of spots in a scene that has any."""


class Light:
    """A faint brightness wave; it disturbs matching by colour."""

    def __init__(self, draws: Draws, count: int, scale: float) -> None:
        self.amplitude = draws.uniform((count, 1, 1, 1), 0, 0.15)
        self.wave = draws.symmetric((count, 2), 0.035) / scale
        self.phase = draws.uniform((count,), 0, 6.283)
        self.speed = draws.symmetric((count,), 1.5)

    def factor(self, screen: Tensor, time: Tensor) -> Tensor:
        """Computes brightness factors (n, T, S, S) around 1 at complex ``screen`` points (S, S)."""
        wave = self.wave[:, :, None, None, None]
        angle = wave[:, 0] * screen.real + wave[:, 1] * screen.imag
        angle = angle + self.phase[:, None, None, None] + self.speed[:, None, None, None] * time[None, :, None, None]
        return 1 + self.amplitude * torch.sin(angle)


class Spots:
    """Soft round lights (or shadows) that cross the screen on straight lines; each has a colour.

    amount: (n,) largest change of brightness: 0.5 makes the centre of a light half as bright again, of a shadow half as
    bright.
    """

    def __init__(self, draws: Draws, amount: Tensor, scale: float) -> None:
        count = len(amount)
        self.begin = torch.view_as_complex(draws.symmetric((count, SPOTS, 2), 60) * scale)
        self.end = torch.view_as_complex(draws.symmetric((count, SPOTS, 2), 60) * scale)
        self.width = draws.uniform((count, SPOTS), 18, 42) * scale
        sign = 1 - 2 * draws.chance((count, SPOTS), 0.5)
        tint = draws.uniform((count, SPOTS, 3), 0.5, 1)
        self.colour = (amount[:, None] * sign)[..., None] * tint

    def factor(self, screen: Tensor, time: Tensor) -> Tensor:
        """Computes brightness factors (n, 3, T, S, S) at complex ``screen`` points (S, S); they are never negative."""
        total = torch.ones((len(self.width), 3, len(time), *screen.shape), device=screen.device)
        for spot in range(SPOTS):
            begin, end = self.begin[:, spot, None], self.end[:, spot, None]
            away = screen - (begin + (end - begin) * time)[..., None, None]
            reach = 2 * self.width[:, spot, None, None, None].square()
            glow = torch.exp(-(away.real.square() + away.imag.square()) / reach)
            total += self.colour[:, spot, :, None, None, None] * glow[:, None]
        return total.clamp(min=0)
