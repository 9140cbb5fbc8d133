"""Makes tidy Arrow tables from the shards of a run: one value, or one position, per row.

Shards are read one after the other, and only the columns of the result stay in memory. Texts are kept as codes into a
dictionary: 18 million rows of scores take about one gigabyte, where the stored columns would take ten.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vcorr.contract.errors import unknown_name
from vcorr.contract.geometry import TokenGrid
from vcorr.stats.intervals import gain, skill
from vcorr.store.schema import PREDICTIONS, SCORES, TRACKS

DERIVED = ("skill", "gain")
"""Columns of tidy scores that are computed from value, floor and ceiling of the row."""
SCORE_COLUMNS = (
    *("run", "model", "probe", "variant", "switches", "task", "clip", "layer", "layer_name", "step", "noise", "head"),
    *("metric", "value", "floor", "ceiling", *DERIVED, "n", "status", "error"),
)
"""Columns of tidy scores by default."""
PREDICTION_KEYS = ("run", "clip", "probe", "variant", "switches", "layer", "layer_name", "step", "noise", "head")
TRACK_KEYS = ("run", "clip", "tracker", "query_mode")
_POSITIONS = pa.schema(
    [
        ("point", pa.int32()),
        ("query_frame", pa.int32()),
        ("latent", pa.int32()),
        ("frame", pa.float32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("visible", pa.bool_()),
        ("confidence", pa.float32()),
    ]
)
_SMALL_CODES = np.iinfo(np.int16).max


def tidy_scores(
    shards: Iterable[pa.Table],
    *,
    metrics: Collection[str] = (),
    columns: Sequence[str] = SCORE_COLUMNS,
    lower: Collection[str] = (),
) -> pa.Table:
    """Returns scores with the skill and the gain of each row, in the order of the shards.

    Args:
        shards: tables of the layout `SCORES`, one per clip.
        metrics: the metric columns to keep; all if empty.
        columns: names of `SCORES`, "skill" and "gain", in the order of the result.
        lower: the metric columns in which a lower value is better. They have no gain.

    Raises:
        UsageError: there is no such column, or no row of one of `metrics`.
    """
    known = (*SCORES.names, *DERIVED)
    for name in columns:
        if name not in known:
            raise unknown_name("column of scores", name, known)
    fields = [SCORES.field(name) if name in SCORES.names else pa.field(name, pa.float32()) for name in columns]
    builder, seen = _Builder(fields), set()
    for shard in shards:
        seen.update(pc.unique(shard["metric"]).to_pylist())
        rows = shard.filter(pc.is_in(shard["metric"], pa.array(list(metrics), pa.string()))) if metrics else shard
        made = _derive(rows, lower) if set(columns) & set(DERIVED) else {}
        builder.add({name: made[name] if name in made else rows[name] for name in columns})
    for name in metrics:
        if name not in seen:
            raise unknown_name("metric of this run", name, seen - {""})
    return builder.finish()


def _derive(rows: pa.Table, lower: Collection[str]) -> dict[str, NDArray[np.float32]]:
    value, floor, ceiling = (rows[name].to_numpy() for name in ("value", "floor", "ceiling"))
    falling = pc.is_in(rows["metric"], pa.array(sorted(lower), pa.string())).to_numpy()
    sign = np.where(falling, -1.0, 1.0)
    found = {
        "skill": skill(sign * value, sign * floor, sign * ceiling),
        "gain": gain(value, np.where(falling, np.nan, floor)),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def tidy_tracks(shards: Iterable[pa.Table]) -> pa.Table:
    """Returns the reference tracks, one row per point and video frame, from tables of the layout `TRACKS`.

    x, y: pixels of the video as the model read it. confidence: NaN where the tracker does not say.
    """
    builder = _Builder([*(TRACKS.field(name) for name in TRACK_KEYS), *_without("latent")])
    for shard in shards:
        parts = _Expansion(shard, _integers(shard, "frames"))
        builder.add({**parts.repeat(builder, TRACK_KEYS), **parts.positions(), "frame": parts.within_point})
    return builder.finish()


def tidy_predictions(shards: Iterable[pa.Table], only: Mapping[str, Any] | None = None) -> pa.Table:
    """Returns predicted positions, one row per point and latent frame, from tables of the layout `PREDICTIONS`.

    frame: the middle of the video frames that the latent frame covers. visible: null where the probe does not say, and
    confidence is NaN there. Attention summaries have no positions and are left out.

    only: values that columns must have, such as {"layer": 7}.
    """
    builder = _Builder([*(PREDICTIONS.field(name) for name in PREDICTION_KEYS), *_POSITIONS])
    for shard in shards:
        wanted = pc.equal(shard["kind"], "positions")
        for name, value in (only or {}).items():
            wanted = pc.and_(wanted, pc.equal(shard[name], value))
        rows = shard.filter(wanted)
        if rows.num_rows:
            parts = _Expansion(rows, _integers(rows, "latents"))
            times = {"latent": parts.within_point, "frame": parts.times()}
            builder.add({**parts.repeat(builder, PREDICTION_KEYS), **parts.positions(), **times})
    return builder.finish()


def _without(name: str) -> list[pa.Field]:
    return [field for field in _POSITIONS if field.name != name]


class _Expansion:
    """Turns stored rows, which hold lists of N points in F frames, into N x F rows each, without a loop over them.

    within_point: of each new row, the number of its frame.
    """

    def __init__(self, rows: pa.Table, frames: NDArray[np.int64]) -> None:
        self._rows = rows.combine_chunks()
        self._sizes = _integers(rows, "points") * frames
        ends = np.cumsum(self._sizes)
        self._of_row = np.repeat(np.arange(len(frames)), self._sizes)
        self._within = np.arange(int(ends[-1]) if len(ends) else 0) - (ends - self._sizes)[self._of_row]
        self._point, self.within_point = np.divmod(self._within, frames[self._of_row])

    def repeat(self, builder: _Builder, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Returns columns of the stored rows for all new rows; of texts the codes."""
        return {name: builder.encode(name, self._rows[name])[self._of_row] for name in names}

    def positions(self) -> dict[str, Any]:
        """Returns the columns that both tables share, but for the times."""
        starts, xy, _ = _lists(self._rows, "xy")
        at = starts[self._of_row] + 2 * self._within
        queries, query_frames, _ = _lists(self._rows, "query_frames")
        return {
            "point": self._point,
            "query_frame": query_frames[queries[self._of_row] + self._point],
            "x": xy[at],
            "y": xy[at + 1],
            "visible": self._optional("visible"),
            "confidence": self._optional("confidence"),
        }

    def times(self) -> NDArray[np.float32]:
        """Returns the time of each new row's latent frame, in video frames."""
        grids = self._rows["grid"].combine_chunks().dictionary_encode()
        known = [TokenGrid.from_dict(json.loads(text)).latent_times for text in grids.dictionary.to_pylist()]
        starts = np.cumsum([0, *map(len, known)])[grids.indices.to_numpy()]
        times: NDArray[np.float32] = np.concatenate(known)[starts[self._of_row] + self.within_point]
        return times

    def _optional(self, name: str) -> pa.Array:
        """Returns a list column that may be empty in some rows: null there, and NaN for numbers."""
        starts, values, lengths = _lists(self._rows, name)
        there = (lengths > 0)[self._of_row]
        index = np.where(there, starts[self._of_row] + self._within, 0)
        if values.dtype == np.bool_:
            found = values[index] if len(values) else np.zeros(len(index), np.bool_)
            return pa.array(found, pa.bool_(), mask=~there)
        found = values[index] if len(values) else np.zeros(len(index), np.float32)
        return pa.array(np.where(there, found, np.nan).astype(np.float32))


def _lists(rows: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]:
    """Returns where the list of each row begins, all values, and the length of each list."""
    column = rows[name].combine_chunks()
    offsets = column.offsets.to_numpy().astype(np.int64)
    return offsets[:-1], column.values.to_numpy(zero_copy_only=False), np.diff(offsets)


def _integers(rows: pa.Table, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = rows[name].to_numpy().astype(np.int64)
    return found


class _Builder:
    """Collects the columns of a table, shard by shard. Texts are kept as codes, in two bytes while that is enough."""

    def __init__(self, fields: Sequence[pa.Field]) -> None:
        self._fields = fields
        self._chunks: dict[str, list[Any]] = {field.name: [] for field in fields}
        self._known: dict[str, dict[str, int]] = {f.name: {} for f in fields if pa.types.is_string(f.type)}

    def encode(self, name: str, column: pa.ChunkedArray) -> NDArray[Any]:
        """Returns a column as numbers: of texts the codes, which later shards share."""
        if name not in self._known:
            numbers: NDArray[Any] = column.to_numpy()
            return numbers
        known, encoded = self._known[name], column.combine_chunks().dictionary_encode()
        codes = [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()]
        kind = np.int16 if len(known) <= _SMALL_CODES else np.int32
        return np.asarray(codes, dtype=kind)[encoded.indices.to_numpy()] if codes else np.empty(0, kind)

    def add(self, columns: Mapping[str, Any]) -> None:
        """Adds rows. A column is a stored one, or numbers or codes that are made already."""
        for field in self._fields:
            values = columns[field.name]
            if isinstance(values, pa.ChunkedArray):
                values = self.encode(field.name, values) if field.name in self._known else values
            self._chunks[field.name].append(values)

    def finish(self) -> pa.Table:
        """Returns the table. The builder is empty afterwards."""
        return pa.table({field.name: self._column(field) for field in self._fields})

    def _column(self, field: pa.Field) -> pa.ChunkedArray:
        chunks = self._chunks.pop(field.name)
        if field.name not in self._known:
            return pa.chunked_array(list(_arrays(chunks, field.type)), field.type)
        words = pa.array(self._known[field.name], pa.string())
        kind = pa.int16() if len(words) <= _SMALL_CODES else pa.int32()
        coded = [pa.DictionaryArray.from_arrays(pa.array(chunk, kind), words) for chunk in chunks]
        return pa.chunked_array(coded, pa.dictionary(kind, pa.string()))


def _arrays(chunks: Sequence[Any], kind: pa.DataType) -> Iterator[pa.Array]:
    for chunk in chunks:
        if isinstance(chunk, pa.ChunkedArray):
            yield from chunk.chunks
        else:
            yield chunk if isinstance(chunk, pa.Array) else pa.array(chunk).cast(kind)
