"""Checks the rows of a shard, so that code behind `read_shard` sees nothing that no writer of vcorr stores.

Whoever edits shards, or copies them between runs, can make rows that look whole and give wrong numbers: two rows for
one site, the scores of another clip, positions of more points than there are. Each check names the column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.records import UNKNOWN_LAYER, InputClass, QueryMode, Readout
from vcorr.contract.tasks import MAKING_VIDEOS
from vcorr.contract.variants import switches_of
from vcorr.store.json_text import read_json
from vcorr.store.schema import NONE, TableName

MOST_SITE = 1_000_000
"""Largest number of a layer, step or head. No network comes near, and larger ones are damage."""
MOST_VALUE = 1e6
"""Largest size of a score. Scores are fractions; a metric of a plugin may have another unit."""
MOST_PIXEL = 1e6
MOST_FRAMES = 1_000_000
MOST_TOKENS = 100_000_000
"""Most tokens of one latent frame."""
_ROUNDING = 1e-3

_PREDICTED_BY = ("probe", "kind", "layer", "step", "head", "variant", "switches")
_SCORED_BY = ("probe", "metric", "variant", "switches", "layer", "step", "head")
_ATTENTION_FIELDS = 5
"""How many numbers of a point follow its peaks in the column `rows`."""


def check_rows(table: pa.Table, name: TableName) -> None:
    """Checks the rows of a table in the current layout, with its columns in their declared types.

    Raises:
        ValueError: a value cannot be right. The message names the column and has no full stop.
    """
    for column in table.column_names:
        _check_no_nulls(table, column)
    if not table.num_rows:
        if name != "tracks":  # a clip may have no tracks, but even one that failed has a row in the other tables
            raise ValueError("it has no row")
        return
    for column in ("clip", "run"):
        _check_one(table, column)
    _CHECKS[name](table)


# -------------------------------------------------------------------------------------------------------------- tables


def _check_scores(table: pa.Table) -> None:
    _check_sites(table)
    _check_known(table, "status", ("ok", "failed", "not_scored"))
    for column in ("value", "floor", "ceiling"):
        _check_range(table, column, -MOST_VALUE, MOST_VALUE)
    for column in ("n", "height", "width", "frames"):
        _check_range(table, column, 0)
    _check_range(table, "query_frame", NONE)
    _check_range(table, "still", 0, 1)
    for column in ("token_height", "token_width"):
        _check_range(table, column, 0, MOST_PIXEL)
    _check_unique(table, _SCORED_BY)
    _check_scored(table)


def _check_scored(table: pa.Table) -> None:
    """Checks that a value which was not scored is no number, and that a clip without scores has one row."""
    odd = ~_equals(table, "status", "ok") & ~np.isnan(_array(table, "value"))
    if odd.any():
        row = int(odd.argmax())
        raise ValueError(f"value is {table['value'][row]} where status is {table['status'][row]}")
    if table.num_rows > 1 and _equals(table, "metric", "").any():
        raise ValueError("metric is empty in one of several rows, and a clip without scores has one")


def _check_predictions(table: pa.Table) -> None:
    _check_known(table, "status", ("ok", "failed"))
    if "failed" in set(table["status"].to_pylist()):
        if table.num_rows > 1:
            raise ValueError("status is failed in one of several rows, and a clip that failed has one")
        return
    _check_sites(table)
    _check_variants(table)
    _check_known(table, "kind", ("positions", "rows", "video", "masks"))
    _check_unique(table, _PREDICTED_BY)
    points, latents = (_array(table, column) for column in ("points", "latents"))
    for column in ("points", "latents"):
        _check_range(table, column, 0)
    _check_grids(table)
    is_position = _equals(table, "kind", "positions")
    _check_known(table.filter(pa.array(is_position)), "readout", get_args(Readout))
    pairs = points.astype(np.int64) * latents
    _check_lengths(table, "query_frames", points)
    _check_lengths(table, "xy", np.where(is_position, 2 * pairs, 0))
    summary = points * (latents.astype(np.int64) - 1 + _ATTENTION_FIELDS)
    with_traits = pc.list_value_length(table["rows"]).to_numpy() == summary + points * len(TRAITS)
    summary = np.where(with_traits, summary + points * len(TRAITS), summary)
    _check_lengths(table, "rows", np.where(is_position, 0, summary))
    for column in ("visible", "confidence"):
        _check_lengths(table, column, np.where(is_position, pairs, 0), optional=True)
    _check_lengths(table, "noise_frames", latents, optional=True)
    _check_range(table, "query_frames", 0, MOST_FRAMES)
    _check_finite_range(table, "xy", -MOST_PIXEL, MOST_PIXEL)
    _check_range(table, "rows", -MOST_VALUE, MOST_VALUE)
    for column in ("confidence", "noise_frames"):
        _check_range(table, column, -_ROUNDING, 1 + _ROUNDING)


def _check_grids(table: pa.Table) -> None:
    """Checks that each token grid can be read, has as many frames as the row, and is not too large to compute with."""
    for row in _distinct(table, ("grid", "latents")).to_pylist():
        try:
            grid = TokenGrid.from_dict(read_json(row["grid"]))
        except (ValueError, TypeError, UsageError) as error:
            message = error.message if isinstance(error, UsageError) else str(error)
            raise ValueError(f"grid is no token grid ({message.rstrip('.')})") from error
        if grid.frames != row["latents"]:
            raise ValueError(f"latents is {row['latents']}, but grid has {grid.frames} frames")
        if grid.video_frames > MOST_FRAMES or grid.tokens_per_frame > MOST_TOKENS:
            raise ValueError(f"grid has {grid.tokens_per_frame} tokens in each of {grid.video_frames} frames")
        if max(grid.height, grid.width) > MOST_PIXEL:
            raise ValueError(f"grid covers {grid.width:g} x {grid.height:g} pixels")


def _check_tracks(table: pa.Table) -> None:
    most = 2 if table["task"][0].as_py() in MAKING_VIDEOS else 1  # forth and back
    if table.num_rows > most:
        raise ValueError(f"it has {table.num_rows} rows, and the tracks of a clip are {'two' if most > 1 else 'one'}")
    for number in range(table.num_rows):
        _check_track(table.slice(number, 1))


def _check_track(table: pa.Table) -> None:
    row = {column: table[column][0].as_py() for column in ("points", "frames", "height", "width")}
    for column in row:
        _check_range(table, column, 0)
    _check_range(table, "frames", 0, MOST_FRAMES)
    _check_range(table, "still", 0, 1)
    _check_known(table, "query_mode", get_args(QueryMode))
    _check_known(table, "input_class", get_args(InputClass))
    points, pairs = row["points"], row["points"] * row["frames"]
    for column, length in {"query_frames": points, "queries": 2 * points, "xy": 2 * pairs, "visible": pairs}.items():
        _check_lengths(table, column, np.array([length]))
    _check_lengths(table, "confidence", np.array([pairs]), optional=True)
    for column in ("boundary", "point_layers"):
        _check_lengths(table, column, np.array([points]), optional=True)
    _check_range(table, "query_frames", 0, row["frames"] - 1)
    _check_finite_range(table, "queries", -MOST_PIXEL, MOST_PIXEL)
    _check_range(table, "confidence", -_ROUNDING, 1 + _ROUNDING)
    _check_range(table, "boundary", 0, math.inf)
    _check_range(table, "point_layers", UNKNOWN_LAYER)
    seen = np.repeat(_flat(table, "visible"), 2)
    _check_numbers("xy", _flat(table, "xy")[seen], -MOST_PIXEL, MOST_PIXEL, finite=True)


_CHECKS: dict[TableName, Callable[[pa.Table], None]] = {
    "scores": _check_scores,
    "predictions": _check_predictions,
    "tracks": _check_tracks,
}


# ------------------------------------------------------------------------------------------------------------- columns


def _check_no_nulls(table: pa.Table, name: str) -> None:
    column = table[name]
    inside = sum(chunk.flatten().null_count for chunk in column.chunks) if pa.types.is_list(column.type) else 0
    if column.null_count or inside:
        raise ValueError(f"{name} has an empty cell")


def _check_one(table: pa.Table, name: str) -> None:
    found = pc.unique(table[name]).to_pylist()
    if len(found) > 1:
        raise ValueError(f"{name} is {found[0]!a} in one row and {found[1]!a} in another")


def _check_known(table: pa.Table, name: str, known: Sequence[str]) -> None:
    for value in pc.unique(table[name]).to_pylist():
        if value not in known:
            raise ValueError(f"{name} is {value[:40]!a}; it must be one of {', '.join(map(repr, known))}")


def _check_sites(table: pa.Table) -> None:
    for column in ("layer", "step", "head"):
        _check_range(table, column, NONE, MOST_SITE)
    _check_range(table, "noise", -_ROUNDING, 1 + _ROUNDING)


def _check_variants(table: pa.Table) -> None:
    for row in _distinct(table, ("variant", "switches")).to_pylist():
        try:
            switches_of("+".join(text for text in row.values() if text))
        except UsageError as error:
            raise ValueError(f"variant is {row['variant'][:40]!a} with switches {row['switches'][:40]!a}") from error


def _check_unique(table: pa.Table, names: Sequence[str]) -> None:
    """Checks that no two rows agree in all columns of `names`."""
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for name in names:
        encoded = pc.dictionary_encode(table[name].combine_chunks())
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
        codes = np.unique(codes, return_inverse=True)[1]
    found, first = np.unique(codes, return_index=True)
    if len(found) < len(codes):
        row = int(np.setdiff1d(np.arange(len(codes)), first)[0])
        where = ", ".join(f"{name} {table[name][row].as_py()!a}" for name in names if table[name][row].as_py() != "")
        raise ValueError(f"it has two rows for {where}")


def _check_range(table: pa.Table, name: str, least: float, most: float = math.inf) -> None:
    """Checks that the numbers of a column, also those in its lists, are in a range; NaN means that there is none."""
    _check_numbers(name, _flat(table, name), least, most, finite=False)


def _check_finite_range(table: pa.Table, name: str, least: float, most: float) -> None:
    _check_numbers(name, _flat(table, name), least, most, finite=True)


def _check_numbers(name: str, values: NDArray[Any], least: float, most: float, *, finite: bool) -> None:
    bad = (values < least) | (values > most)
    if finite:
        bad |= np.isnan(values)
    if bad.any():
        limit = f"at least {least:g}" + ("" if most == math.inf else f" and at most {most:g}")
        raise ValueError(f"{name} is {values[bad][0]:g}; it must be {limit}")


def _check_lengths(table: pa.Table, name: str, expected: NDArray[Any], *, optional: bool = False) -> None:
    """Checks the length of each list; optional: an empty list is right as well."""
    found = pc.list_value_length(table[name]).to_numpy()
    wrong = found != expected
    if optional:
        wrong &= found > 0
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{name} holds {found[row]} values, and the points and frames of its row need {expected[row]}")


def _distinct(table: pa.Table, names: Sequence[str]) -> pa.Table:
    return table.select(list(names)).group_by(list(names)).aggregate([])


def _array(table: pa.Table, name: str) -> NDArray[Any]:
    found: NDArray[Any] = table[name].to_numpy()
    return found


def _equals(table: pa.Table, name: str, value: str) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.equal(table[name], value).to_numpy()
    return found


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    """Returns the values of a column, or of all its lists one after the other."""
    column = table[name]
    found: NDArray[Any] = (pc.list_flatten(column) if pa.types.is_list(column.type) else column).to_numpy()
    return found
