"""Holds the dataset `sprites`: procedural videos with exact tracks and visibility, rendered on the CPU on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vcorr import Clip, DatasetBase, Tracks, UsageError, option, query_grid, unknown_name

SPLITS = ("train", "validation", "test")
FPS = 8.0


@dataclass(frozen=True, kw_only=True)
class SpritesConfig:
    """Options of `sprites`."""

    split: Literal["train", "validation", "test"] = option(
        "test",
        "No two splits share a seed, and the embedded model was trained on train only.",
    )
    clips: int = option(
        64,
        "Number of clips, for instance 64 for test-0000 to test-0063; a clip does not depend on this number.",
        unit="clips",
        least=1,
        most=100_000,
    )
    grid: int = option(
        20, "Query points along one side of the regular grid in frame 0.", unit="points", least=1, most=1024
    )
    size: int = option(128, "Side of the square videos.", unit="pixels")
    frames: int = option(17, "Frames per clip.", unit="frames", least=1)


class Sprites(DatasetBase):
    """Clips of textured sprites that move and occlude each other in front of a moving background.

    Raises:
        UsageError: an option is out of range.
    """

    def __init__(self, config: SpritesConfig) -> None:
        if config.split not in SPLITS:
            raise unknown_name("split of sprites", config.split, SPLITS)
        for name, least in (("clips", 1), ("grid", 1), ("size", 16), ("frames", 1)):
            if getattr(config, name) < least:
                raise UsageError(f"data.{name} must be at least {least}, got {getattr(config, name)}.")
        self.config = config
        self.split = config.split

    def ids(self) -> Sequence[str]:
        """Returns the ids, counted from "<split>-0000"."""
        return tuple(f"{self.split}-{index:04d}" for index in range(self.config.clips))

    def clip(self, clip_id: str) -> Clip:
        """Renders the clip.

        Raises:
            UsageError: there is no such clip.
        """
        if clip_id not in self.ids():
            raise UsageError(
                f"sprites has no clip {clip_id!r}.", hint=f"Its ids run from {self.ids()[0]} to {self.ids()[-1]}."
            )
        import torch

        from vcorr_tiny.sprites.clips import frames_of, scene

        config = self.config
        drawn = scene(config.split, int(clip_id.rsplit("-", 1)[1]), config.size, config.frames)
        queries = query_grid(config.grid, config.size, config.size)
        points = torch.from_numpy(queries)
        tracks = drawn.tracks(points)
        return Clip(
            id=clip_id,
            prompt=drawn.captions()[0],
            queries=queries,
            video=frames_of(drawn).numpy(),
            tracks=Tracks(
                tracks.xy[0].numpy(),
                tracks.visible[0].numpy(),
                tracker="exact",
                boundary=drawn.boundary_distances(points)[0].numpy(),
            ),
            fps=FPS,
        )
