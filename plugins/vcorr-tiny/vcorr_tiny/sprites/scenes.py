"""Draws batches of procedural scenes, renders them and tracks points in them.

Legend: n scenes, K sprites, T frames, S image side, N query points. Every layer moves by a complex similarity of its
own coordinates u: p = alpha_t·u + beta_t. One division and one product therefore give the exact track of any point.
Points are pixels in raster coordinates: x right, y down, (0, 0) the outer corner of the first pixel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.motion import draw_camera, draw_paths, stack_layers
from vcorr_tiny.sprites.shapes import outline
from vcorr_tiny.sprites.textures import SPRITE_EXTENT, backgrounds, sprite_textures
from vcorr_tiny.sprites.words import (
    CAMERAS,
    CAPTION_TOKENS,
    COLOURS,
    END,
    MOVES,
    PATTERNS,
    SHAPES,
    TOKENS,
    words_of,
)

EDGE_SHARPNESS = 3.0
"""Slope of the sprites' antialiased edge: the mask is sigmoid(3 · pixels inside the outline)."""
OUTLINE_POINTS = 720
"""Number of points along an outline for distances to it: less than half a pixel apart for the largest sprites."""
RIM = 0.09
"""Width, in sprite radii, of the dark rim that makes outlines visible."""


@dataclass(frozen=True)
class Tracks:
    """Tracks of query points.

    xy: (n, N, T, 2) float32 pixels (x, y), raster coordinates; also outside the image and where the point is hidden.
    visible: (n, N, T) bool, True where the point is inside the image and no layer above its own covers it.
    layer: (n, N) int64, the layer of the query point: 0 the background, k the k-th sprite from the back.
    """

    xy: Tensor
    visible: Tensor
    layer: Tensor


class Light:
    """A faint brightness wave that moves over the screen, not with the layers; it disturbs matching by colour."""

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


class Scenes:
    """``count`` scenes of ``frames`` frames of size x size pixels, drawn from ``generator``, on its device.

    Attributes: alpha, beta (n, K+1, T) complex64; present (n, K) bool; radius (n, K) pixels; colour, kind (pattern),
    shape, move (n, K) and camera (n,) indices into the word lists; light.
    """

    def __init__(
        self, count: int, generator: torch.Generator, size: int = 128, frames: int = 17, sprites: int = 4
    ) -> None:
        draws, scale = Draws(generator), size / 128
        self.count, self.size, self.frames, self.sprites = count, size, frames, sprites
        self.time = torch.arange(frames, device=draws.device, dtype=torch.float32) / max(frames - 1, 1)
        camera = draw_camera(draws, count, self.time, scale)
        paths = draw_paths(draws, count, sprites, self.time, scale)
        self.camera, self.move = camera.word, paths.word
        self.alpha, self.beta = stack_layers(camera, paths)
        number = draws.index((count,), sprites) + 1
        self.present = torch.arange(sprites, device=draws.device)[None] < number[:, None]
        self.radius = draws.uniform((count, sprites), 13, 27) * scale
        self.shape = draws.index((count, sprites), len(SHAPES))
        self.colour = draws.index((count, sprites), len(COLOURS))
        self.kind = draws.index((count, sprites), len(PATTERNS))
        self.wobble = draws.uniform((count, sprites, 4), 0, 1)
        self.background = backgrounds(draws, count, size)
        self.textures = sprite_textures(draws, self.colour, self.kind, self.radius, size)
        self.light = Light(draws, count, scale)

    @property
    def device(self) -> torch.device:
        """Device of the scenes."""
        return self.alpha.device

    def render(self) -> Tensor:
        """Renders the videos, (n, 3, T, S, S) float32 in [-1, 1], RGB."""
        axis = torch.arange(self.size, device=self.device) + 0.5 - self.size / 2
        screen = torch.complex(axis[None, :].expand(self.size, -1), axis[:, None].expand(-1, self.size))
        image = self._look_up(self.background, self._local(0, screen) / self.size, "reflection")
        for sprite in range(self.sprites):
            image = self._paint(image, sprite, screen)
        image = image * self.light.factor(screen, self.time)[:, None]
        return image.clamp(0, 1) * 2 - 1

    def tracks(self, xy: Tensor) -> Tracks:
        """Computes the tracks of the points ``xy``, (N, 2) for all scenes or (n, N, 2) for each, pixels in frame 0."""
        half = self.size / 2
        xy = xy.to(self.device, torch.float32).expand(self.count, *xy.shape[-2:])
        start = torch.complex(xy[..., 0] - half, xy[..., 1] - half)
        layer = self._layer_at(start)
        alpha, beta = (self._of_layer(values, layer) for values in (self.alpha, self.beta))
        local = (start[..., None] - beta[..., :1]) / alpha[..., :1]
        screen = alpha * local + beta
        visible = (screen.real.abs() < half) & (screen.imag.abs() < half)
        for sprite in range(self.sprites):
            above = (layer < sprite + 1)[..., None]
            visible &= ~(above & self._inside(sprite, screen))
        moved = torch.stack([screen.real + half, screen.imag + half], -1)
        moved[:, :, 0] = xy  # the way into the layer's coordinates and back rounds
        return Tracks(moved, visible, layer)

    def boundary_distances(self, xy: Tensor) -> Tensor:
        """Computes the distances, in pixels of frame 0, from points to the nearest visible outline, (n, N) float32.

        An outline is visible where it lies inside the image and no sprite above covers it. The distance is infinite if
        no outline is visible.

        Args:
            xy: (N, 2) for all scenes or (n, N, 2) for each, pixels in frame 0.
        """
        half = self.size / 2
        xy = xy.to(self.device, torch.float32).expand(self.count, *xy.shape[-2:])
        edges, seen = self._outlines()
        distance = torch.cdist(xy - half, torch.view_as_real(edges))
        return distance.masked_fill(~seen[:, None], torch.inf).amin(-1)

    def _outlines(self) -> tuple[Tensor, Tensor]:
        """Returns points of all outlines in frame 0, (n, K·OUTLINE_POINTS) complex, and whether each is visible."""
        half = self.size / 2
        angle = torch.linspace(0, 2 * torch.pi, OUTLINE_POINTS + 1, device=self.device)[:-1].expand(self.count, -1)
        edges, seen = [], []
        for sprite in range(self.sprites):
            reach = outline(self.shape[:, sprite], self.wobble[:, sprite], angle) * self.radius[:, sprite, None]
            alpha, beta = (values[:, sprite + 1, :1] for values in (self.alpha, self.beta))
            edge = alpha * torch.polar(reach, angle) + beta
            covered = [self._inside(above, edge[..., None])[..., 0] for above in range(sprite + 1, self.sprites)]
            clear = ~torch.stack(covered).any(0) if covered else torch.ones_like(angle, dtype=torch.bool)
            edges.append(edge)
            seen.append(clear & self.present[:, sprite, None] & (edge.real.abs() < half) & (edge.imag.abs() < half))
        return torch.cat(edges, 1), torch.cat(seen, 1)

    def token_ids(self, length: int = CAPTION_TOKENS) -> Tensor:
        """Returns the captions as token ids, (n, length) int64, with the end mark, padded with 0."""
        first = [TOKENS[names[0]] for names in (COLOURS, PATTERNS, SHAPES, MOVES, CAMERAS)]
        stop = torch.full_like(self.move, TOKENS["."])
        words = [self.colour + first[0], self.kind + first[1], self.shape + first[2], self.move + first[3], stop]
        sprites = (torch.stack(words, -1) * self.present[..., None]).flatten(1)
        named = torch.full_like(self.camera, TOKENS["camera"])
        ending = torch.stack([named, self.camera + first[4], torch.full_like(named, TOKENS[END])], -1)
        ids = torch.cat([sprites, ending], 1)
        # Absent sprites leave zeros in the middle; a stable sort by "is a pad" moves them to the end.
        ids = torch.gather(ids, 1, torch.argsort((ids == 0).int(), dim=1, stable=True))
        return functional.pad(ids, (0, length - ids.shape[1]))

    def captions(self) -> list[str]:
        """Returns the captions in words, one per scene."""
        return [words_of(row) for row in self.token_ids().tolist()]

    def _local(self, layer: int, screen: Tensor) -> Tensor:
        """Computes the layer coordinates (n, T, S, S) of the screen points (S, S)."""
        alpha, beta = (values[:, layer, :, None, None] for values in (self.alpha, self.beta))
        return (screen - beta) / alpha

    def _look_up(self, texture: Tensor, local: Tensor, outside: str) -> Tensor:
        """Looks up the colours (n, 3, T, S, S) of ``texture`` (n, 3, h, w), which covers [-1, 1], at ``local``."""
        count, frames, height, width = local.shape
        grid = torch.view_as_real(local).reshape(count, frames * height, width, 2)
        colours = functional.grid_sample(texture, grid, mode="bilinear", padding_mode=outside, align_corners=False)
        return colours.view(count, 3, frames, height, width)

    def _paint(self, image: Tensor, sprite: int, screen: Tensor) -> Tensor:
        """Returns ``image`` with one sprite of every scene painted over it."""
        local = self._local(sprite + 1, screen) / self.radius[:, sprite, None, None, None]
        margin = outline(self.shape[:, sprite], self.wobble[:, sprite], local.angle()) - local.abs()
        pixels = self.radius[:, sprite, None] * self.alpha[:, sprite + 1].abs()
        sharpness = EDGE_SHARPNESS * pixels[..., None, None]
        mask = torch.sigmoid(sharpness * margin) * self.present[:, sprite, None, None, None]
        shade = 0.5 + 0.5 * torch.sigmoid(sharpness * (margin - RIM))
        colours = self._look_up(self.textures[:, sprite], local / SPRITE_EXTENT, "border") * shade[:, None]
        return torch.lerp(image, colours, mask[:, None])

    def _inside(self, sprite: int, screen: Tensor) -> Tensor:
        """Returns whether screen points (n, N, t) lie on a sprite; t is all frames, or 1 for frame 0."""
        frames = slice(0, screen.shape[-1])
        alpha, beta = (values[:, sprite + 1, None, frames] for values in (self.alpha, self.beta))
        local = (screen - beta) / alpha / self.radius[:, sprite, None, None]
        reach = outline(self.shape[:, sprite], self.wobble[:, sprite], local.angle())
        return (local.abs() < reach) & self.present[:, sprite, None, None]

    def _layer_at(self, start: Tensor) -> Tensor:
        """Returns the index of the topmost layer at points (n, N) of frame 0."""
        layer = torch.zeros(start.shape, dtype=torch.int64, device=self.device)
        for sprite in range(self.sprites):
            layer = torch.where(self._inside(sprite, start[..., None])[..., 0], sprite + 1, layer)
        return layer

    def _of_layer(self, values: Tensor, layer: Tensor) -> Tensor:
        """Picks the values of each point's layer: (n, K+1, T) and layers (n, N) -> (n, N, T)."""
        index = layer[..., None].expand(-1, -1, self.frames)
        return torch.gather(values, 1, index)
