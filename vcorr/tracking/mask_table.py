"""The table of how well masks were carried through the clips of a dataset: one row per object, and its summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vcorr.stats.intervals import Interval, mean_interval
from vcorr.store.atomic_files import atomic_file
from vcorr.store.columns import NAN, Float, Int32, Int64, Text, arrow_schema, column, units
from vcorr.store.schema import TABLE_KEY, UNITS_KEY, VERSION_KEY

TABLE = "propagation"
TABLE_VERSION = 1
_SHARE = "fractions in [0, 1]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRow:
    """How well the mask of one object was carried through one clip."""

    model: Text = column("", "Model or tracker that carried the mask.")
    weights: Text = column("", "What identifies its weights; `none` without weights.")
    probe: Text = column("", "Probe; empty without attention sites.")
    layers: Text = column("", "Layers, with commas; empty without attention sites.")
    step: Int32 = column(-1, "Step; -1 without noise.")
    seed: Int64 = column(0, "Seed of the noise.")
    context: Int32 = column(0, "Frames just before a frame that gave it labels; 0 if points carried the mask.")
    radius: Int32 = column(0, "Farthest row and column of tokens that gave labels; likewise.", "tokens")
    top_k: Int32 = column(0, "Number of tokens that gave a token its labels; likewise.")
    dataset: Text = column("", "Name of the dataset.")
    split: Text = column("", "Split of the dataset.")
    clip: Text = column("", "Id of the clip.")
    label: Int32 = column(0, "Label of the object.")
    region: Float = column(NAN, "J, the region similarity.", _SHARE)
    contour: Float = column(NAN, "F, the contour accuracy.", _SHARE)
    frames: Int32 = column(0, "Number of frames that count: all but the first and the last.")
    status: Text = column("ok", "`ok`, or `failed` in the one row of a clip that failed.")
    error: Text = column("", "First line of the error of a failed clip.")


@dataclass(frozen=True)
class Measure:
    """The mean of one score over clips, with its interval, and over all objects, as DAVIS reports it."""

    clips: Interval
    objects: float


@dataclass(frozen=True)
class MaskSummary:
    """What a table says. region, contour, both: J, F and J&F. counted: clips and objects that were scored."""

    region: Measure
    contour: Measure
    both: Measure
    counted: tuple[int, int]
    failed: int


def summarise_masks(rows: Sequence[ObjectRow]) -> MaskSummary:
    """Returns means and intervals; every clip counts once, as the mean of its objects."""
    scored = [row for row in rows if row.status == "ok" and not math.isnan(row.region)]
    by_clip: dict[str, list[ObjectRow]] = {}
    for row in scored:
        by_clip.setdefault(row.clip, []).append(row)
    each: dict[str, Callable[[ObjectRow], float]] = {
        "region": lambda row: row.region,
        "contour": lambda row: row.contour,
        "both": lambda row: (row.region + row.contour) / 2,
    }
    measures = {}
    for name, take in each.items():
        clips = [float(np.mean([take(row) for row in group])) for group in by_clip.values()]
        objects = float(np.mean([take(row) for row in scored])) if scored else math.nan
        measures[name] = Measure(mean_interval(np.array(clips or [math.nan])), objects)
    failed = sum(row.status == "failed" for row in rows)
    return MaskSummary(**measures, counted=(len(by_clip), len(scored)), failed=failed)


def write_mask_table(path: Path, rows: Sequence[ObjectRow]) -> None:
    """Writes the rows as an Arrow IPC file; atomic.

    Raises:
        StoreError: the file cannot be written.
    """
    metadata = {VERSION_KEY: str(TABLE_VERSION), TABLE_KEY: TABLE, UNITS_KEY: units(ObjectRow)}
    schema = arrow_schema(ObjectRow).with_metadata(metadata)
    table = pa.Table.from_pylist([{name: getattr(row, name) for name in schema.names} for row in rows], schema=schema)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        atomic_file(path) as temporary,
        pa.OSFile(temporary, "wb") as sink,
        pa.ipc.new_file(sink, schema, options=options) as writer,
    ):
        writer.write_table(table)
