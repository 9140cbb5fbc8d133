"""Knows where the layers of scenes are: which layer is at a point, and where any point of a layer is at any time.

Legend: n scenes, K sprites, L layers, T frames, S image side, N points. Layers are the background, the sprites from the
back, and a curtain if there is one. Screen points are complex numbers x + iy in pixels from the image centre. A texture
point v of a layer is at u = bend(v) of its plane. On the screen it is at p = alpha_t·u + beta_t. All of it can be
undone in closed form, so the tracks of any points are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.shapes import outline
from vcorr_tiny.sprites.warps import Warp

OUTLINE_POINTS = 720
"""Number of points along an outline for distances to it: less than half a pixel apart for the largest sprites."""


@dataclass(frozen=True)
class Tracks:
    """Tracks of query points.

    xy: (n, N, T, 2) float32 pixels (x, y), raster coordinates; also outside the image and where the point is hidden.
    visible: (n, N, T) bool, True where the point is inside the image and no layer above its own covers it.
    layer: (n, N) int64, the layer of the query point: 0 the background, k the k-th sprite from the back, K + 1 the
        curtain.
    """

    xy: Tensor
    visible: Tensor
    layer: Tensor


@dataclass(frozen=True)
class Sprites:
    """Outlines of the sprites.

    shape: (n, K) index into SHAPES. radius: (n, K) pixels. present: (n, K) bool. wobble: (n, K, 4) in [0, 1].
    """

    shape: Tensor
    radius: Tensor
    present: Tensor
    wobble: Tensor


@dataclass(frozen=True)
class Curtain:
    """A strip across the whole image that passes over it; outside the image in the first and the last frame.

    alpha, beta: (n, T) complex, its similarity; in its own coordinates it is the points with |x| < half_width (n,).
    present: (n,) bool.
    """

    alpha: Tensor
    beta: Tensor
    half_width: Tensor
    present: Tensor


def draw_curtain(draws: Draws, there: Tensor, time: Tensor, size: int) -> Curtain:
    """Draws a curtain for the scenes in which ``there`` (n,) is not 0; it passes within the middle of the clip."""
    count, half = len(there), size / 2
    angle = draws.uniform((count, 1), 0, 2 * math.pi)
    half_width = draws.uniform((count,), 0.34, 0.5) * half
    # 1.05 and not 1: the first and the last frame show nothing of it, also after the outline is smoothed
    reach = half * (angle.cos().abs() + angle.sin().abs()) * 1.05 + half_width[:, None]
    way = torch.lerp(-reach, reach, time) * (1 - 2 * draws.chance((count, 1), 0.5))
    turn = torch.polar(torch.ones_like(angle), angle)
    return Curtain(turn.expand(-1, len(time)), turn * way, half_width, there > 0)


class Layers:
    """The layers of ``n`` scenes over ``T`` frames of size x size pixels.

    Attributes: alpha, beta (n, L, T) complex64; sprites; warp and curtain, None where no scene has one.
    """

    def __init__(
        self, alpha: Tensor, beta: Tensor, size: int, sprites: Sprites, warp: Warp | None, curtain: Curtain | None
    ) -> None:
        self.size, self.sprites, self.warp, self.curtain = size, sprites, warp, curtain
        self.alpha = alpha if curtain is None else torch.cat([alpha, curtain.alpha[:, None]], 1)
        self.beta = beta if curtain is None else torch.cat([beta, curtain.beta[:, None]], 1)
        self.count, self.number, self.frames = self.alpha.shape

    @property
    def device(self) -> torch.device:
        """Device of the scenes."""
        return self.alpha.device

    def locate(self, layer: int, screen: Tensor) -> Tensor:
        """Returns the texture points (n, T, ...) of a layer at screen points of that shape, or (S, S)."""
        more = (...,) + (None,) * (screen.dim() - 2 if screen.dim() > 2 else 2)
        plane = (screen - self.beta[:, layer][more]) / self.alpha[:, layer][more]
        return plane if self.warp is None or not self._bends(layer) else self.warp.unbend(layer, plane)

    def covers(self, layer: int, texture: Tensor) -> Tensor:
        """Returns which texture points (n, T, ...) of a layer lie inside its outline; the background has none."""
        tail = (slice(None),) + (None,) * (texture.dim() - 1)
        if layer == 0:
            return torch.ones_like(texture, dtype=torch.bool)
        if self.curtain is not None and layer == self.number - 1:
            return (texture.real.abs() < self.curtain.half_width[tail]) & self.curtain.present[tail]
        sprites, at = self.sprites, layer - 1
        scaled = texture / sprites.radius[:, at][tail]
        reach = outline(sprites.shape[:, at], sprites.wobble[:, at], scaled.angle())
        return (scaled.abs() < reach) & sprites.present[:, at][tail]

    def tracks(self, xy: Tensor, frame: int | Tensor = 0) -> Tracks:
        """Computes the tracks of the points ``xy``, (N, 2) for all scenes or (n, N, 2) for each, in pixels.

        frame: the frame in which each point is asked for, one for all, (N,) or (n, N).
        """
        half = self.size / 2
        xy, asked, start = self._start(xy, frame)
        layer = self._topmost(start, asked)
        screen = self._follow(start, asked, layer)
        visible = (screen.real.abs() < half) & (screen.imag.abs() < half) & ~self._hidden(screen, layer)
        moved = torch.stack([screen.real + half, screen.imag + half], -1)
        # The way into the layer's coordinates and back rounds
        own = asked[..., None, None].expand(-1, -1, 1, 2)
        return Tracks(moved.scatter(2, own, xy[:, :, None]), visible, layer)

    def layers_at(self, xy: Tensor, frame: int | Tensor = 0) -> Tensor:
        """Computes the topmost layer at points, (n, N) int64, as in their tracks; ``xy`` and ``frame`` as there."""
        _, asked, start = self._start(xy, frame)
        return self._topmost(start, asked)

    def layer_map(self) -> Tensor:
        """Computes the index of the topmost layer at every pixel centre, (n, T, S, S) uint8."""
        screen = pixel_centres(self.size, self.device)
        top = torch.zeros((self.count, self.frames, self.size, self.size), dtype=torch.uint8, device=self.device)
        for layer in range(1, self.number):
            top.masked_fill_(self.covers(layer, self.locate(layer, screen)), layer)
        return top

    def boundary_distances(self, xy: Tensor, frame: int = 0) -> Tensor:
        """Computes the distances, in pixels of ``frame``, from points to the nearest visible outline, (n, N) float32.

        An outline is visible where it lies inside the image and no layer above covers it. The distance is infinite if
        no outline is visible.

        Args:
            xy: (N, 2) for all scenes or (n, N, 2) for each, pixels in ``frame``.
            frame: the frame of all points.
        """
        half = self.size / 2
        xy = xy.to(self.device, torch.float32).expand(self.count, *xy.shape[-2:])
        edges, seen = self._outlines(frame)
        distance = torch.cdist(xy - half, torch.view_as_real(edges))
        return distance.masked_fill(~seen[:, None], torch.inf).amin(-1)

    def _start(self, xy: Tensor, frame: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns points (n, N, 2) in pixels, the frames (n, N) they are asked for, and their screen points (n, N)."""
        half = self.size / 2
        xy = xy.to(self.device, torch.float32).expand(self.count, *xy.shape[-2:])
        asked = torch.as_tensor(frame, device=self.device).expand(xy.shape[:2])
        return xy, asked, torch.complex(xy[..., 0] - half, xy[..., 1] - half)

    def _bends(self, layer: int) -> bool:
        """Returns whether the layer bends; the curtain does not."""
        return self.warp is not None and layer < self.warp.phase.shape[2]

    def _topmost(self, start: Tensor, asked: Tensor) -> Tensor:
        """Returns the topmost layer (n, N) at screen points (n, N) in their own frames (n, N)."""
        top = torch.zeros(start.shape, dtype=torch.int64, device=self.device)
        for layer in range(1, self.number):
            inside = self.covers(layer, self._at(layer, start, asked))
            top = torch.where(inside, layer, top)
        return top

    def _at(self, layer: int, screen: Tensor, asked: Tensor) -> Tensor:
        """Returns texture points (n, N) of one layer at screen points (n, N), each in its own frame."""
        every = self.locate(layer, screen[:, None].expand(-1, self.frames, -1))
        return every.gather(1, asked[:, None])[:, 0]

    def _follow(self, start: Tensor, asked: Tensor, layer: Tensor) -> Tensor:
        """Returns where the points of their layers, seen at ``start`` (n, N), are on the screen, (n, N, T)."""
        screen = torch.zeros((*start.shape, self.frames), dtype=start.dtype, device=self.device)
        for index in range(self.number):
            texture = self._at(index, start, asked)[:, None].expand(-1, self.frames, -1)
            plane = self.warp.bend(index, texture) if self.warp is not None and self._bends(index) else texture
            path = self.alpha[:, index, :, None] * plane + self.beta[:, index, :, None]
            screen = torch.where((layer == index)[..., None], path.transpose(1, 2), screen)
        return screen

    def _hidden(self, screen: Tensor, layer: Tensor) -> Tensor:
        """Returns whether a layer above ``layer`` (n, N) covers the screen points (n, N, T)."""
        hidden = torch.zeros(screen.shape, dtype=torch.bool, device=self.device)
        for index in range(1, self.number):
            over = self.covers(index, self.locate(index, screen.transpose(1, 2))).transpose(1, 2)
            hidden |= over & (layer < index)[..., None]
        return hidden

    def _outlines(self, frame: int) -> tuple[Tensor, Tensor]:
        """Returns points of all outlines in ``frame``, (n, points) complex, and whether each is visible."""
        half = self.size / 2
        edges = [self._edge(layer, frame) for layer in range(1, self.number)]
        seen = []
        for layer, edge in enumerate(edges, start=1):
            covered = torch.zeros(edge.shape, dtype=torch.bool, device=self.device)
            for above in range(layer + 1, self.number):
                covered |= self.covers(above, self._at(above, edge, torch.full_like(covered, frame, dtype=torch.int64)))
            there = self._present(layer)[:, None]
            seen.append(~covered & there & (edge.real.abs() < half) & (edge.imag.abs() < half))
        return torch.cat(edges, 1), torch.cat(seen, 1)

    def _present(self, layer: int) -> Tensor:
        if self.curtain is not None and layer == self.number - 1:
            return self.curtain.present
        return self.sprites.present[:, layer - 1]

    def _edge(self, layer: int, frame: int) -> Tensor:
        """Returns points along the outline of a layer on the screen in ``frame``, (n, OUTLINE_POINTS) complex."""
        if self.curtain is not None and layer == self.number - 1:
            along = torch.linspace(-self.size, self.size, OUTLINE_POINTS // 2, device=self.device).expand(
                self.count, -1
            )
            side = self.curtain.half_width[:, None].expand_as(along)
            texture = torch.cat([torch.complex(side, along), torch.complex(-side, along)], 1)
        else:
            angle = torch.linspace(0, 2 * torch.pi, OUTLINE_POINTS + 1, device=self.device)[:-1].expand(self.count, -1)
            sprites, at = self.sprites, layer - 1
            reach = outline(sprites.shape[:, at], sprites.wobble[:, at], angle) * sprites.radius[:, at, None]
            texture = torch.polar(reach, angle)
        if self.warp is not None and self._bends(layer):
            texture = self.warp.bend(layer, texture[:, None].expand(-1, self.frames, -1))[:, frame]
        return self.alpha[:, layer, frame, None] * texture + self.beta[:, layer, frame, None]


def pixel_centres(size: int, device: torch.device) -> Tensor:
    """Returns the complex screen points (S, S) of the pixel centres."""
    axis = torch.arange(size, device=device) + 0.5 - size / 2
    return torch.complex(axis[None, :].expand(size, -1), axis[:, None].expand(-1, size))
