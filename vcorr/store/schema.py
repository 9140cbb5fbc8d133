"""The three tables of a run directory and the version of their layout (docs/results-format.md).

Positions are (x, y) raster pixels of the video as the model read it, flattened row-major from (N, F, 2) or (N, T, 2).
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

SCHEMA_VERSION = 4

TableName = Literal["predictions", "tracks", "scores"]

VERSION_KEY = b"vcorr.schema_version"
TABLE_KEY = b"vcorr.table"
FINGERPRINT_KEY = b"vcorr.fingerprint"
UNITS_KEY = b"vcorr.units"

_TEXT = pa.string()
_XY = pa.list_(pa.float32())

SCORES = pa.schema(
    [
        ("run", _TEXT),
        ("model", _TEXT),
        ("attention", _TEXT),
        ("weights", _TEXT),
        ("probe", _TEXT),
        ("dataset", _TEXT),
        ("split", _TEXT),
        ("mode", _TEXT),
        ("tracker", _TEXT),
        ("clip", _TEXT),
        ("layer", pa.int32()),
        ("layer_name", _TEXT),
        ("step", pa.int32()),
        ("noise", pa.float32()),
        ("head", pa.int32()),
        ("metric", _TEXT),
        ("variant", _TEXT),
        ("value", pa.float32()),
        ("floor", pa.float32()),
        ("ceiling", pa.float32()),
        ("n", pa.int32()),
        ("seed", pa.int64()),
        ("status", _TEXT),
        ("error", _TEXT),
        ("switches", _TEXT),
    ]
)

PREDICTIONS = pa.schema(
    [
        ("run", _TEXT),
        ("clip", _TEXT),
        ("probe", _TEXT),
        ("kind", _TEXT),
        ("attention", _TEXT),
        ("layer", pa.int32()),
        ("layer_name", _TEXT),
        ("step", pa.int32()),
        ("noise", pa.float32()),
        ("head", pa.int32()),
        ("variant", _TEXT),
        ("switches", _TEXT),
        ("readout", _TEXT),
        ("grid", _TEXT),
        ("points", pa.int32()),
        ("latents", pa.int32()),
        ("xy", _XY),
        ("rows", _XY),
        ("status", _TEXT),
        ("error", _TEXT),
    ]
)

TRACKS = pa.schema(
    [
        ("run", _TEXT),
        ("clip", _TEXT),
        ("dataset", _TEXT),
        ("split", _TEXT),
        ("prompt", _TEXT),
        ("tracker", _TEXT),
        ("tracker_version", pa.int32()),
        ("licence", _TEXT),
        ("video", _TEXT),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("frames", pa.int32()),
        ("points", pa.int32()),
        ("queries", _XY),
        ("xy", _XY),
        ("visible", pa.list_(pa.bool_())),
        ("boundary", _XY),
    ]
)

_SCHEMAS: dict[TableName, pa.Schema] = {"predictions": PREDICTIONS, "tracks": TRACKS, "scores": SCORES}

_UNITS: dict[TableName, str] = {
    "predictions": "xy: pixels (x right, y down, outer corner of the first pixel at 0); noise: sigma/(alpha+sigma)",
    "tracks": "xy, queries, boundary, height, width: pixels (x right, y down, outer corner of the first pixel at 0)",
    "scores": "value, floor, ceiling: fractions in [0, 1]; noise: sigma/(alpha+sigma); "
    "layer, step, head: 0-based, -1 where there is none",
}


def schema(table: TableName, fingerprint: str = "") -> pa.Schema:
    """The schema of a table with its metadata: layout version, units, fingerprint of the stage that wrote it."""
    return _SCHEMAS[table].with_metadata(
        {
            VERSION_KEY: str(SCHEMA_VERSION),
            TABLE_KEY: table,
            UNITS_KEY: _UNITS[table],
            FINGERPRINT_KEY: fingerprint,
        }
    )
