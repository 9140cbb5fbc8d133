"""Holds the datasets `sprites-tap` and `photos-tap`: longer clips in the form of TAP-Vid, with exact tracks.

Layers go and come back, so points are hidden and seen again, and leave the frame and return. Half of the points that
are asked for are such points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vcorr import Clip, Queries, Tracks, choose_tap_queries, option, query_grid
from vcorr_tiny.dataset import FPS, RenderedScenes, SceneConfig, find_boundaries, find_tracks, take_evenly
from vcorr_tiny.photo_scenes import PhotoTextures
from vcorr_tiny.sprites.level_names import EASY, HARD, LevelName
from vcorr_tiny.sprites.split_names import SplitName

if TYPE_CHECKING:
    from vcorr_tiny.sprites.scenes import Scenes

FRAMES_ASKED = 6
"""Frames, evenly over the clip, in which candidates for points are laid out."""
CANDIDATES = 24
"""Candidates along one side of the frame, in each of these frames."""
LEAST_SEEN = 3
"""Frames in which a point must be visible: the frame of its query, and some to be scored in."""


@dataclass(frozen=True, kw_only=True)
class SpritesTapConfig(SceneConfig):
    """Options of `sprites-tap`."""

    clips: int = option(
        32,
        "Number of clips, for instance 32 for test-0000 to test-0031; a clip does not depend on this number.",
        unit="clips",
        least=1,
        most=100_000,
    )
    frames: int = option(48, "Frames per clip.", unit="frames", least=2, most=1024)
    level: LevelName = option(
        EASY,
        "Level of difficulty, as in sprites: hard has all faults, the others one each, clean and easy none.",
    )
    points: int = option(
        64, "Points that are asked for, if the clip has as many that can be.", unit="points", least=1, most=4096
    )
    queries: Literal["first", "strided"] = option(
        "first",
        'Where each point is asked for: "first" in the first frame in which it is visible, "strided" in every fifth '
        "frame in which it is.",
    )


@dataclass(frozen=True, kw_only=True)
class PhotosTapConfig(SpritesTapConfig):
    """Options of `photos-tap`."""

    split: SplitName = option(
        "test",
        "No two splits share a photograph or a seed. The embedded model was trained on neither validation nor test.",
    )
    level: LevelName = option(
        HARD,
        "Level of difficulty, as in sprites: hard has all faults, the others one each, clean and easy none.",
    )


class TapScenes(RenderedScenes[SpritesTapConfig]):
    """Clips in which layers go and come back, and points that are hidden and seen again.

    Raises:
        UsageError: an option is out of range.
    """

    returns = True
    sprites = 5

    def clip(self, clip_id: str) -> Clip:
        """Renders the clip, with the layers of points and pixels.

        Raises:
            UsageError: there is no such clip.
        """
        from vcorr_tiny.sprites.clips import frames_of

        drawn = self._scene(clip_id)
        asked = choose_tap_queries(_choose_tracks(drawn, self.config.points), self.config.queries)
        return Clip(
            id=clip_id,
            prompt="",
            queries=asked.queries,
            video=frames_of(drawn).numpy(),
            tracks=replace(asked.tracks, boundary=find_boundaries(drawn, asked.queries)),
            fps=FPS,
            query_mode=self.config.queries,
            input_class="256" if self.config.size <= 256 else "full",
            layers=drawn.layer_map()[0].numpy(),
        )


class SpritesTap(TapScenes):
    """Clips of sprites with drawn textures."""

    name = "sprites-tap"


class PhotosTap(PhotoTextures, TapScenes):
    """Clips of moving photographs that occlude each other."""

    name = "photos-tap"


def _choose_tracks(drawn: Scenes, count: int) -> Tracks:
    """Returns the tracks of `count` points of the background and the sprites, half of which are hidden and return.

    Of both halves, half lie on sprites. If a part has too few points, the other parts give more; if all have, there are
    fewer points.
    """
    tracks = find_tracks(drawn, _lay_candidates(drawn), boundary=False)
    usable = tracks.visible.sum(axis=1) >= LEAST_SEEN
    layer = np.asarray(tracks.layer)  # known for every point of a drawn scene
    usable &= layer <= drawn.sprites  # the curtain is there for some frames only
    back, front = find_returns(tracks.visible), layer > 0
    parts = [np.flatnonzero(usable & (back == a) & (front == b)) for a in (True, False) for b in (True, False)]
    chosen = np.sort(np.concatenate(_share_out(parts, count)))
    return replace(
        tracks,
        xy=tracks.xy[chosen],
        visible=tracks.visible[chosen],
        layer=layer[chosen],
        query_frame=None,
    )


def _lay_candidates(drawn: Scenes) -> Queries:
    """Returns the points of a regular grid in some frames."""
    grid = query_grid(CANDIDATES, drawn.size, drawn.size)
    frames = np.arange(FRAMES_ASKED) * drawn.frames // FRAMES_ASKED
    return Queries(np.repeat(frames, len(grid)).astype(np.int32), np.tile(grid, (FRAMES_ASKED, 1)))


def find_returns(visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns which points (N,) are hidden between two frames in which they are visible; `visible` is (N, T)."""
    seen = np.maximum.accumulate(visible, axis=1)
    later = np.maximum.accumulate(visible[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((seen & later & ~visible).any(axis=1))


def _share_out(parts: list[NDArray[np.int64]], count: int) -> list[NDArray[np.int64]]:
    """Returns `count` values of all parts, as evenly from each as their sizes allow, and evenly over each."""
    chosen, left = [], count
    for number, part in enumerate(sorted(parts, key=len)):
        share = min(len(part), left // (len(parts) - number))
        chosen.append(take_evenly(part, share))
        left -= share
    return chosen
