"""The records of points in a video: queries, and the tracks that follow them.

Shapes: N query points, T video frames. Positions are (x, y) raster pixels (docs/conventions.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError

QueryMode = Literal["frame", "first", "strided"]


def check_arrays(where: str, **values: Any) -> None:
    """Raises UsageError if one of the values, by name, is not a plain numpy array; `where` begins the message."""
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            raise UsageError(f"{where}: {name} must be a numpy array, got {type(value).__name__}.")
        if isinstance(value, np.ma.MaskedArray | np.matrix):  # the mask would be lost; a matrix never has one axis
            raise UsageError(f"{where}: {name} must be a plain numpy array, got {type(value).__name__}.")


@dataclass(frozen=True, eq=False)
class Queries:
    """N query points, each in a frame of its own.

    t: (N,) int32, the video frame of each point, from 0.
    xy: (N, 2) float32, the point in that frame in raster pixels (x, y).

    Other number types are converted, if every t is a whole number. Two sets are equal if all their numbers are equal.

    Raises:
        UsageError: a shape or a type does not fit, a position is not finite, or a frame is negative or no whole number.
    """

    t: NDArray[np.int32]
    xy: NDArray[np.float32]

    def __post_init__(self) -> None:
        check_arrays("Queries", t=self.t, xy=self.xy)
        _check_points("queries", self.xy)
        if self.t.shape != self.xy.shape[:1]:
            raise UsageError(f"queries must have one frame each: t has shape {self.t.shape}, xy {self.xy.shape}.")
        object.__setattr__(self, "t", _whole_frames(self.t))
        object.__setattr__(self, "xy", np.asarray(self.xy, dtype=np.float32))

    @classmethod
    def at(cls, xy: NDArray[Any], frame: int = 0) -> Queries:
        """Returns queries for points (N, 2) pixels (x, y) that are all in video frame `frame`."""
        return cls(np.full(len(xy), frame, dtype=np.int32), xy)

    @classmethod
    def of(cls, points: Queries | NDArray[Any]) -> Queries:
        """Returns queries from an array: (N, 2) pixels (x, y) in frame 0, or (N, 3) as (t, x, y).

        `Queries` are returned as they are.

        Raises:
            UsageError: the array has another shape or type, or a point is not finite or not in a frame.
        """
        if isinstance(points, Queries):
            return points
        if not isinstance(points, np.ndarray):
            raise UsageError(f"queries must be a numpy array, got {type(points).__name__}.")
        _check_points("queries", points, widths=(2, 3))
        return cls(points[:, 0], points[:, 1:]) if points.shape[1] == 3 else cls.at(points)

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, chosen: NDArray[Any] | slice) -> Queries:
        """Returns the queries with these indices, or where a mask (N,) is True."""
        return Queries(self.t[chosen], self.xy[chosen])

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Queries) and np.array_equal(self.t, other.t) and np.array_equal(self.xy, other.xy)
        return bool(same)

    __hash__ = None  # type: ignore[assignment]  # the arrays are mutable

    def by_frame(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yields each frame that has queries, in ascending order, with the indices of its queries."""
        for frame in np.unique(self.t):
            yield int(frame), np.flatnonzero(self.t == frame)


def _check_points(name: str, points: NDArray[Any], widths: tuple[int, ...] = (2,)) -> None:
    if points.ndim != 2 or points.shape[1] not in widths:
        wanted = " or ".join(f"(N, {width})" for width in widths)
        raise UsageError(f"{name} must have shape {wanted}, got {points.shape}.")
    if points.dtype.kind not in "fiu":
        raise UsageError(f"{name} must be finite numbers, got {points.dtype}.")
    wrong = int((~np.isfinite(points)).any(axis=1).sum())
    if wrong:
        raise UsageError(f"{name} must be finite numbers, got NaN or infinity for {wrong} of {len(points)}.")


def _whole_frames(t: NDArray[Any]) -> NDArray[np.int32]:
    if t.dtype.kind not in "fiu" or (t != np.floor(t)).any() or (t < 0).any():
        raise UsageError(f"frames of queries must be whole numbers of at least 0, got {t.dtype} {t[:3].tolist()}.")
    return np.asarray(t, dtype=np.int32)


NO_QUERIES = Queries.at(np.zeros((0, 2), np.float32))
"""The queries of a clip in which no point is followed."""

UNKNOWN_LAYER = -1
"""The layer of a point whose layer is not known."""


@dataclass(frozen=True)
class Tracks:
    """The positions of N query points in all T video frames.

    Args:
        xy: (N, T, 2) float32 pixels (x, y). In a query's own frame, the query itself.
        visible: (N, T) bool, True where the point can be seen.
        tracker: name of the tracker; "exact" for tracks that are known by construction.
        version: version of the tracker.
        licence: licence of a dataset's tracks. For tracks from a tracker of the run, its entry says the licence.
        boundary: (N,) float32, distance in pixels from the point to the nearest boundary between layers (object,
            background) in the query's frame. NaN where it is not known, infinite where there is no boundary; None if it
            is known for no point.
        layer: (N,) int32, the layer of each point in the query's frame: 0 the background, k > 0 the k-th thing in front
            of it, counted from the back, -1 where it is not known; None if it is known for no point.
        confidence: (N, T) float32 in [0, 1], how sure the tracker is; None if it does not say.
        query_frame: (N,) int, the frame of each point's query, which metrics need; None if all queries are in frame 0.
            Trackers and datasets may leave it out: the score stage sets it from the clip's queries.
        query_mode: how the frames of the queries were chosen, as in `Clip`; set by the score stage as well.

    Raises:
        UsageError: a shape, a type or a value does not fit; the message names the field.
    """

    xy: NDArray[np.float32]
    visible: NDArray[np.bool_]
    tracker: str
    version: int = 1
    licence: str = ""
    boundary: NDArray[np.float32] | None = None
    confidence: NDArray[np.float32] | None = None
    query_frame: NDArray[np.int32] | None = None
    layer: NDArray[np.int32] | None = None
    query_mode: QueryMode = "frame"

    def __post_init__(self) -> None:
        check_arrays("Tracks", xy=self.xy, visible=self.visible)
        if self.xy.ndim != 3 or self.xy.shape[-1] != 2:
            raise UsageError(f"Tracks: xy must have shape (N, T, 2), got {self.xy.shape}.")
        if self.xy.dtype.kind not in "fiu":
            raise UsageError(f"Tracks: xy must be float32, got {self.xy.dtype}.")
        if self.visible.shape != self.xy.shape[:2] or self.visible.dtype != np.bool_:
            raise UsageError(
                f"Tracks: visible must be bool of shape {self.xy.shape[:2]}, got {self.visible.dtype} "
                f"{self.visible.shape}."
            )
        if not np.isfinite(self.xy[self.visible]).all():
            raise UsageError("Tracks: xy is NaN or infinite at a visible point.")
        if self.boundary is not None and self.boundary.shape != self.xy.shape[:1]:
            raise UsageError(f"Tracks: boundary must have shape {self.xy.shape[:1]}, got {self.boundary.shape}.")
        if self.boundary is not None and (self.boundary < 0).any():
            raise UsageError("Tracks: boundary is a distance and cannot be negative.")
        _check_confidence("Tracks", self.confidence, self.xy.shape[:2])
        self._check_whole("query_frame", self.query_frame)
        self._check_whole("layer", self.layer)
        frames = self.query_frame
        if frames is not None and ((frames < 0) | (frames >= self.xy.shape[1])).any():
            raise UsageError(f"Tracks: query_frame names a frame that the {self.xy.shape[1]} frames do not have.")
        if self.layer is not None and (self.layer < UNKNOWN_LAYER).any():
            raise UsageError(
                f"Tracks: layer is {self.layer.min()} for a point; layers count from 0, and {UNKNOWN_LAYER} means that "
                "it is not known."
            )
        if self.query_mode not in get_args(QueryMode):
            raise UsageError(f"Tracks: query_mode must be one of {get_args(QueryMode)}, got {self.query_mode!r}.")

    def _check_whole(self, name: str, values: Any) -> None:
        """Checks that there is one whole number for each point."""
        if values is None:
            return
        check_arrays("Tracks", **{name: values})
        if values.shape != self.xy.shape[:1] or values.dtype.kind not in "iu":
            raise UsageError(
                f"Tracks: {name} must be int32 of shape {self.xy.shape[:1]}, got {values.dtype} {values.shape}."
            )

    @property
    def asked_in(self) -> NDArray[np.int64]:
        """The frame of each point's query, (N,)."""
        known = np.zeros(len(self.xy), np.int64) if self.query_frame is None else self.query_frame
        return known.astype(np.int64)


def _check_confidence(where: str, confidence: NDArray[np.float32] | None, shape: tuple[int, ...]) -> None:
    if confidence is None:
        return
    if confidence.shape != shape or confidence.dtype.kind != "f":
        raise UsageError(
            f"{where}: confidence must be float32 of shape {shape}, got {confidence.dtype} {confidence.shape}."
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise UsageError(f"{where}: confidence must be in [0, 1].")
