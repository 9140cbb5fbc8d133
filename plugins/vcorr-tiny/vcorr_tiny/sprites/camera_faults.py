"""Spoils what a camera records: gain and colour that drift, a focus that comes and goes, and noise of the sensor.

Legend: n scenes, L layers, T frames, S image side. Images are (n, 3, T, S, S) in [0, 1].
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.levels import Level
from vcorr_tiny.sprites.lights import Spots

BRIGHTEST = 1.25
"""Largest gain of a layer; beyond it most of a texture would be cut off at white."""
_READ, _SHOT = 0.25, 1.5
"""Parts of the noise's variance that do not and that do depend on the brightness; together 1 at mid grey."""


class CameraFaults:
    """What happens to an image after the layers are drawn: coloured lights, then the lens, then the sensor."""

    def __init__(self, draws: Draws, level: Level, amounts: Mapping[str, Tensor], time: Tensor, scale: float) -> None:
        self.level, self.amounts, self.time, self.scale = level, amounts, time, scale
        self.spots = Spots(draws, amounts["lights"], scale) if "lights" in level.faults else None
        self.focus = draw_focus(draws, amounts["blur"], time, scale) if "blur" in level.faults else None
        # The noise is drawn while recording, from here on, so that every recording of a scene draws the same
        self.state = draws.generator.get_state()

    def record(self, image: Tensor, screen: Tensor) -> Tensor:
        """Returns the image (n, 3, T, S, S) as the camera records it; ``screen`` (S, S) holds the pixel centres."""
        if self.spots is not None:
            image = image * self.spots.factor(screen, self.time)
        if self.focus is not None:
            image = defocus(image, self.focus, self.level.faults["blur"].most * self.scale)
        if "noise" in self.level.faults:
            generator = torch.Generator(image.device)
            generator.set_state(self.state)
            image = add_noise(image, self.amounts["noise"] / 255, Draws(generator))
        return image


def draw_gains(draws: Draws, rate: Tensor, layers: int, clock: Tensor) -> Tensor:
    """Draws gains (n, L, 3, T) that change by at most the share ``rate`` (n,) per frame; channels differ.

    clock: (T,) where the drift is, in frames from 0 on; two frames are at most one apart.
    """
    shape = (len(rate), layers)
    common = (1 - 2 * draws.chance((*shape, 1), 0.5)) * draws.uniform((*shape, 1), 0.4, 0.7)
    slope = rate[:, None, None] * (common + draws.symmetric((*shape, 3), 0.3))
    neutral = draws.uniform((*shape, 1), 0, 1) * clock.max().clamp(min=1)
    gains = torch.exp(torch.log1p(slope.abs())[..., None] * slope.sign()[..., None] * (clock - neutral[..., None]))
    return gains * (BRIGHTEST / gains.amax((2, 3), keepdim=True)).clamp(max=1)


def draw_focus(draws: Draws, largest: Tensor, time: Tensor, scale: float) -> Tensor:
    """Draws standard deviations of the blur, (n, T) pixels, between 0 and ``largest`` (n,) times ``scale``."""
    turns, phase = draws.uniform((len(largest), 1), 0.6, 2.2), draws.uniform((len(largest), 1), 0, 1)
    return largest[:, None] * scale * (0.5 - 0.5 * torch.cos(2 * math.pi * (turns * time + phase)))


def defocus(image: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blurs every frame by a Gaussian of ``sigma`` (n, T) pixels, none above ``largest``; the border repeats.

    Written as sums of shifted images, because convolutions round differently on different processors.
    """
    reach = math.ceil(3 * largest)
    offsets = torch.arange(-reach, reach + 1, device=image.device)
    weights = torch.exp(-0.5 * (offsets[:, None, None] / sigma.clamp(min=1e-3)).square())
    weights = (weights / weights.sum(0))[:, :, None, :, None, None]
    for axis in (3, 4):
        places = torch.arange(image.shape[axis], device=image.device) + offsets[:, None]
        total = torch.zeros_like(image)
        for place, weight in zip(places.clamp(0, image.shape[axis] - 1), weights, strict=True):
            total.addcmul_(image.index_select(axis, place), weight)
        image = total
    return image


def add_noise(image: Tensor, deviation: Tensor, draws: Draws) -> Tensor:
    """Adds noise of standard deviation ``deviation`` (n,), in [0, 1] at mid grey; brighter pixels have more.

    A sum of four uniform draws stands for a normal one: it is drawn alike on every processor.
    """
    total = draws.uniform(tuple(image.shape), 0, 1)
    for _ in range(3):
        total += draws.uniform(tuple(image.shape), 0, 1)
    spread = (_READ + _SHOT * image.clamp(0, 1)).sqrt() * deviation[:, None, None, None, None]
    return image + (total - 2) * math.sqrt(3) * spread
