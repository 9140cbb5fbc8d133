"""One clip of a dataset folder as a record, its hashes, and the rules for valid rows.

Arrays: N query points, T video frames; positions are (x, y) raster pixels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import UNKNOWN_LAYER, InputClass, QueryMode, Tracks, is_random

OK, REJECTED, FAILED = "ok", "rejected", "failed"
STATUSES = (OK, REJECTED, FAILED)

RANDOM_NOTE = "The weights were random: these videos show nothing, and are for trying things out."

_HASHED = ("queries", "xy", "visible")


def _no_points() -> NDArray[np.float32]:
    return np.zeros((0, 2), dtype=np.float32)


def _no_numbers() -> NDArray[np.int32]:
    return np.zeros(0, dtype=np.int32)


def _no_tracks() -> NDArray[np.float32]:
    return np.zeros((0, 0, 2), dtype=np.float32)


def _no_visibility() -> NDArray[np.bool_]:
    return np.zeros((0, 0), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipRow:
    """One clip of a dataset folder.

    status: "ok", "rejected" by the filters, or "failed" while it was made; `reason` says why. frames, height, width:
    size of the video that the tracks belong to. queries: (N, 2) pixels, each in its frame of query_frames (N,), which
    are 0 where none are given. query_mode, input_class: as in `vcorr.Clip`. xy: (N, T, 2) pixels. visible: (N, T), true
    where the point can be seen. point_layers: (N,) as `vcorr.Tracks.layer`, or (0,) if no layer is known. N is 0 for a
    clip without tracks. query_side: query points along one side of their regular grid, row by row; 0 for other points.
    video, image, layers: paths of files in the folder, "" for none. video_sha256: `vcorr.data.video.video_hash` of the
    frames that the tracks were made on. file_sha256: SHA-256 of the video's file. layers_sha256:
    `vcorr.data.video.layers_hash` of the layer map. moving_share, visible_share: shares that the filters compared with
    their thresholds, else NaN.
    """

    dataset: str
    split: str
    clip: str
    prompt: str
    model: str
    weights: str = ""
    seed: int = 0
    num_steps: int = 0
    frames: int = 0
    height: int = 0
    width: int = 0
    fps: float = 8.0
    status: str = OK
    reason: str = ""
    query_side: int = 0
    queries: NDArray[np.float32] = dataclasses.field(default_factory=_no_points)
    query_frames: NDArray[np.int32] = dataclasses.field(default_factory=_no_numbers)
    query_mode: QueryMode = "frame"
    input_class: InputClass = ""
    xy: NDArray[np.float32] = dataclasses.field(default_factory=_no_tracks)
    visible: NDArray[np.bool_] = dataclasses.field(default_factory=_no_visibility)
    point_layers: NDArray[np.int32] = dataclasses.field(default_factory=_no_numbers)
    tracker: str = ""
    tracker_version: int = 0
    tracker_licence: str = ""
    video: str = ""
    video_sha256: str = ""
    file_sha256: str = ""
    layers: str = ""
    layers_sha256: str = ""
    image: str = ""
    image_sha256: str = ""
    moving_share: float = float("nan")
    visible_share: float = float("nan")

    def __post_init__(self) -> None:
        if not len(self.query_frames):
            object.__setattr__(self, "query_frames", np.zeros(len(self.queries), np.int32))

    @property
    def tracks(self) -> Tracks:
        """The tracks as the record that the runner takes."""
        return Tracks(
            self.xy,
            self.visible,
            self.tracker,
            self.tracker_version,
            self.tracker_licence,
            query_frame=self.query_frames,
            layer=self.point_layers if len(self.point_layers) else None,
        )

    @property
    def random_weights(self) -> bool:
        """Whether a model with random weights made the video."""
        return is_random(self.weights)

    def tracks_hash(self) -> str:
        """Returns a hex SHA-256 of the tracks and of the video that they belong to; "" for a clip without tracks.

        It covers `video_sha256`, N and T, written "HASH,N,T", then the bytes of queries, xy (float32) and visible,
        row-major. The bytes of query_frames (int32) follow if one of them is not 0. Then follow, where they are known,
        "layer" with the bytes of point_layers (int32), and "layers" with layers_sha256.
        """
        if not len(self.queries):
            return ""
        digest = hashlib.sha256(f"{self.video_sha256},{len(self.xy)},{self.xy.shape[1]}".encode())
        self._hash_arrays(digest)
        return digest.hexdigest()

    def identity(self) -> str:
        """Returns a hex SHA-256 of what a run reads from the clip. Its maker and the name of its file do not count."""
        digest = hashlib.sha256()
        words = [self.prompt, self.video_sha256, self.image_sha256, self.query_side, self.fps, self.tracker]
        if (self.query_mode, self.input_class) != ("frame", ""):
            words += [self.query_mode, self.input_class]
        digest.update(json.dumps(words).encode())
        self._hash_arrays(digest)
        return digest.hexdigest()

    def _hash_arrays(self, digest: Any) -> None:
        for name in _HASHED:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        if self.query_frames.any():  # keeps the hash that queries in frame 0 had before other frames were possible
            digest.update(np.ascontiguousarray(self.query_frames, dtype=np.int32).tobytes())
        if len(self.point_layers):
            digest.update(b"layer" + np.ascontiguousarray(self.point_layers, dtype=np.int32).tobytes())
        if self.layers:
            digest.update(b"layers" + self.layers_sha256.encode())


def check_row(row: ClipRow, where: str) -> None:
    """Checks that a row can be used. `where` begins the message.

    Raises:
        UsageError: a column is wrong; the message says which and how.
    """
    if row.status not in STATUSES:
        raise UsageError(f"{where}: status is {row.status!r}; it must be one of {', '.join(STATUSES)}.")
    if not row.clip:
        raise UsageError(f"{where}: clip is empty; every clip needs an id of its own.")
    for name in ("frames", "height", "width", "query_side"):
        if getattr(row, name) < 0:
            raise UsageError(f"{where}: {name} is {getattr(row, name)}; it must be at least 0.")
    for name in ("video", "image", "layers"):
        _check_path(getattr(row, name), f"{where}: {name}")
    if row.status == OK and not (row.video or row.prompt.strip()):
        raise UsageError(f"{where}: prompt is empty, and there is no video either.")
    if row.video:
        _check_video_columns(row, where)
    check_tracks(row.queries, row.xy, row.visible, where)
    _check_query_columns(row, where)
    _check_layer_columns(row, where)
    if len(row.queries):
        if row.xy.shape[1] != row.frames:
            raise UsageError(f"{where}: xy has {row.xy.shape[1]} frames, but the clip has {row.frames}.")
        check_inside(row.queries, row.height, row.width, where)
    if row.query_side and len(row.queries) not in (0, row.query_side**2):
        raise UsageError(f"{where}: query_side is {row.query_side}, but there are {len(row.queries)} query points.")


def _check_query_columns(row: ClipRow, where: str) -> None:
    for name, known in (("query_mode", get_args(QueryMode)), ("input_class", get_args(InputClass))):
        if getattr(row, name) not in known:
            raise UsageError(f"{where}: {name} is {getattr(row, name)!r}; it must be one of {known}.")
    frames = row.query_frames
    if frames.shape != row.queries.shape[:1] or frames.dtype.kind not in "iu":
        raise UsageError(
            f"{where}: query_frames is {frames.dtype} of shape {frames.shape}; {len(row.queries)} query points need "
            "as many whole numbers."
        )
    outside = (frames < 0) | (frames >= row.frames)
    if len(frames) and outside.any():
        raise UsageError(
            f"{where}: query_frames names frame {frames[outside][0]}; the clip has {row.frames}, counted from 0."
        )


def _check_layer_columns(row: ClipRow, where: str) -> None:
    if row.layers and not row.video:
        raise UsageError(f"{where}: layers is {row.layers!r}, but there is no video to which a layer map could belong.")
    found = row.point_layers
    if not len(found):
        return
    if found.shape != row.queries.shape[:1] or found.dtype.kind not in "iu":
        raise UsageError(
            f"{where}: point_layers is {found.dtype} of shape {found.shape}; {len(row.queries)} query points need as "
            "many whole numbers, or none."
        )
    if (found < UNKNOWN_LAYER).any():
        raise UsageError(f"{where}: point_layers is {found.min()} for a point; the least is {UNKNOWN_LAYER}.")


def _check_video_columns(row: ClipRow, where: str) -> None:
    if row.frames < 2:
        raise UsageError(f"{where}: frames is {row.frames}; a video has at least 2, and one frame alone is an image.")
    if not (np.isfinite(row.fps) and row.fps > 0):
        raise UsageError(f"{where}: fps is {row.fps}; a video has a positive number of frames per second.")
    if row.status == OK and not len(row.queries):
        raise UsageError(
            f"{where}: points is 0; a video in this format needs its tracks.",
            hint="Videos without tracks are named --data video:PATH; a tracker makes them.",
        )


def _check_path(text: str, where: str) -> None:
    if Path(text).is_absolute() or ".." in text.replace("\\", "/").split("/"):
        raise UsageError(f"{where} is {text!r}; it must be a path inside the dataset's folder.")


def check_tracks(queries: NDArray[np.float32], xy: NDArray[np.float32], visible: NDArray[np.bool_], where: str) -> None:
    """Checks queries (N, 2), positions (N, T, 2) and visibility (N, T) against each other.

    Raises:
        UsageError: a shape or type that does not fit, or a position that is not finite.
    """
    if xy.ndim != 3 or xy.shape[2] != 2 or len(xy) != len(queries):
        raise UsageError(f"{where}: xy has shape {xy.shape}; {len(queries)} query points need (N, T, 2).")
    if visible.dtype != np.bool_:
        raise UsageError(f"{where}: visible is of type {visible.dtype}; it must be bool, true where a point is seen.")
    if visible.shape != xy.shape[:2]:
        raise UsageError(f"{where}: visible has shape {visible.shape}, but xy has {xy.shape}.")
    for name, values in (("queries", queries), ("xy", xy)):
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).any(axis=-1).sum())
            raise UsageError(f"{where}: {name} holds {count} positions that are NaN or infinite.")


def check_inside(queries: NDArray[np.float32], height: int, width: int, where: str) -> None:
    """Checks that query points (N, 2) are inside a frame.

    Raises:
        UsageError: one is not.
    """
    outside = ((queries < 0) | (queries > [width, height])).any(axis=1)
    if outside.any():
        x, y = queries[int(outside.argmax())]
        raise UsageError(
            f"{where}: {int(outside.sum())} of {len(queries)} query points lie outside the frame of {width} x {height} "
            f"pixels, the first at (x={x:g}, y={y:g}).",
            hint="Are x and y exchanged?",
        )
