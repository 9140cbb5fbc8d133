"""The table of a dataset folder, in Parquet with one row per clip.

Arrays: N query points, T video frames; positions are (x, y) raster pixels, stored flattened row-major.
"""

from __future__ import annotations

import dataclasses
import math
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vcorr.contract.errors import StoreError, UsageError, first_line
from vcorr.data.clip_row import ClipRow, check_row
from vcorr.store.atomic_files import atomic_file
from vcorr.store.column_types import conform
from vcorr.store.declared_sizes import check_bytes
from vcorr.store.schema import FINGERPRINT_KEY, TABLE_KEY, UNITS_KEY, VERSION_KEY

TABLE_VERSION = 4
SUFFIX = ".parquet"

TRACKS_HASH = "tracks_sha256"
"""A column that layout version 1 did not have. Tables without it cannot show that their tracks are unchanged."""

_LATER = {
    2: (TRACKS_HASH,),
    3: ("query_frames", "query_mode", "input_class"),
    4: ("point_layers", "layers", "layers_sha256"),
}
"""Columns by the version of the layout that added them."""

_TEXT = pa.string()
_LISTED = "docs/datasets.md lists the columns."
_WIDEST = 8
"""Bytes of the widest number in a table."""
_ARRAYS = ("queries", "query_frames", "xy", "visible", "point_layers")

COLUMNS = pa.schema(
    [
        ("dataset", _TEXT),
        ("split", _TEXT),
        ("clip", _TEXT),
        ("status", _TEXT),
        ("reason", _TEXT),
        ("prompt", _TEXT),
        ("model", _TEXT),
        ("weights", _TEXT),
        ("seed", pa.int64()),
        ("num_steps", pa.int32()),
        ("frames", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("fps", pa.float32()),
        ("query_side", pa.int32()),
        ("points", pa.int32()),
        ("queries", pa.list_(pa.float32())),
        ("query_frames", pa.list_(pa.int32())),
        ("query_mode", _TEXT),
        ("input_class", _TEXT),
        ("xy", pa.list_(pa.float32())),
        ("visible", pa.list_(pa.bool_())),
        ("point_layers", pa.list_(pa.int32())),
        (TRACKS_HASH, _TEXT),
        ("tracker", _TEXT),
        ("tracker_version", pa.int32()),
        ("tracker_licence", _TEXT),
        ("video", _TEXT),
        ("video_sha256", _TEXT),
        ("file_sha256", _TEXT),
        ("layers", _TEXT),
        ("layers_sha256", _TEXT),
        ("image", _TEXT),
        ("image_sha256", _TEXT),
        ("moving_share", pa.float32()),
        ("visible_share", pa.float32()),
    ]
)

MEANINGS = {
    "dataset": "Name of the dataset.",
    "split": "Its split, as `load_dataset` names it.",
    "clip": "Id of the clip.",
    "status": "`ok`; `rejected` by the filters; `failed` while it was made.",
    "reason": "Why it was rejected or failed, or what else there is to say.",
    "prompt": "Text the video is made from.",
    "model": "Model that made the video.",
    "weights": "What identifies its weights; `random:SEED` for random ones.",
    "seed": "Seed of the sampling.",
    "num_steps": "Sampling steps.",
    "frames": "T, frames of the video.",
    "height": "H, of the video.",
    "width": "W, of the video.",
    "fps": "Frames per second.",
    "query_side": "Query points along one side of their regular grid; 0 for other points.",
    "points": "N, query points; 0 for a clip without tracks.",
    "queries": "Query points, each in its frame: N x (x, y) pixels, row-major.",
    "query_frames": "Video frame of each query: N, counted from 0.",
    "query_mode": "How the frames of the queries were chosen: `frame`, by the maker of the dataset; `first`, the first "
    "frame in which the point is visible; `strided`, every fifth frame in which it is.",
    "input_class": "`256` for frames of at most 256x256 pixels, `full` for larger ones, in benchmarks that separate "
    "the two; else empty.",
    "xy": "Positions of the points in every frame: N x T x (x, y) pixels, row-major.",
    "visible": "N x T, row-major; true where the point can be seen.",
    "point_layers": "N: the layer of each point in its query's frame: 0 the background, k > 0 the k-th thing in front "
    "of it, counted from the back, -1 where it is not known; empty if it is known for no point.",
    TRACKS_HASH: "Hash of `queries`, their frames, `xy`, `visible`, the layers that are known, and the video they "
    "belong to, as `ClipRow.tracks_hash` computes it; empty for a clip without tracks, or if it was not computed.",
    "tracker": "What made the tracks; `exact` where they are known by construction.",
    "tracker_version": "Version of the tracker; 0 where it is not known.",
    "tracker_licence": "Licence of the tracker.",
    "video": "Path of the video inside the folder; empty where there is none.",
    "video_sha256": "Hash of the frames the tracks were made on, as `vcorr.data.video.video_hash` computes it.",
    "file_sha256": "SHA-256 of the video's file.",
    "layers": "Path of the layer map inside the folder, with the frames and the size of the video: the index of the "
    "topmost layer at each pixel; empty where there is none.",
    "layers_sha256": "Hash of the layer map, as `vcorr.data.video.layers_hash` computes it.",
    "image": "Path of the first frame, for models that start from an image; empty where there is none.",
    "image_sha256": "SHA-256 of that file.",
    "moving_share": "Share of moving points: among those visible in the frame of their query, those seen more than one "
    "token stride away from there in another frame.",
    "visible_share": "Share of visible points, over all points and frames.",
}
"""What each column holds."""

_METADATA = {
    VERSION_KEY: str(TABLE_VERSION),
    TABLE_KEY: "dataset",
    UNITS_KEY: "xy, queries, height, width: pixels (x right, y down, outer corner of the first pixel at 0); "
    "moving_share, visible_share: fractions in [0, 1]",
}


_EMPTY: dict[str, Any] = {
    **dict.fromkeys(("reason", "weights", "tracker", "tracker_licence", TRACKS_HASH, "input_class"), ""),
    **dict.fromkeys(("video", "video_sha256", "file_sha256", "image", "image_sha256", "layers", "layers_sha256"), ""),
    **dict.fromkeys(("moving_share", "visible_share"), float("nan")),
}
"""The columns that may be empty, each with the value that means so."""


def write_row(path: Path, row: ClipRow, fingerprint: str = "") -> None:
    """Writes a row as one Parquet file, with the hash of its tracks; atomic.

    fingerprint: what decides the content of a clip that was built; "" for other clips.

    Raises:
        UsageError: the row contradicts itself; the message names clip and column.
        StoreError: the file cannot be written.
    """
    check_row(row, f"clip {row.clip}")
    arrays = {name: getattr(row, name).ravel() for name in _ARRAYS}
    plain = {f.name: getattr(row, f.name) for f in dataclasses.fields(row) if f.name not in _ARRAYS}
    values = {**plain, **arrays, "points": len(row.queries), TRACKS_HASH: row.tracks_hash()}
    table = pa.Table.from_pylist([values], schema=COLUMNS.with_metadata({**_METADATA, FINGERPRINT_KEY: fingerprint}))
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_fingerprint(path: Path) -> str | None:
    """Returns the fingerprint with which a clip was written, "" if the file has none; None if it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return None
    return str(metadata.get(FINGERPRINT_KEY, b"").decode(errors="replace"))


def read_rows(path: Path) -> Iterator[ClipRow]:
    """Yields the rows of one Parquet file, each checked.

    Raises:
        StoreError: the file is damaged, written by a newer vcorr, or holds tracks that do not belong to the video.
        UsageError: the file holds no row, a column is missing or has a wrong type, or a row contradicts itself. The
            message names file, clip and column.
    """
    table = _conform(path, _upgrade(path, _read(path)))
    if not table.num_rows:
        raise UsageError(f"{path} holds no clip.", hint="Delete the file, or get it again.")
    plain = table.select([n for n in COLUMNS.names if n not in _ARRAYS]).to_pylist()
    for index, values in enumerate(plain):
        yield _row(values, {name: table[name][index].values for name in _ARRAYS}, path)


def _read(path: Path) -> pa.Table:
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a Parquet file.")
    try:
        # one text that many rows name stays one text until its length is known
        texts = _check_size(path)
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts) as file:
            found = file.read()
        found.validate(full=True)
        return found
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged and cannot be read ({first_line(error)}).",
            hint="Get that file again, or make its clip anew: delete it and repeat the build.",
        ) from error


def _check_size(path: Path) -> list[str]:
    """Checks the number of values that a Parquet file declares, before any of them takes memory.

    Its own statement of bytes is of no use: equal values in a row are counted as one. Returns its columns of text.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no ordinary file")
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    values = sum(group.column(index).num_values for group in groups for index in range(group.num_columns))
    check_bytes(found.st_size, _WIDEST * values)
    columns = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    texts = {field.name for field in COLUMNS if field.type == _TEXT}
    return [column.path for column in columns if column.path in texts and column.physical_type == "BYTE_ARRAY"]


def _upgrade(path: Path, table: pa.Table) -> pa.Table:
    """Returns the table in the current layout. A table without a version is read as version 1."""
    said = (table.schema.metadata or {}).get(VERSION_KEY, b"1").decode(errors="replace")
    if not said.isdecimal():
        raise StoreError(f"{path} has the layout version {said!r}, which is no number.")
    if int(said) > TABLE_VERSION:
        raise StoreError(
            f"{path} has layout version {said}; this vcorr reads up to {TABLE_VERSION}.",
            hint="Upgrade: pip install --upgrade vcorr",
        )
    for version, columns in _LATER.items():
        for name in columns if int(said) < version else ():
            if name not in table.schema.names:
                table = table.append_column(COLUMNS.field(name), _neutral(table, name))
    return table


def _neutral(table: pa.Table, name: str) -> pa.Array:
    """Returns the values of a column that an earlier layout did not have."""
    if name == "point_layers":
        return pa.array([[]] * table.num_rows, COLUMNS.field(name).type)
    if name != "query_frames":
        return pa.array([{"query_mode": "frame"}.get(name, "")] * table.num_rows, _TEXT)
    # one for each query point, of which there are as many as there are positions
    queries = [] if "queries" not in table.schema.names else table["queries"].to_pylist()
    counts = [len(values or []) // 2 if isinstance(values, list) else 0 for values in queries] or [0] * table.num_rows
    return pa.array([[0] * count for count in counts], COLUMNS.field(name).type)


def _conform(path: Path, table: pa.Table) -> pa.Table:
    """Returns the columns of the layout in their declared types.

    Other types that hold the same values are converted. Where a column may be empty, missing values are empty ones.
    """
    columns = {}
    for field in COLUMNS:
        if table.schema.names.count(field.name) != 1:
            lacking = "lacks the column" if field.name not in table.schema.names else "has more than once the column"
            raise UsageError(f"{path} {lacking} {field.name!r}.", hint=_LISTED)
        column, empty = table[field.name], _EMPTY.get(field.name)
        if pa.types.is_null(column.type) and empty is not None:
            column = pa.chunked_array([pa.nulls(len(column), field.type)])
        try:
            column = conform(column, field.type)
        except ValueError as error:
            raise UsageError(f"{path}: the column {field.name!r} {error}.", hint=_LISTED) from error
        columns[field.name] = column if empty is None else pc.fill_null(column, pa.scalar(empty, field.type))
    return pa.table(columns, schema=COLUMNS)


def _row(values: Mapping[str, Any], lists: Mapping[str, pa.Array | None], path: Path) -> ClipRow:
    where = f"{path}: clip {values['clip']}"
    missing = [name for name, value in {**values, **lists}.items() if value is None]
    if missing:
        raise UsageError(f"{where}: {missing[0]} is empty.")
    for name in ("points", "frames"):
        if values[name] < 0:
            raise UsageError(f"{where}: {name} is {values[name]}; it must be at least 0.")
    points, frames = values["points"], values["frames"] if lists["xy"] else 0
    shapes = {
        "queries": (points, 2),
        "query_frames": (points,),
        "xy": (points, frames, 2),
        "visible": (points, frames),
        "point_layers": (points if lists["point_layers"] else 0,),
    }
    arrays = {name: _reshape(lists[name], shape, f"{where}: {name}") for name, shape in shapes.items()}
    row = ClipRow(**{**{k: v for k, v in values.items() if k not in ("points", TRACKS_HASH)}, **arrays})
    check_row(row, where)
    if values[TRACKS_HASH] and values[TRACKS_HASH] != row.tracks_hash():
        raise StoreError(
            f"{where}: its tracks are not the tracks stored with its video (the hash of queries, xy and visible is not "
            f"{TRACKS_HASH}), so they cannot be its reference.",
            hint="Get that file again, or make its clip anew: delete it and repeat the build.",
        )
    return row


def _reshape(values: Any, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    if values.null_count:
        raise UsageError(f"{where} has an empty value.")
    if len(values) != math.prod(shape):
        raise UsageError(
            f"{where} holds {len(values)} values; the clip's points and frames need {math.prod(shape)}, {shape}."
        )
    found: NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(shape)
    return found.copy()  # torch warns about Arrow's read-only memory
