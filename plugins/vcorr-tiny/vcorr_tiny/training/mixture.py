"""Mixes the levels and textures of the training videos.

A chunk of videos has one level and one kind of texture, both drawn from the chunk's seed. Pictures come from a file
that must hold none of the test split; whoever writes the file answers for that.
"""

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vcorr_tiny.networks import TinyConfig
from vcorr_tiny.sprites.levels import LEVELS
from vcorr_tiny.sprites.pictures import Pictures
from vcorr_tiny.sprites.scenes import Scenes

PLAIN = 0.3
"""Share of the training videos without faults, half of them ``easy`` and half ``clean``."""
HARD = 3 / 7
"""Share of ``hard`` among the others, 0.3 of all; the other levels share the rest equally."""
PICTURE_SHARE = 0.5
"""Share of the chunks with pictures for textures, if there are pictures."""
NOISE_FOR_AUTOENCODER = 0.25
"""Factor on the share of ``noise`` while the autoencoder is trained.

Independent noise cannot be compressed: the best reconstruction is without it, and what is left only disturbs the
gradient. A few such videos are enough to learn that.
"""


def dit_shares(plain: float = PLAIN) -> dict[str, float]:
    """Returns the share of each level in the videos of the transformer; the sum is 1.

    plain: share of the levels ``easy`` and ``clean`` together, in [0, 1].
    """
    fixed = {"easy": plain / 2, "clean": plain / 2, "hard": (1 - plain) * HARD}
    others = [name for name in LEVELS if name not in fixed]
    rest = (1 - sum(fixed.values())) / len(others)
    return fixed | dict.fromkeys(others, rest)


def vae_shares() -> dict[str, float]:
    """Returns the share of each level in the videos of the autoencoder; the sum is 1."""
    shares = dit_shares()
    shares["noise"] *= NOISE_FOR_AUTOENCODER
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


@dataclass(frozen=True)
class Mixture:
    """A mixture of levels, by their shares, and of pictures with drawn textures."""

    config: TinyConfig
    shares: dict[str, float] = field(default_factory=dit_shares)
    pictures: Pictures | None = None

    def scenes(self, count: int, generator: torch.Generator) -> Scenes:
        """Draws ``count`` scenes of one level and one kind of texture."""
        return self._draw(count, generator, random.Random(generator.initial_seed()))

    def videos(self, count: int, generator: torch.Generator, chunks: int) -> Tensor:
        """Renders ``count`` videos (n, 3, T, S, S) in ``chunks`` chunks, each with a level and texture of its own."""
        # Python's numbers decide about levels: a draw from a GPU's generator would wait for the device.
        choices = random.Random(generator.initial_seed())
        sizes = [len(part) for part in torch.arange(count).tensor_split(min(chunks, count))]
        return torch.cat([self._draw(size, generator, choices).render() for size in sizes])

    def _draw(self, count: int, generator: torch.Generator, choices: random.Random) -> Scenes:
        (level,) = choices.choices(list(self.shares), list(self.shares.values()))
        pictured = choices.random() < PICTURE_SHARE
        return Scenes(
            count,
            generator,
            self.config.size,
            self.config.frames,
            level=LEVELS[level],
            pictures=self.pictures if pictured else None,
        )
