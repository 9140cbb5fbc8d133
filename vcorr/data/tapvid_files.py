"""Reads the published files of TAP-Vid and RoboTAP, one clip at a time (docs/tracking.md).

An entry of a file has the keys `video`, uint8 (T, H, W, 3) or T JPEG files; `points`, float (N, T, 2) positions (x, y)
as shares of the width and the height; and `occluded`, bool (N, T).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import MissingError, UsageError, unknown_name
from vcorr.data.image_reader import decode_image
from vcorr.data.plain_pickle import iterate_entries
from vcorr.data.tapvid_sets import DATASETS, SETS, TapVidSet

Resize = Literal["256", "none"]
SIDE = 256
"""Side, in pixels, of the square frames that the published protocol resizes every video to."""
FILTER = "lanczos"
"""Filter of the published reader, which resizes with Pillow."""
OUTSIDE = 0.01
"""Share of the frame by which a visible position may lie outside: the published script for Kinetics takes half a pixel
from every position."""
MOST_BYTES = 1 << 32
"""Bytes of the largest video that is held in memory; 250 frames of 1920x1080 pixels are 1.6e9."""

_KEYS = ("video", "points", "occluded")
_SUFFIX = ".pkl"
_UNNAMED = "unnamed"
"""Id of a clip whose name is empty; an id has at least one character."""
_SHARD = re.compile(r"\d+_of_(\d+)")


@dataclass(frozen=True, eq=False)
class SourceEntry:
    """An entry as the file holds it. clip: the id of the clip. value: what stands there, which may be anything."""

    clip: str
    value: Any


@dataclass(frozen=True, eq=False)
class SourceClip:
    """A clip of the source.

    video: (T, H, W, 3) uint8. xy: (N, T, 2) float32 pixels of these frames, finite everywhere. visible: (N, T) bool.
    """

    video: NDArray[np.uint8]
    xy: NDArray[np.float32]
    visible: NDArray[np.bool_]


def find_files(path: Path) -> list[Path]:
    """Returns the files of a set: the path itself, or every .pkl file of the folder in the order of their names.

    Raises:
        MissingError: there is nothing at the path.
        UsageError: the folder holds no such file.
    """
    if not path.exists():
        raise MissingError(
            f"{path} does not exist.", hint="Where to get the files: docs/datasets.md, TAP-Vid and RoboTAP."
        )
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.glob(f"*{_SUFFIX}") if not p.name.startswith("."))
    if found:
        return found
    names = ", ".join(source.files for source in SETS.values())
    hint = f"Name the folder that holds them, unpacked: {names}."
    if any(path.glob("*.csv")):
        hint += " TAP-Vid-Kinetics is published as a table: its own script generate_tapvid.py makes the .pkl files."
    raise UsageError(f"{path} holds no {_SUFFIX} file.", hint=hint)


def count_missing(files: Sequence[Path]) -> int:
    """Returns how many files of a set are not among these, as names like 0003_of_0010.pkl say it; 0 for other names."""
    said = [int(found[1]) for path in files if (found := _SHARD.match(path.name))]
    return max(0, max(said, default=0) - len(files))


def recognise_set(files: Sequence[Path], name: str = "") -> TapVidSet:
    """Returns which set the files hold, by their form and their names; `name` decides where it is given.

    Raises:
        UsageError: no set has this name, or the files have the form of another set; or two sets have this form, and the
            names of the files do not tell them apart. Also as `iterate_entries`.
    """
    form, jpeg = _look_at(files[0])
    # the published reader of Kinetics takes dictionaries too
    fitting = [source for source in SETS.values() if source.jpeg == jpeg and (jpeg or source.form == form)]
    if name:
        named = SETS.get(name) or DATASETS.get(name)
        if named is None:
            raise unknown_name("set of TAP-Vid", name, SETS)
        if named not in fitting:
            raise UsageError(f"{files[0]} is {_describe(form, jpeg)}, and {named.name} has another form.")
        return named
    if len(fitting) == 1:
        return fitting[0]
    for text in (files[0].name, files[0].resolve().parent.name):
        chosen = [source for source in fitting if source.word and source.word in text.lower()]
        if len(chosen) == 1:
            return chosen[0]
    names = " or ".join(f"--name {source.name}" for source in fitting)
    raise UsageError(
        f"{files[0]} is {_describe(form, jpeg)}, and its name does not say which set it is.", hint=f"Say it: {names}"
    )


def _look_at(path: Path) -> tuple[str, bool]:
    """Returns the container of a file, "dict" or "list", and whether the frames of its first clip are JPEG files."""
    first = next(iterate_entries(path), None)
    if first is None:
        raise UsageError(f"{path} holds no clip.")
    key, value = first
    video = value.get("video") if isinstance(value, dict) else None
    return ("dict" if isinstance(key, str) else "list"), video is not None and _are_files(video)


def _describe(form: str, jpeg: bool) -> str:
    return f"a {'dictionary' if form == 'dict' else 'list'} of clips with {'JPEG files' if jpeg else 'pixels'}"


def iterate_file(path: Path) -> Iterator[SourceEntry]:
    """Yields the entries of a file, and holds one of them at a time. Raises as `iterate_entries`."""
    prefix = f"{path.name.removesuffix(_SUFFIX)}-" if _SHARD.match(path.name) else ""
    for key, value in iterate_entries(path):
        yield SourceEntry(key or _UNNAMED if isinstance(key, str) else f"{prefix}{key:04d}", value)


def read_entry(entry: SourceEntry, resize: Resize) -> SourceClip:
    """Returns a clip with its frames decoded, one after the other, and resized.

    Points at frames that the video does not have are left out. A position at a frame in which the point is hidden
    counts for nothing: if it is no number, it becomes the position in the first frame in which the point is visible.

    Raises:
        UsageError: the entry is not in the form of TAP-Vid, has one frame alone or no visible point; or a point is
            visible, and its position is not in the frame.
    """
    value = entry.value
    if not isinstance(value, dict):
        raise UsageError("it is no dictionary")
    for key in _KEYS:
        if key not in value:
            raise UsageError(f"it has no key {key!r}")
    frames = _count_frames(value["video"])
    points, visible = _read_points(value["points"], value["occluded"], frames)
    video = _read_video(value["video"], frames, resize)
    height, width = video.shape[1:3]
    xy = _fill_hidden((points * [width, height]).astype(np.float32), visible)
    return SourceClip(video, xy, visible)


def _are_files(video: Any) -> bool:
    """Returns whether frames are image files: bytes in a list, or in an array of bytes or of values."""
    if isinstance(video, np.ndarray):
        return video.dtype.kind in "SO" and video.ndim == 1
    return isinstance(video, list | tuple) and len(video) > 0 and isinstance(video[0], bytes)


def _count_frames(video: Any) -> int:
    pixels = isinstance(video, np.ndarray) and video.dtype == np.uint8 and video.ndim == 4 and video.shape[3] == 3
    if not (pixels or _are_files(video)):
        what = f"{video.dtype} {video.shape}" if isinstance(video, np.ndarray) else f"a {type(video).__name__}"
        raise UsageError(f"video is {what}; it must be uint8 (T, H, W, 3), or T JPEG files")
    if len(video) < 2:
        raise UsageError(f"video has {len(video)} frame; a track needs at least 2")
    if pixels and (min(video.shape[1:3]) < 2):
        raise UsageError(f"video has frames of {video.shape[1]}x{video.shape[2]} pixels; the least is 2x2")
    return len(video)


def _read_points(points: Any, occluded: Any, frames: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns positions (N, T, 2) as shares of the frame, and where they are visible (N, T)."""
    if not isinstance(points, np.ndarray) or points.dtype.kind != "f" or points.ndim != 3 or points.shape[2] != 2:
        raise UsageError(f"points {_show_shape(points)}; it must be float32 (N, T, 2)")
    if not isinstance(occluded, np.ndarray) or occluded.dtype != np.bool_ or occluded.shape != points.shape[:2]:
        raise UsageError(f"occluded {_show_shape(occluded)}; it must be bool {points.shape[:2]}, as points")
    if points.shape[1] < frames:
        raise UsageError(f"points has {points.shape[1]} frames, and video {frames}")
    found, visible = points[:, :frames].astype(np.float64), ~occluded[:, :frames]
    if not visible.any():
        raise UsageError("no point is visible in any frame")
    seen = found[visible]
    if np.isnan(seen).any():
        raise UsageError(f"points is NaN at {int(np.isnan(seen).any(axis=1).sum())} positions that are visible")
    outside = ((seen < -OUTSIDE) | (seen > 1 + OUTSIDE)).any(axis=1)
    if outside.any():
        x, y = seen[int(outside.argmax())]
        raise UsageError(
            f"{int(outside.sum())} of {len(seen)} visible positions lie outside the frame, the first at x={x:g}, "
            f"y={y:g}; they must be shares of its width and height, in [0, 1]"
        )
    return found, visible


def _show_shape(value: Any) -> str:
    return f"is {value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"is a {type(value).__name__}"


def _read_video(video: Any, frames: int, resize: Resize) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] | None = None
    for index in range(frames):
        frame = _resize(_read_frame(video[index], index), resize)
        if found is None:
            found = _reserve(frames, frame.shape)
        elif frame.shape != found.shape[1:]:
            raise UsageError(f"frame {index} has {frame.shape[:2]} pixels, and frame 0 {found.shape[1:3]}")
        found[index] = frame
    assert found is not None
    return found


def _reserve(frames: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if frames * int(np.prod(shape)) > MOST_BYTES:
        raise UsageError(f"video has {frames} frames of {shape[0]}x{shape[1]} pixels, which is more than 4 GiB")
    return np.empty((frames, *shape), np.uint8)


def _read_frame(frame: Any, index: int) -> NDArray[np.uint8]:
    if isinstance(frame, np.ndarray):
        return frame
    if not isinstance(frame, bytes):
        raise UsageError(f"frame {index} is a {type(frame).__name__}, not a JPEG file")
    return decode_image(bytes(frame), f"frame {index}")


def _resize(frame: NDArray[np.uint8], resize: Resize) -> NDArray[np.uint8]:
    """Returns a frame with the size of the published protocol; a frame that has it stays as it is."""
    from PIL import Image

    if resize == "none" or frame.shape[:2] == (SIDE, SIDE):
        return frame
    return np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _fill_hidden(xy: NDArray[np.float32], visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    first = xy[np.arange(len(xy)), visible.argmax(axis=1)]
    usable = np.isfinite(xy).all(axis=2, keepdims=True)
    return np.where(usable, xy, np.where(np.isfinite(first), first, 0)[:, None])
