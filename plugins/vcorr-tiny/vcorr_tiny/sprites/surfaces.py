"""Says how a layer looks: its texture, which may repeat and flicker, and its gain over time.

Legend: n scenes, T frames, S image side. Colours are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.textures import noise


@dataclass(frozen=True)
class Surface:
    """How one layer of every scene looks.

    texture: (n, 3, h, w), over the points [-1, 1]; ``outside`` says what is beyond. flicker: (n, 3, h, w), a second
    texture around 0, added with the weight ``rhythm`` (n, T) of each frame. gain: (n, 3, T). shift: (n, T) complex, by
    which the texture is moved in each frame. None: there is none.
    """

    texture: Tensor
    outside: Literal["reflection", "border"]
    flicker: Tensor | None = None
    rhythm: Tensor | None = None
    gain: Tensor | None = None
    shift: Tensor | None = None

    def colours(self, points: Tensor) -> Tensor:
        """Looks up the colours (n, 3, T, S, S) at complex texture points (n, T, S, S)."""
        if self.shift is not None:
            points = points - self.shift[..., None, None]
        if self.flicker is None or self.rhythm is None:
            found = self._look_up(self.texture, points)
        else:
            both = self._look_up(torch.cat([self.texture, self.flicker], 1), points)
            found = torch.addcmul(both[:, :3], both[:, 3:], self.rhythm[:, None, :, None, None])
        return found if self.gain is None else found * self.gain[..., None, None]

    def _look_up(self, texture: Tensor, points: Tensor) -> Tensor:
        count, frames, height, width = points.shape
        grid = torch.view_as_real(points).reshape(count, frames * height, width, 2)
        colours = functional.grid_sample(texture, grid, mode="bilinear", padding_mode=self.outside, align_corners=False)
        return colours.view(count, -1, frames, height, width)

    def flicker_with(self, draws: Draws, amplitude: Tensor, frames: int) -> Surface:
        """Returns the surface with a second texture of the given amplitude (n,), which changes in every frame."""
        count, _, side, _ = self.texture.shape
        cells = (side // 16, side // 8, side // 4)
        second = noise(draws, count, side, cells, draws.uniform((count,), 0, 0.5)) * amplitude[:, None, None, None]
        return replace(self, flicker=second, rhythm=draws.symmetric((count, frames), 1.7))

    def tile(self, draws: Draws, share: Tensor, periods: tuple[float, float]) -> Surface:
        """Returns the surface with its middle repeated, to the share (n,) given; periods are in [-1, 1] units."""
        side = self.texture.shape[-1]
        period = (draws.uniform((len(share),), *periods) * side / 2).round().long().clamp(min=4)
        return replace(self, texture=_tile(self.texture, period, share))


def _tile(texture: Tensor, period: Tensor, share: Tensor) -> Tensor:
    """Repeats the middle of textures (n, 3, side, side) every ``period`` (n,) texels, to the ``share`` (n,) given."""
    side = texture.shape[-1]
    start = (side - period) // 2
    places = start[:, None] + torch.remainder(torch.arange(side, device=texture.device), period[:, None])
    rows = texture.gather(2, places[:, None, :, None].expand_as(texture))
    tiles = rows.gather(3, places[:, None, None, :].expand_as(texture))
    return torch.lerp(texture, tiles, share[:, None, None, None])
