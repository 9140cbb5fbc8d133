"""Holds the dataset `sprites`, and the base of `photos`: videos with exact tracks, rendered on the CPU on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcorr import Clip, DatasetBase, Queries, Tracks, UsageError, option, query_grid, unknown_name
from vcorr_tiny.sprites.level_names import EASY, LEVEL_NAMES, LevelName
from vcorr_tiny.sprites.split_names import SPLITS, SplitName

if TYPE_CHECKING:
    from vcorr_tiny.sprites.pictures import Pictures
    from vcorr_tiny.sprites.scenes import Scenes

FPS = 8.0
CANDIDATES = 4
"""Candidates for query points along one side, per point of the grid."""


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Options of all datasets of rendered scenes."""

    split: SplitName = option(
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
    size: int = option(128, "Side of the square videos.", unit="pixels", least=16, most=1024)
    frames: int = option(17, "Frames per clip.", unit="frames", least=1, most=1024)
    level: LevelName = option(
        EASY,
        "Level of difficulty: hard has all faults, the others one each, clean none. At all but easy, half of the query "
        "points lie on sprites.",
        later=True,
    )


@dataclass(frozen=True, kw_only=True)
class SpritesConfig(SceneConfig):
    """Options of `sprites`."""

    grid: int = option(
        20, "Query points along one side of the regular grid in frame 0.", unit="points", least=1, most=1024
    )


_RANGES = (("clips", 1, 100_000), ("grid", 1, 1024), ("size", 16, 1024), ("frames", 1, 1024), ("points", 1, 4096))
"""Least and largest value of the numbers, where a dataset has them; the options say the same to the command line."""


Config = TypeVar("Config", bound=SceneConfig)


class RenderedScenes(DatasetBase, Generic[Config]):
    """Base of datasets of rendered scenes: sprites move and occlude each other in front of a moving background.

    Attributes: name, of the dataset; split; returns, whether layers go and come back, as in `Scenes`; sprites, the
    largest number of sprites.

    Raises:
        UsageError: an option is out of range.
    """

    name: ClassVar[str]
    returns: ClassVar[bool] = False
    sprites: ClassVar[int] = 4

    def __init__(self, config: Config) -> None:
        if config.split not in SPLITS:
            raise unknown_name(f"split of {self.name}", config.split, SPLITS)
        if config.level not in LEVEL_NAMES:
            raise unknown_name(f"level of {self.name}", config.level, LEVEL_NAMES)
        for name, least, most in _RANGES:
            if not least <= getattr(config, name, least) <= most:
                raise UsageError(f"data.{name} must be from {least} to {most}, got {getattr(config, name)}.")
        self.config = config
        self.split = config.split

    def pictures(self) -> Pictures | None:
        """Returns the photographs from which textures are cut; by default None, for drawn textures."""
        return None

    def ids(self) -> Sequence[str]:
        """Returns the ids, counted from "<split>-0000"."""
        return tuple(f"{self.split}-{index:04d}" for index in range(self.config.clips))

    def track(self, clip_id: str, queries: Queries) -> Tracks:
        """Returns the exact tracks of any queries, with their layers.

        Raises:
            UsageError: there is no such clip, or a query is in a frame that it does not have.
        """
        drawn, frames = self._scene(clip_id), self.config.frames
        late = queries.t[queries.t >= frames]
        if len(late):
            raise UsageError(f"Clip {clip_id} has {frames} frames, counted from 0; a query is in frame {late[0]}.")
        return find_tracks(drawn, queries)

    def masks(self, clip_id: str) -> NDArray[np.uint8]:
        """Returns the layer of every pixel, (T, H, W), at every level; each layer in front is an object.

        Raises:
            UsageError: there is no such clip.
        """
        layers: NDArray[np.uint8] = self._scene(clip_id).layer_map()[0].numpy()
        return layers

    def _scene(self, clip_id: str) -> Scenes:
        """Draws the scene of a clip.

        Raises:
            UsageError: there is no such clip.
        """
        if clip_id not in self.ids():
            raise UsageError(
                f"{self.name} has no clip {clip_id!r}.", hint=f"Its ids run from {self.ids()[0]} to {self.ids()[-1]}."
            )
        from vcorr_tiny.sprites.clips import scene

        config, index = self.config, int(clip_id.rsplit("-", 1)[1])
        return scene(
            config.split,
            index,
            config.size,
            config.frames,
            self.sprites,
            config.level,
            self.pictures(),
            self.returns,
        )


class SceneDataset(RenderedScenes[SpritesConfig]):
    """Clips that go one way, with query points in frame 0. Attributes and errors as in `RenderedScenes`."""

    def clip(self, clip_id: str) -> Clip:
        """Renders the clip. All levels but easy know the layers of points and pixels.

        Raises:
            UsageError: there is no such clip.
        """
        from vcorr_tiny.sprites.clips import frames_of

        drawn, config = self._scene(clip_id), self.config
        queries = query_grid(config.grid, config.size, config.size)
        if config.level != EASY:
            queries = _choose_queries(drawn, config.grid)
        tracks = find_tracks(drawn, Queries.at(queries))
        # with layers, the clips of easy would have another content hash than before there were any
        known = config.level != EASY
        return Clip(
            id=clip_id,
            prompt=drawn.captions()[0],
            queries=queries,
            video=frames_of(drawn).numpy(),
            tracks=tracks if known else replace(tracks, layer=None),
            fps=FPS,
            layers=drawn.layer_map()[0].numpy() if known else None,
        )


def find_boundaries(drawn: Scenes, queries: Queries) -> NDArray[np.float32]:
    """Returns the distance (N,) in pixels from each query to the nearest visible outline in its frame."""
    import torch

    points, boundary = torch.from_numpy(queries.xy), np.zeros(len(queries), np.float32)
    for frame, chosen in queries.by_frame():
        boundary[chosen] = drawn.boundary_distances(points[chosen], frame)[0].numpy()
    return boundary


def find_tracks(drawn: Scenes, queries: Queries, *, boundary: bool = True) -> Tracks:
    """Returns the exact tracks of queries in a single scene; boundary: whether with their distances to outlines."""
    import torch

    found = drawn.tracks(torch.from_numpy(queries.xy), torch.from_numpy(queries.t).long())
    return Tracks(
        found.xy[0].numpy(),
        found.visible[0].numpy(),
        tracker="exact",
        boundary=find_boundaries(drawn, queries) if boundary else None,
        query_frame=queries.t,
        layer=found.layer[0].to(torch.int32).numpy(),
    )


class Sprites(SceneDataset):
    """Clips of sprites with drawn textures."""

    name = "sprites"


def _choose_queries(drawn: Scenes, side: int) -> NDArray[np.float32]:
    """Returns side x side query points (x, y) of frame 0, half of them on sprites, the rest on the background.

    Both halves are taken evenly from the points of a grid four times as dense. If a part of the image has too few of
    them, it gives all it has, and the other part the rest.
    """
    import torch

    candidates = query_grid(CANDIDATES * side, drawn.size, drawn.size)
    on_sprite = drawn.layers.layers_at(torch.from_numpy(candidates))[0].numpy() > 0
    front, back = np.flatnonzero(on_sprite), np.flatnonzero(~on_sprite)
    wanted = side * side
    share = min(max(wanted // 2, wanted - len(back)), len(front))
    chosen = np.sort(np.concatenate([take_evenly(front, share), take_evenly(back, wanted - share)]))
    return np.asarray(candidates[chosen], np.float32)


def take_evenly(values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Returns ``count`` of the values, at even steps."""
    return values[((np.arange(count) + 0.5) * len(values) / max(count, 1)).astype(np.int64)]
