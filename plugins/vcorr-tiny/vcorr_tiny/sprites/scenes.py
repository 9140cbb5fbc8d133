"""Draws batches of procedural scenes, renders them and tracks points in them.

Legend: n scenes, K sprites, T frames, S image side, N query points. Points are pixels in raster coordinates: x right, y
down, (0, 0) the outer corner of the first pixel. ``layers.py`` says where things are, ``surfaces.py`` how they look.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from vcorr_tiny.sprites.camera_faults import CameraFaults, draw_gains
from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.layers import Curtain, Layers, Sprites, Tracks, draw_curtain, pixel_centres
from vcorr_tiny.sprites.levels import EASY, Level
from vcorr_tiny.sprites.lights import Light
from vcorr_tiny.sprites.motion import draw_camera, draw_paths, draw_returns, stack_layers
from vcorr_tiny.sprites.shapes import outline
from vcorr_tiny.sprites.surfaces import Surface
from vcorr_tiny.sprites.textures import SPRITE_EXTENT, backgrounds, sprite_textures
from vcorr_tiny.sprites.warps import draw_warp
from vcorr_tiny.sprites.words import (
    CAMERAS,
    CAPTION_TOKENS,
    COLOURS,
    END,
    FAULT_WORDS,
    MOVES,
    PATTERNS,
    PHOTO,
    RGB,
    SHAPES,
    TOKENS,
    words_of,
)

if TYPE_CHECKING:
    from vcorr_tiny.sprites.pictures import Pictures

EDGE_SHARPNESS = 3.0
"""Slope of the sprites' antialiased edge: the mask is sigmoid(3 · pixels inside the outline)."""
RIM = 0.09
"""Width, in sprite radii, of the dark rim that makes outlines visible."""
DRIFT = 16.0
"""Frames over which gains drift before they come back, in clips in which layers return."""
BACKGROUND_PERIODS, SPRITE_PERIODS = (0.12, 0.22), (0.25, 0.45)
"""Periods of textures that repeat: 15 to 28 pixels of a background, half to one radius of a sprite."""


class Scenes:
    """``count`` scenes of ``frames`` frames of size x size pixels, drawn from ``generator``, on its device.

    Attributes: amounts, the amount (n,) of every fault; layers, where things are; surfaces, how the background, the
    sprites and the curtain look; light; radius in pixels, present, colour, kind (pattern), shape and move (n, K) and
    camera (n,): indices into the word lists.

    Args:
        count: number of scenes.
        generator: the source of all draws.
        size: side of the images in pixels.
        frames: number of frames.
        sprites: largest number of sprites.
        level: which faults the scenes have, and how strong they are. All levels but `easy` draw the same scenes.
        pictures: photographs from which all textures are cut; None for drawn textures.
        returns: whether every layer goes and comes back, at its own pace; else it goes one way, once.
    """

    def __init__(
        self,
        count: int,
        generator: torch.Generator,
        size: int = 128,
        frames: int = 17,
        sprites: int = 4,
        level: Level = EASY,
        pictures: Pictures | None = None,
        returns: bool = False,
    ) -> None:
        draws, scale = Draws(generator), size / 128
        self.count, self.size, self.frames, self.sprites, self.level = count, size, frames, sprites, level
        self.time = torch.arange(frames, device=draws.device, dtype=torch.float32) / max(frames - 1, 1)
        self.returns, self.amounts = returns, level.draw(draws, count)
        ways = draw_returns(draws, count, sprites + 1, self.time) if returns else None
        camera = draw_camera(draws, count, self.time if ways is None else ways[:, 0], scale, level.moving)
        fast = self.amounts["fast"] if level.moving else None
        paths = draw_paths(draws, count, sprites, self.time if ways is None else ways[:, 1:], scale, fast)
        self.camera, self.move = camera.word, paths.word
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
        self.photographed = pictures is not None
        if pictures is not None:
            self._photograph(pictures, draws)
        self._pair_twins()
        self._place(draws, stack_layers(camera, paths))
        self._dress(draws, pictures)
        self.camera_faults = CameraFaults(draws, level, self.amounts, self.time, scale)

    @property
    def device(self) -> torch.device:
        """Device of the scenes."""
        return self.time.device

    @property
    def alpha(self) -> Tensor:
        """Scale and turn of every layer, (n, L, T) complex64."""
        return self.layers.alpha

    @property
    def beta(self) -> Tensor:
        """Place of every layer in pixels from the image centre, (n, L, T) complex64."""
        return self.layers.beta

    def render(self) -> Tensor:
        """Renders the videos, (n, 3, T, S, S) float32 in [-1, 1], RGB."""
        screen = pixel_centres(self.size, self.device)
        image = self.surfaces[0].colours(self.layers.locate(0, screen) / self.size)
        for sprite in range(self.sprites):
            image = self._paint(image, sprite, screen)
        if self.layers.curtain is not None:
            image = self._hang_curtain(image, self.layers.curtain, screen)
        image = image * self.light.factor(screen, self.time)[:, None]
        return self.camera_faults.record(image, screen).clamp(0, 1) * 2 - 1

    def tracks(self, xy: Tensor, frame: int | Tensor = 0) -> Tracks:
        """Computes the exact tracks of points, as ``Layers.tracks`` does."""
        return self.layers.tracks(xy, frame)

    def layer_map(self) -> Tensor:
        """Computes the index of the topmost layer at every pixel centre, (n, T, S, S) uint8."""
        return self.layers.layer_map()

    def boundary_distances(self, xy: Tensor, frame: int = 0) -> Tensor:
        """Computes the distances of points to the nearest visible outline, as ``Layers.boundary_distances`` does."""
        return self.layers.boundary_distances(xy, frame)

    def token_ids(self, length: int = CAPTION_TOKENS) -> Tensor:
        """Returns the captions as token ids, (n, length) int64, with the end mark, padded with 0."""
        first = [TOKENS[names[0]] for names in (COLOURS, PATTERNS, SHAPES, MOVES, CAMERAS)]
        stop = torch.full_like(self.move, TOKENS["."])
        kind = torch.full_like(self.kind, TOKENS[PHOTO]) if self.photographed else self.kind + first[1]
        words = [self.colour + first[0], kind, self.shape + first[2], self.move + first[3], stop]
        sprites = (torch.stack(words, -1) * self.present[..., None]).flatten(1)
        named = torch.full_like(self.camera, TOKENS["camera"])
        faults = [(self.amounts[name] > 0) * TOKENS[word] for name, word in FAULT_WORDS.items()]
        ending = torch.stack([named, self.camera + first[4], *faults, torch.full_like(named, TOKENS[END])], -1)
        ids = torch.cat([sprites, ending], 1)
        # What is absent leaves zeros in the middle; a stable sort by "is a pad" moves them to the end.
        ids = torch.gather(ids, 1, torch.argsort((ids == 0).int(), dim=1, stable=True))
        return functional.pad(ids, (0, length - ids.shape[1]))

    def captions(self) -> list[str]:
        """Returns the captions in words, one per scene."""
        return [words_of(row) for row in self.token_ids().tolist()]

    def _photograph(self, pictures: Pictures, draws: Draws) -> None:
        """Cuts all textures from photographs; the captions name the colour that is nearest to each cutting."""
        self.background = pictures.crops(draws, self.count, self.background.shape[-1])
        cuttings = pictures.crops(draws, self.colour.numel(), self.textures.shape[-1])
        self.textures = cuttings.view_as(self.textures)
        named = torch.tensor(RGB, device=self.device)
        self.colour = torch.cdist(self.textures.mean((3, 4)), named.expand(self.count, -1, -1)).argmin(-1)

    def _pair_twins(self) -> None:
        """Makes every second sprite the twin of the one before it, in the scenes that have twins."""
        if "twins" not in self.level.faults:
            return
        paired = self.amounts["twins"] > 0
        index = torch.arange(self.sprites, device=self.device)
        source = torch.where(paired[:, None], index - index % 2, index)
        for name in ("radius", "shape", "colour", "kind", "wobble", "textures"):
            values: Tensor = getattr(self, name)
            more = source.view(*source.shape, *(1,) * (values.dim() - 2)).expand_as(values)
            setattr(self, name, values.gather(1, more))
        self.present = self.present | (paired[:, None] & (index < 2))

    def _place(self, draws: Draws, similarities: tuple[Tensor, Tensor]) -> None:
        """Draws how layers bend, and the curtain."""
        faults, scale = self.level.faults, self.size / 128
        warp = draw_warp(draws, self.amounts["warp"], self.sprites + 1, self.time, scale) if "warp" in faults else None
        curtain = draw_curtain(draws, self.amounts["vanish"], self.time, self.size) if "vanish" in faults else None
        outlines = Sprites(self.shape, self.radius, self.present, self.wobble)
        self.layers = Layers(*similarities, self.size, outlines, warp, curtain)

    def _dress(self, draws: Draws, pictures: Pictures | None) -> None:
        """Makes the surfaces of all layers, with the faults of textures."""
        self.surfaces = [Surface(self.background, "reflection")]
        self.surfaces += [Surface(texture, "border") for texture in self.textures.unbind(1)]
        if "repeat" in self.level.faults:
            periods = [BACKGROUND_PERIODS] + [SPRITE_PERIODS] * self.sprites
            share = self.amounts["repeat"]
            self.surfaces = [s.tile(draws, share, p) for s, p in zip(self.surfaces, periods, strict=True)]
        if self.layers.curtain is not None:
            if pictures is None:
                cloth = backgrounds(draws, self.count, self.size)
            else:
                cloth = pictures.crops(draws, self.count, self.background.shape[-1])
            self.surfaces.append(Surface(cloth, "reflection"))
        if "flicker" in self.level.faults:
            self.surfaces = [s.flicker_with(draws, self.amounts["flicker"], self.frames) for s in self.surfaces]
        if "drift" in self.level.faults:
            gains = draw_gains(draws, self.amounts["drift"], len(self.surfaces), self._clock())
            self.surfaces = [replace(s, gain=gains[:, index]) for index, s in enumerate(self.surfaces)]

    def _clock(self) -> Tensor:
        """Returns where the drift is (T,), in frames. It comes back where layers do, or long clips would go dark."""
        frames = torch.arange(self.frames, device=self.device)
        return DRIFT / 2 * (1 - torch.cos(2 / DRIFT * frames)) if self.returns else frames

    def _paint(self, image: Tensor, sprite: int, screen: Tensor) -> Tensor:
        """Returns ``image`` with one sprite of every scene painted over it."""
        local = self.layers.locate(sprite + 1, screen) / self.radius[:, sprite, None, None, None]
        margin = outline(self.shape[:, sprite], self.wobble[:, sprite], local.angle()) - local.abs()
        pixels = self.radius[:, sprite, None] * self.alpha[:, sprite + 1].abs()
        sharpness = EDGE_SHARPNESS * pixels[..., None, None]
        mask = torch.sigmoid(sharpness * margin) * self.present[:, sprite, None, None, None]
        shade = 0.5 + 0.5 * torch.sigmoid(sharpness * (margin - RIM))
        colours = self.surfaces[sprite + 1].colours(local / SPRITE_EXTENT) * shade[:, None]
        return torch.lerp(image, colours, mask[:, None])

    def _hang_curtain(self, image: Tensor, curtain: Curtain, screen: Tensor) -> Tensor:
        """Returns ``image`` with the curtain in front."""
        last = self.layers.number - 1
        local = self.layers.locate(last, screen)
        margin = curtain.half_width[:, None, None, None] - local.real.abs()
        mask = torch.sigmoid(EDGE_SHARPNESS * margin) * curtain.present[:, None, None, None]
        return torch.lerp(image, self.surfaces[last].colours(local / self.size), mask[:, None])
