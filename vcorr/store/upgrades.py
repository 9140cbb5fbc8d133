"""Upgrades tables and records of earlier layouts, one version at a time (docs/results-format.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vcorr.store import schema as schemas
from vcorr.store.columns import NAN, describe_columns

RECORD_VERSION = 2
"""Version of the layout of run.json."""


def upgrade_table(table: pa.Table, name: schemas.TableName, version: int) -> pa.Table:
    """Adds the columns that layout `version` did not have; the others come in their types of now.

    Raises:
        KeyError, ValueError, pyarrow.ArrowException: the table lacks a column of its own layout, or a value is odd.
    """
    if version == schemas.SCHEMA_VERSION:
        return table
    for step in _STEPS[version - 1 :]:
        table = step(table, name)
    return table


def upgrade_record(values: dict[str, Any]) -> dict[str, Any]:
    """Converts the contents of a run.json to the current layout.

    From 1 to 2: the strength of classifier-free guidance was called `guidance`, which now names a method.
    """
    if values.get("record_version", 1) >= RECORD_VERSION:
        return values
    spec, resolved = values.get("spec"), values.get("resolved")
    found = {**values, "record_version": RECORD_VERSION}
    if isinstance(spec, dict):
        found["spec"] = _rename_guidance(spec)
    if isinstance(resolved, dict) and isinstance(resolved.get("settings"), dict):
        found["resolved"] = {**resolved, "settings": _rename_guidance(resolved["settings"])}
    return found


def _rename_guidance(values: dict[str, Any]) -> dict[str, Any]:
    return {("cfg" if name == "guidance" else name): value for name, value in values.items()}


def _with_licence(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """Upgrades layout 1 to 2: tracks had no licence."""
    if name == "tracks":
        table = table.append_column("licence", pa.array([""] * table.num_rows, pa.string()))
    return table


def _with_variants(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """Upgrades layout 2 to 3: `corrected` was the only variant of a run, and no switch could be flipped."""
    if name == "predictions":
        table = table.append_column("variant", pa.array(["corrected"] * table.num_rows, pa.string()))
    if name != "tracks":
        table = table.append_column("switches", pa.array([""] * table.num_rows, pa.string()))
    return table


def _with_boundary(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """Upgrades layout 3 to 4: tracks had no distance from a point to a boundary between layers."""
    return _with_unknown(table, "boundary", pa.float32()) if name == "tracks" else table


def _with_time_and_content(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """Upgrades layout 4 to 5: all queries were in frame 0, and the only task was correspondence.

    Values that were not recorded, such as the hash of the content, are neutral. The kind of a ceiling is unknown.
    """
    if name == "scores":
        asked = pc.if_else(pc.equal(table["metric"], ""), schemas.NONE, 0).cast(pa.int32())
        mode = pc.if_else(pc.equal(table["metric"], ""), "", "frame")
        known = pc.if_else(pc.is_nan(table["ceiling"]), "none", "")
        for column, values in {"query_frame": asked, "query_mode": mode, "ceiling_kind": known}.items():
            table = table.append_column(column, values)
    else:
        table = table.append_column("query_frames", pa.array(_zeros(table), pa.list_(pa.int32())))
    return _complete(table, name)


def _with_stillness(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """Upgrades layout 5 to 6: nothing said how still a clip is."""
    if name != "predictions":
        table = table.append_column("still", pa.array([NAN] * table.num_rows, pa.float32()))
    return table


def _with_layers(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """Upgrades layout 6 to 7: tracks had no layer of a point."""
    return _with_unknown(table, "point_layers", pa.int32()) if name == "tracks" else table


def _with_unknown(table: pa.Table, column: str, kind: pa.DataType) -> pa.Table:
    """Adds a column of lists that are empty in every row, because their numbers are not known."""
    unknown: list[list[float]] = [[] for _ in range(table.num_rows)]
    return table.append_column(column, pa.array(unknown, pa.list_(kind)))


def _zeros(table: pa.Table) -> list[Any]:
    """Returns a zero for each point of each row. Points have numbers of their own, so a file cannot ask for more."""
    lists = [name for name in ("queries", "xy", "rows") if name in table.column_names]
    stored = sum(len(pc.list_flatten(table[name])) for name in lists)
    points = table["points"].to_pylist()
    if any(count is None or count < 0 for count in points) or sum(points) > stored:
        raise ValueError("points does not fit to the positions")
    return [np.zeros(count, np.int32) for count in points]


def _complete(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """Adds every column that came with layout 5, with its neutral value."""
    since = _SINCE_5[name]
    for column in describe_columns(schemas.ROWS[name]):
        if column.name in since and column.name not in table.column_names:
            table = table.append_column(column.name, pa.array([column.neutral] * table.num_rows, column.type))
    return table


_SINCE_5: dict[schemas.TableName, tuple[str, ...]] = {
    "scores": (
        *(
            "task",
            "ceiling_kind",
            "metric_version",
            "scoring_version",
            "tracker_version",
            "data_hash",
            "height",
            "width",
        ),
        *("frames", "token_height", "token_width", "input_class", "query_frame", "query_mode", "round_trip", "cfg"),
        *("guidance", "guidance_scale", "guidance_layers", "guidance_steps", "cut_kind", "cut_sites", "cut_dose"),
    ),
    "predictions": ("query_frames", "visible", "confidence", "noise_frames", "round_trip", "task"),
    "tracks": ("data_hash", "input_class", "query_mode", "query_frames", "confidence", "task"),
}
"""Columns that came with layout 5. A table of an earlier layout that lacks another column is damaged."""

_STEPS = (_with_licence, _with_variants, _with_boundary, _with_time_and_content, _with_stillness, _with_layers)
"""_STEPS[v - 1] upgrades layout v to v + 1."""
