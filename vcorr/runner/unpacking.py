"""Makes records of the rows of stored tables: queries and tracks, and predictions as their probe returned them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vcorr.contract.errors import StoreError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.records import Prediction, Queries, RowsPrediction, Tracks
from vcorr.contract.variants import NamedVariant
from vcorr.runner.row_words import ROW_FIELDS, STATUS_OK

APART = "The shards do not belong together; repeat the run with --reuse never."
"""What to do about predictions and tracks of one clip that differ in shape."""

Stored = Mapping[str, Any]
"""One row of a table, as `vcorr.store.arrow_rows.rows_of` returns it."""


class PredictionKey(NamedTuple):
    """The columns of a prediction that decide which variants it serves."""

    probe: str
    kind: str
    layer: int
    variant: NamedVariant


def prediction_keys(predictions: pa.Table) -> tuple[PredictionKey, ...]:
    """Returns the different keys in a predictions table, once each; none if the clip failed."""
    table = predictions.filter(pc.equal(predictions["status"], STATUS_OK))
    columns = (table[name].to_pylist() for name in ("probe", "kind", "layer", "variant", "switches"))
    keys = dict.fromkeys(zip(*columns, strict=True))
    return tuple(
        PredictionKey(probe, kind, layer, NamedVariant(base, switches)) for probe, kind, layer, base, switches in keys
    )


def variant_of(row: Stored) -> NamedVariant:
    """Returns the variant that the probe was asked under, from one row of a predictions table."""
    return NamedVariant(row["variant"], row["switches"])


def unpack_queries(row: Stored) -> Queries:
    """Returns the queries in one row of a tracks table."""
    return Queries(row["query_frames"], np.asarray(row["queries"], dtype=np.float32).reshape(-1, 2))


def unpack_tracks(row: Stored) -> Tracks:
    """Returns the tracks in one row of a tracks table, with the frames of their queries."""
    shape = (row["points"], row["frames"])
    xy = np.asarray(row["xy"], dtype=np.float32).reshape(*shape, 2)
    visible = np.asarray(row["visible"], dtype=np.bool_).reshape(shape)
    return Tracks(
        xy,
        visible,
        row["tracker"],
        row["tracker_version"],
        boundary=np.asarray(row["boundary"], dtype=np.float32) if len(row["boundary"]) else None,
        confidence=_optional(row["confidence"], np.float32, shape),
        query_frame=np.asarray(row["query_frames"], dtype=np.int32),
        layer=_optional(row["point_layers"], np.int32, shape[:1]),
        query_mode=row["query_mode"],
    )


def unpack_positions(row: Stored, grid: TokenGrid) -> Prediction:
    """Returns the positions in one row of a predictions table, and visibility and confidence if the probe gave them."""
    shape = (row["points"], row["latents"])
    return Prediction(
        xy=np.asarray(row["xy"], dtype=np.float32).reshape(*shape, 2),
        visible=_optional(row["visible"], np.bool_, shape),
        confidence=_optional(row["confidence"], np.float32, shape),
        readout=row["readout"],
        **_site_fields(row, grid),
    )


def to_tracks(answer: Prediction, xy: NDArray[np.float32], reference: Tracks) -> Tracks:
    """Returns a prediction as tracks. Without a visibility of its own it is visible where it has a position.

    Args:
        answer: with one latent per frame.
        xy: (N, T, 2), its positions in every frame.
        reference: says where the queries are.

    Raises:
        StoreError: the prediction has fewer latents than frames, so that nothing says what is visible in a frame.
    """
    if answer.xy.shape[1] != xy.shape[1]:
        raise StoreError(
            f"A prediction of {answer.probe} has {answer.xy.shape[1]} latents for {xy.shape[1]} frames; metrics of "
            "tracks need one per frame.",
            hint=APART,
        )
    seen: NDArray[np.bool_] = np.asarray(np.isfinite(xy).all(axis=-1), dtype=np.bool_)
    return Tracks(
        xy,
        seen if answer.visible is None else answer.visible & seen,
        answer.probe,
        confidence=answer.confidence,
        query_frame=reference.query_frame,
        query_mode=reference.query_mode,
    )


def unpack_rows(row: Stored, grid: TokenGrid) -> RowsPrediction:
    """Returns the attention summary in one row of a predictions table; the inverse of `predict.pack_rows`."""
    packed = np.asarray(row["rows"], dtype=np.float32)
    peaks, single = grid.frames - 1, len(ROW_FIELDS)
    has_traits = packed.size > row["points"] * (peaks + single)
    packed = packed.reshape(row["points"], peaks + single + (len(TRAITS) if has_traits else 0))
    return RowsPrediction(
        peak_cross=packed[:, :peaks],
        **dict(zip(ROW_FIELDS, packed[:, peaks : peaks + single].T, strict=True)),
        traits=packed[:, peaks + single :] if has_traits else None,
        **_site_fields(row, grid),
    )


def _site_fields(row: Stored, grid: TokenGrid) -> dict[str, Any]:
    """Returns the fields that `Prediction` and `RowsPrediction` share."""
    plain = ("probe", "layer", "layer_name", "step", "head", "noise", "attention")
    noise = _optional(row["noise_frames"], np.float32, (row["latents"],))
    return {**{name: row[name] for name in plain}, "grid": grid, "variant": variant_of(row), "noise_frames": noise}


def _optional(values: Any, kind: Any, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Returns the array in a list column; None if the list is empty, which means that the probe gave none."""
    return np.asarray(values, dtype=kind).reshape(shape) if len(values) else None
