"""The score stage: stored predictions against stored tracks. No model, no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vcorr.bases import MetricBase, with_defaults
from vcorr.errors import StoreError
from vcorr.geometry import TokenGrid
from vcorr.metrics.bounds import ceiling_tracks, zero_motion
from vcorr.metrics.timemap import to_frames
from vcorr.protocols import Metric, RowMetric
from vcorr.records import NO_SITE, Readout, RowsPrediction, Score, Tracks
from vcorr.stages.predict import ROW_FIELDS, ROWS, STATUS_FAILED, STATUS_NOT_SCORED, STATUS_OK, Row
from vcorr.stages.variants import serves
from vcorr.store.rows import rows_of
from vcorr.variants import NamedVariant, Switches

_Scores = Mapping[str, Score]


@dataclass(frozen=True)
class RowContext:
    """The columns every score row of a run shares."""

    run: str
    model: str
    weights: str
    dataset: str
    split: str
    mode: str
    seed: int


@dataclass(frozen=True)
class Judge:
    """A variant to score under, with the metrics as they are under it."""

    variant: NamedVariant
    metrics: tuple[Metric | RowMetric, ...]


def judges(variants: Iterable[NamedVariant], metrics: Sequence[Metric | RowMetric]) -> tuple[Judge, ...]:
    """One a variant. Metrics without an `under` of their own are the same under every variant."""
    return tuple(
        Judge(
            variant,
            tuple(_under(metric, variant.values) for metric in metrics),
        )
        for variant in variants
    )


def _under(metric: Metric | RowMetric, variant: Switches) -> Metric | RowMetric:
    judging: Any = with_defaults(metric, MetricBase).under(variant)
    found: Metric | RowMetric = judging
    return found


def score_clip(context: RowContext, judges: Sequence[Judge], predictions: pa.Table, tracks: pa.Table) -> list[Row]:
    """The rows of a clip's scores shard: every prediction under every variant that it serves and under every metric,
    floor and ceiling beside the value.

    A failed clip gives one row (metric "", layer = step = -1, status "failed"); a clip without tracks one with status
    "not_scored". They carry the first variant.
    """
    rows = rows_of(predictions)
    clip_id = rows[0]["clip"] if rows else ""
    failed = next((row for row in rows if row["status"] == STATUS_FAILED), None)
    if failed is not None:
        return [_empty_row(context, judges[0].variant, clip_id, STATUS_FAILED, failed["error"])]
    if not tracks.num_rows:
        return [_empty_row(context, judges[0].variant, clip_id, STATUS_NOT_SCORED, "the clip has no tracks")]
    stored = rows_of(tracks)[0]
    queries = np.asarray(stored["queries"], dtype=np.float32).reshape(-1, 2)
    reference = stored_tracks(stored)
    scorers = [_ClipScorer(judge, reference, queries) for judge in judges]
    return [row for prediction in rows for scorer in scorers for row in scorer.rows(context, prediction)]


class AnswerKey(NamedTuple):
    """What of a prediction says which variants it serves."""

    probe: str
    kind: str
    layer: int
    variant: NamedVariant


def answers_of(predictions: pa.Table) -> tuple[AnswerKey, ...]:
    """The different ones of a predictions table; none of a clip that failed."""
    table = predictions.filter(pc.equal(predictions["status"], STATUS_OK))
    columns = (table[name].to_pylist() for name in ("probe", "kind", "layer", "variant", "switches"))
    keys = dict.fromkeys(zip(*columns, strict=True))
    return tuple(
        AnswerKey(probe, kind, layer, NamedVariant(base, switches)) for probe, kind, layer, base, switches in keys
    )


def read_under(prediction: Row) -> NamedVariant:
    """The variant under which a row of a predictions table was read."""
    return NamedVariant(prediction["variant"], prediction["switches"])


def stored_tracks(row: Row) -> Tracks:
    """The tracks of one row of a tracks table."""
    shape = (row["points"], row["frames"])
    xy = np.asarray(row["xy"], dtype=np.float32).reshape(*shape, 2)
    visible = np.asarray(row["visible"], dtype=np.bool_).reshape(shape)
    boundary = np.asarray(row["boundary"], dtype=np.float32) if len(row["boundary"]) else None
    return Tracks(xy, visible, row["tracker"], row["tracker_version"], boundary=boundary)


def unpack_rows(prediction: Row, grid: TokenGrid) -> RowsPrediction:
    """The attention rows of one row of a predictions table; the inverse of `pack_rows`."""
    columns = grid.frames - 1 + len(ROW_FIELDS)
    packed = np.asarray(prediction["rows"], dtype=np.float32).reshape(prediction["points"], columns)
    single = dict(zip(ROW_FIELDS, packed[:, grid.frames - 1 :].T, strict=True))
    return RowsPrediction(prediction["probe"], packed[:, : grid.frames - 1], grid=grid, **single)


class _ClipScorer:
    """Scores of one clip under one variant; floors and ceilings are computed once for every grid and read-out that
    occurs.
    """

    def __init__(self, judge: Judge, reference: Tracks, queries: NDArray[np.float32]) -> None:
        self._variant = judge.variant
        self._switches = judge.variant.values
        self._metrics = judge.metrics
        self._reference = reference
        self._queries = queries
        self._grids: dict[str, TokenGrid] = {}
        self._bounds: dict[tuple[str, Readout, str], tuple[_Scores, _Scores]] = {}

    def rows(self, context: RowContext, prediction: Row) -> Iterable[Row]:
        """The rows of one prediction; none where it was read under a variant that cannot serve this one."""
        read = read_under(prediction)
        if not serves(prediction["kind"], prediction["layer"], read, self._variant):
            return
        grid = self._grid(prediction["grid"])
        if prediction["kind"] == ROWS:
            yield from self._attention(context, prediction, grid)
            return
        xy = np.asarray(prediction["xy"], dtype=np.float32).reshape(prediction["points"], prediction["latents"], 2)
        self._check(prediction, grid, xy)
        floors, ceilings = self._bounds_of(prediction["grid"], grid, prediction["readout"], read.values)
        asked_in = self._reference.asked_in
        tracks = to_frames(xy, grid, self._queries, query_frame=asked_in, variant=self._switches)
        for name, score in self._score(tracks, grid).items():
            yield {
                **_row(context, self._variant, prediction, self._reference.tracker),
                "metric": name,
                "value": score.value,
                "floor": floors[name].value,
                "ceiling": ceilings[name].value,
                "n": score.n,
                "status": STATUS_OK if np.isfinite(score.value) else STATUS_NOT_SCORED,
                "error": "",
            }

    def _attention(self, context: RowContext, prediction: Row, grid: TokenGrid) -> Iterable[Row]:
        """Scores of attention rows; they have neither floor nor ceiling."""
        rows = unpack_rows(prediction, grid)
        for metric in self._metrics:
            if not isinstance(metric, RowMetric):
                continue
            for name, score in metric.score_rows(rows, self._reference, grid).items():
                yield {
                    **_row(context, self._variant, prediction, self._reference.tracker),
                    "metric": name,
                    "value": score.value,
                    "floor": float("nan"),
                    "ceiling": float("nan"),
                    "n": score.n,
                    "status": STATUS_OK if np.isfinite(score.value) else STATUS_NOT_SCORED,
                    "error": "",
                }

    def _grid(self, text: str) -> TokenGrid:
        if text not in self._grids:
            self._grids[text] = TokenGrid.from_dict(json.loads(text))
        return self._grids[text]

    def _check(self, prediction: Row, grid: TokenGrid, xy: NDArray[np.float32]) -> None:
        points, frames = self._reference.visible.shape
        if (len(xy), grid.video_frames) != (points, frames):
            raise StoreError(
                f"Clip {prediction['clip']}: its predictions have {len(xy)} points over {grid.video_frames} frames, "
                f"its tracks {points} over {frames}.",
                hint="The shards do not belong together; repeat the run with --reuse never.",
            )

    def _bounds_of(self, key: str, grid: TokenGrid, readout: Readout, read: Switches) -> tuple[_Scores, _Scores]:
        """The ceiling is that of the read-out the positions came from, under the time map they go through."""
        known = (key, readout, read.readout)
        if known not in self._bounds:
            still = zero_motion(self._queries, grid.video_frames)
            switches = replace(self._switches, readout=read.readout)
            asked_in = self._reference.asked_in
            best = ceiling_tracks(
                self._reference.xy, self._queries, grid, query_frame=asked_in, readout=readout, variant=switches
            )
            self._bounds[known] = (self._score(still, grid), self._score(best, grid))
        return self._bounds[known]

    def _score(self, tracks: NDArray[np.floating[Any]], grid: TokenGrid) -> dict[str, Score]:
        return {
            name: score
            for metric in self._metrics
            if not isinstance(metric, RowMetric)
            for name, score in metric.score(tracks, self._reference, grid).items()
        }


def _row(context: RowContext, variant: NamedVariant, prediction: Row, tracker: str) -> Row:
    return {
        "run": context.run,
        "model": context.model,
        "attention": prediction["attention"],
        "weights": context.weights,
        "probe": prediction["probe"],
        "dataset": context.dataset,
        "split": context.split,
        "mode": context.mode,
        "tracker": tracker,
        "clip": prediction["clip"],
        "layer": prediction["layer"],
        "layer_name": prediction["layer_name"],
        "step": prediction["step"],
        "noise": prediction["noise"],
        "head": prediction["head"],
        "variant": variant.base,
        "switches": variant.switches,
        "seed": context.seed,
    }


def _empty_row(context: RowContext, variant: NamedVariant, clip_id: str, status: str, error: str) -> Row:
    nothing = {
        "attention": "",
        "probe": "",
        "clip": clip_id,
        "layer": NO_SITE,
        "layer_name": "",
        "step": NO_SITE,
        "noise": float("nan"),
        "head": NO_SITE,
    }
    return {
        **_row(context, variant, nothing, ""),
        "metric": "",
        "value": float("nan"),
        "floor": float("nan"),
        "ceiling": float("nan"),
        "n": 0,
        "status": status,
        "error": error,
    }
