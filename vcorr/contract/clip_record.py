"""The record of one item of a dataset: a video or a prompt, with its query points.

Shapes: N query points, T video frames of H x W pixels. Positions are (x, y) raster pixels (docs/conventions.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.part_calls import show_value
from vcorr.contract.point_records import Queries, QueryMode, Tracks, check_arrays

InputClass = Literal["", "256", "full"]
DEFAULT_FPS = 8.0


@dataclass(frozen=True)
class Clip:
    """One item of a dataset: a video or a prompt, query points and, if known, their tracks.

    Args:
        id: unique within the dataset.
        prompt: text for models that read a prompt.
        queries: the points to follow. An array is converted: (N, 2) float32 pixels (x, y) in frame 0, or (N, 3) as
            (t, x, y), pixels in frame t.
        video: (T, H, W, 3) uint8 RGB; None if the clip is a prompt alone.
        tracks: reference tracks of the queries in the video; None if there are none.
        fps: frames per second of the video; 0 if they are not known.
        query_side: for a clip without a video and with empty queries, the number of points along one side of a regular
            grid; the grid is laid over frame 0 of the generated video. 0 if the queries are given.
        query_mode: how the frames of the queries were chosen: "frame", by the dataset; "first", the first frame in
            which the point is visible; "strided", every fifth frame in which it is visible.
        input_class: for benchmarks that tell sizes apart, "256" for frames of at most 256x256 pixels and "full" for
            larger ones; else "".
        layers: (T, H, W) uint8, the index of the topmost layer at each pixel centre of the video: 0 the background,
            k > 0 the k-th thing from the back, as in `Tracks.layer`; None if it is not known.
        stills: whether a model reads each frame of `video` by itself, as an image: every frame then has a latent frame
            of its own. The grid of such a clip has T latent frames. Trackers make such clips (docs/tracking.md).

    Raises:
        UsageError: a field contradicts itself or another; the message names the clip and the field.
    """

    id: str
    prompt: str
    queries: Queries
    video: NDArray[np.uint8] | None = None
    tracks: Tracks | None = None
    fps: float = DEFAULT_FPS
    query_side: int = 0
    query_mode: QueryMode = "frame"
    input_class: InputClass = ""
    layers: NDArray[np.uint8] | None = None
    stills: bool = False

    if TYPE_CHECKING:  # `queries` takes more types than the attribute has after conversion

        def __init__(
            self,
            id: str,  # noqa: A002
            prompt: str,
            queries: Queries | NDArray[Any],
            video: NDArray[np.uint8] | None = None,
            tracks: Tracks | None = None,
            fps: float = DEFAULT_FPS,
            query_side: int = 0,
            query_mode: QueryMode = "frame",
            input_class: InputClass = "",
            layers: NDArray[np.uint8] | None = None,
            stills: bool = False,
        ) -> None: ...

    def __post_init__(self) -> None:
        self._check_plain()
        object.__setattr__(self, "queries", self._convert(self.queries))
        if self.query_side < 0 or (self.query_side and len(self.queries)):
            raise UsageError(f"Clip {self.id}: query_side is for clips without queries, and at least 0.")
        for name, known in (("query_mode", get_args(QueryMode)), ("input_class", get_args(InputClass))):
            if getattr(self, name) not in known:
                raise UsageError(f"Clip {self.id}: {name} must be one of {known}, got {getattr(self, name)!r}.")
        if self.video is not None:
            self._check_video(self.video)
        if self.layers is not None:
            self._check_layers(self.layers)

    @property
    def playback_fps(self) -> float:
        """Frames per second at which files of the clip's videos play: `fps`, or 8 if it is not known."""
        return self.fps or DEFAULT_FPS

    def _check_plain(self) -> None:
        for name in ("id", "prompt"):
            if not isinstance(getattr(self, name), str):
                raise UsageError(f"Clip: {name} must be a text, got {show_value(getattr(self, name))}.")
        if any("\ud800" <= letter <= "\udfff" for letter in self.prompt):
            raise UsageError(f"Clip: prompt holds half a character, which is no text: {show_value(self.prompt)}.")
        fps: Any = self.fps
        if not (isinstance(fps, Real) and 0 <= float(fps) < math.inf):
            raise UsageError(f"Clip {self.id}: fps must be a number of at least 0, got {show_value(self.fps)}.")

    def _convert(self, queries: Any) -> Queries:
        try:
            return Queries.of(queries)
        except UsageError as error:
            raise UsageError(f"Clip {self.id}: {error.message}", hint=error.hint) from error

    def _check_video(self, video: Any) -> None:
        check_arrays(f"Clip {self.id}", video=video)
        if video.ndim != 4 or video.shape[3] != 3 or video.dtype != np.uint8:
            raise UsageError(
                f"Clip {self.id}: video must be uint8 of shape (T, H, W, 3), got {video.dtype} {video.shape}."
            )
        late = self.queries.t[self.queries.t >= len(video)]
        if len(late):
            raise UsageError(
                f"Clip {self.id}: queries must be in a frame of the video; it has {len(video)}, counted from 0, and "
                f"{len(late)} queries are later, the first in frame {late[0]}."
            )
        expected = (len(self.queries), len(video), 2)
        if self.tracks is not None and self.tracks.xy.shape != expected:
            raise UsageError(
                f"Clip {self.id}: tracks have shape {self.tracks.xy.shape}; {expected[0]} queries and "
                f"{expected[1]} frames need {expected}."
            )

    def _check_layers(self, layers: Any) -> None:
        check_arrays(f"Clip {self.id}", layers=layers)
        if layers.ndim != 3 or layers.dtype != np.uint8:
            raise UsageError(
                f"Clip {self.id}: layers must be uint8 of shape (T, H, W), got {layers.dtype} {layers.shape}."
            )
        if self.video is not None and layers.shape != self.video.shape[:3]:
            raise UsageError(
                f"Clip {self.id}: layers must have the frames and size of the video, {self.video.shape[:3]}, got "
                f"{layers.shape}."
            )

    def with_video(self, video: NDArray[np.uint8] | None) -> Clip:
        """Returns the clip with another video, or with none; without tracks and layers, which the old video had."""
        return replace(self, video=video, tracks=None, layers=None)

    def with_queries(self, queries: Queries | NDArray[Any]) -> Clip:
        """Returns the clip with other query points and no tracks; `queries` as in the class."""
        return replace(self, queries=Queries.of(queries), tracks=None, query_side=0, query_mode="frame")
