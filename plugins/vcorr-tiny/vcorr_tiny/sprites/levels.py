"""Names the levels of difficulty of the scenes, and how strong each fault is in them.

Units follow what cameras do, at 8 frames per second and 128 pixels. A drift of 4 % per frame is 0.06 exposure values:
automatic exposure and white balance move faster. A standard deviation of 20 of 255 is a small sensor in dim light. A
focus that misses by 3 pixels is a lens that hunts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vcorr_tiny.sprites.draws import Draws

FAULTS = ("drift", "noise", "blur", "warp", "flicker", "repeat", "twins", "fast", "vanish", "lights")
"""All faults, in the order in which their amounts are drawn."""


@dataclass(frozen=True)
class Fault:
    """How often and how strongly one fault is in the scenes of a level.

    share: share of the scenes that have it. least, most: the amount in those scenes is uniform in [least, most).
    """

    share: float = 1.0
    least: float = 1.0
    most: float = 1.0


@dataclass(frozen=True)
class Level:
    """A level of difficulty.

    Amounts are: drift, largest change of a layer's gain per frame; noise, standard deviation at mid grey in 8-bit
    steps; blur, largest standard deviation of the focus in pixels of a 128-pixel frame; warp, largest slope of the
    shear waves; flicker, standard deviation of a second texture in [0, 1]; repeat, share of the texture that repeats;
    lights, largest change of brightness. Twins, fast and vanish are 0 or 1.
    """

    name: str
    summary: str
    faults: Mapping[str, Fault] = field(default_factory=dict)
    moving: bool = True
    """Whether cameras and sprites that stand still are rare: one in ten of each."""

    def draw(self, draws: Draws, count: int) -> dict[str, Tensor]:
        """Draws the amount of every fault in each scene, (count,) float32.

        All levels use the same draws, so a clip shows the same scene at every level but `easy`, which draws nothing.
        """
        if not self.moving:
            return {name: torch.zeros(count, device=draws.device) for name in FAULTS}
        return {name: self._amount(name, draws, count) for name in FAULTS}

    def _amount(self, name: str, draws: Draws, count: int) -> Tensor:
        fault = self.faults.get(name, Fault(share=0.0))
        there, strength = draws.chance((count,), fault.share), draws.uniform((count,), 0, 1)
        return there * (fault.least + strength * (fault.most - fault.least))


_LEVELS = (
    Level(
        "easy",
        "Rigid layers under a faint light; one camera in seven and one sprite in five stand still.",
        moving=False,
    ),
    Level("clean", "As easy, but nearly everything moves; the other levels add faults to these scenes."),
    Level("drift", "Gain and colour of every layer drift.", {"drift": Fault(least=0.02, most=0.04)}),
    Level("noise", "Sensor noise, new in every frame.", {"noise": Fault(least=12, most=24)}),
    Level("blur", "The focus comes and goes.", {"blur": Fault(least=1.5, most=3)}),
    Level("warp", "Layers bend like cloth.", {"warp": Fault(least=0.25, most=0.5)}),
    Level("flicker", "A second texture flickers on every layer.", {"flicker": Fault(least=0.08, most=0.16)}),
    Level("repeat", "Textures repeat every few pixels.", {"repeat": Fault(least=0.8, most=0.95)}),
    Level("twins", "Sprites come in identical pairs.", {"twins": Fault()}),
    Level("fast", "Sprites move by more than eight tokens of 8 pixels.", {"fast": Fault()}),
    Level("vanish", "A curtain passes and hides nearly every point for some frames.", {"vanish": Fault()}),
    Level("lights", "Coloured lights and shadows move over the scene.", {"lights": Fault(least=0.4, most=0.8)}),
    Level(
        "hard",
        "All faults, several at a time.",
        {
            "drift": Fault(0.8, 0.01, 0.04),
            "noise": Fault(0.8, 6, 20),
            "blur": Fault(0.4, 0.8, 2),
            "warp": Fault(0.6, 0.15, 0.4),
            "flicker": Fault(0.4, 0.05, 0.14),
            "repeat": Fault(0.3, 0.6, 0.9),
            "twins": Fault(0.3),
            "fast": Fault(0.3),
            "vanish": Fault(0.4),
            "lights": Fault(0.6, 0.2, 0.7),
        },
    ),
)
LEVELS = {level.name: level for level in _LEVELS}
"""All levels by name."""
EASY = LEVELS["easy"]
