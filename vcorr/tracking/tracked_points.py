"""The tracks of points through a video of one's own, and the three forms of file in which they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks
from vcorr.store.atomic_files import atomic_file
from vcorr.store.columns import Float, Int32, arrow_schema, column, units
from vcorr.store.schema import TABLE_KEY, UNITS_KEY, VERSION_KEY

TABLE = "points"
TABLE_VERSION = 1

_Bool: TypeAlias = Annotated[bool, pa.bool_()]
_Double: TypeAlias = Annotated[float, pa.float64()]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    """One point in one frame."""

    query: Int32 = column(0, "Number of the query point, from 0, in the order in which the points were given.")
    frame: Int32 = column(0, "Frame of the video, from 0.")
    time: _Double = column(0.0, "When the frame is shown, from the first frame of the file on.", "seconds")
    x: Float = column(0.0, "Position from the left border of the original upright frame.", "pixels")
    y: Float = column(0.0, "Position from the upper border.", "pixels")
    visible: _Bool = column(True, "Whether the point can be seen.")
    confidence: Float = column(
        0.0, "How sure the tracker is that the point can be seen; null if it does not say.", "fractions in [0, 1]"
    )
    is_query: _Bool = column(False, "Whether this is the query itself, in its own frame.")


@dataclass(frozen=True, eq=False)
class TrackedPoints:
    """Tracks of N query points through the T frames of a video.

    Args:
        xy: (N, T, 2) float32 pixels (x, y) of the original upright video, from the outer corner of its first pixel on.
        visible: (N, T) bool, True where the point can be seen.
        confidence: (N, T) float32 in [0, 1], how sure the tracker is that the point can be seen; None if it does not
            say.
        queries: the query points; `queries.t` are their frames.
        times: (T,) float64, when each frame is shown, in seconds from the first frame of the file on.
        fps: frames per second, the mean where it varies.
        size: (width, height) of the original upright video in pixels.
        tracker: what followed the points, such as "dis".
        notes: sentences on what was changed or assumed while the video was read.
    """

    xy: NDArray[np.float32]
    visible: NDArray[np.bool_]
    confidence: NDArray[np.float32] | None
    queries: Queries
    times: NDArray[np.float64]
    fps: float
    size: tuple[int, int]
    tracker: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.queries)

    def as_tracks(self) -> Tracks:
        """Returns the tracks as a record of `vcorr.Tracks`, in pixels of the original video."""
        return Tracks(self.xy, self.visible, self.tracker, confidence=self.confidence, query_frame=self.queries.t)

    def to_arrow(self) -> pa.Table:
        """Returns a table with one row per point and frame, point by point; its columns are the ones of `PointRow`."""
        points, frames = self.visible.shape
        frame = np.tile(np.arange(frames, dtype=np.int32), points)
        columns = {
            "query": np.repeat(np.arange(points, dtype=np.int32), frames),
            "frame": frame,
            "time": self.times[frame],
            "x": self.xy[..., 0].ravel(),
            "y": self.xy[..., 1].ravel(),
            "visible": self.visible.ravel(),
            "confidence": pa.nulls(points * frames) if self.confidence is None else self.confidence.ravel(),
            "is_query": frame == np.repeat(self.queries.t, frames),
        }
        return pa.table(columns, schema=arrow_schema(PointRow).with_metadata(self._metadata()))

    def save(self, path: Path | str) -> None:
        """Writes a file whose form its suffix says: .arrow or .csv (the table of `to_arrow`), or .npz; atomic.

        The .npz has the arrays of TAP-Vid. `points` (N, T, 2) float32 are (x, y) as shares of width and height.
        `occluded` is (N, T) bool. `query_points` (N, 3) float32 are (frame, y, x) in pixels. It adds `times`, `fps`,
        `size` as (height, width), and `confidence` if there is one.

        Raises:
            UsageError: the suffix is another one.
            StoreError: the file cannot be written.
        """
        target = Path(path)
        write = _WRITERS.get(target.suffix.lower())
        if write is None:
            raise UsageError(f"Tracks are stored as {', '.join(_WRITERS)}; got {target.name!r}.")
        # Arrow opens no file whose name, or the name of a folder above it, is not UTF-8 text
        with atomic_file(target) as temporary, open(temporary, "wb") as file:
            write(self, file)

    def to_tapvid(self) -> dict[str, NDArray[np.generic]]:
        """Returns the arrays of the .npz form; `save` describes them."""
        x, y = self.queries.xy.T
        arrays: dict[str, NDArray[np.generic]] = {
            "points": (self.xy / np.array(self.size, dtype=np.float32)).astype(np.float32),
            "occluded": ~self.visible,
            "query_points": np.stack([self.queries.t.astype(np.float32), y, x], axis=-1),
            "times": self.times,
            "fps": np.array(self.fps),
            "size": np.array(self.size[::-1]),
        }
        return arrays if self.confidence is None else {**arrays, "confidence": self.confidence}

    def _metadata(self) -> Mapping[bytes, str]:
        width, height = self.size
        return {
            VERSION_KEY: str(TABLE_VERSION),
            TABLE_KEY: TABLE,
            UNITS_KEY: units(PointRow),
            b"vcorr.tracker": self.tracker,
            b"vcorr.size": f"{width}x{height}",
            b"vcorr.fps": repr(float(self.fps)),
        }


def _write_arrow(tracks: TrackedPoints, file: BinaryIO) -> None:
    table = tracks.to_arrow()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)


def _write_csv(tracks: TrackedPoints, file: BinaryIO) -> None:
    pa_csv.write_csv(tracks.to_arrow(), file)


def _write_npz(tracks: TrackedPoints, file: BinaryIO) -> None:
    np.savez_compressed(file, **tracks.to_tapvid())  # type: ignore[arg-type]  # its stub takes the flag alone


_WRITERS: Mapping[str, Callable[[TrackedPoints, BinaryIO], None]] = {
    ".arrow": _write_arrow,
    ".csv": _write_csv,
    ".npz": _write_npz,
}
