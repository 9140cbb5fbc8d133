"""The score stage: compares stored predictions with stored tracks. Needs no model and no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase, with_defaults
from vcorr.contract.errors import PluginError, StoreError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.hit_rules import HitRule
from vcorr.contract.metric_columns import STRATUM_MARK
from vcorr.contract.modes import LEAST_ROUND_TRIP
from vcorr.contract.protocols import MaskMetric, RowMetric, TrackMetric
from vcorr.contract.records import NO_SITE, Prediction, Readout, RowsPrediction, Score, Tracks
from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.contract.variants import NamedVariant, Switches
from vcorr.metrics.bounds import zero_motion
from vcorr.metrics.ceilings import Ceilings, find_ceilings
from vcorr.metrics.score_checks import Rules, check_rules, lock_arrays
from vcorr.metrics.timemap import to_frames
from vcorr.runner.identity import SCORING_VERSION
from vcorr.runner.judges import Judge, Versioned, VersionedMetric, ask, join
from vcorr.runner.row_words import MASKS, ROWS, STATUS_FAILED, STATUS_NOT_SCORED, STATUS_OK
from vcorr.runner.scored_variants import serves
from vcorr.runner.stored_masks import StoredMasks, repeat_given
from vcorr.runner.unpacking import (
    APART,
    Stored,
    to_tracks,
    unpack_positions,
    unpack_queries,
    unpack_rows,
    unpack_tracks,
    variant_of,
)
from vcorr.store.arrow_rows import rows_of
from vcorr.store.columns import NAN, RowGroup, groups_to_table
from vcorr.store.schema import SCORES, ScoreRow

_ROUNDING = 1e-6
"""A share may differ by so much from the share that the rule of its column gives."""


Columns = Mapping[str, Any]
"""Some columns of one row."""


class _Bounds(NamedTuple):
    """The floors of all columns, and the ceilings of columns that are shares of hits."""

    floors: Mapping[str, Versioned]
    ceilings: Ceilings


@dataclass(frozen=True)
class RowContext:
    """The columns that all score rows of a run share."""

    run: str
    model: str
    weights: str
    dataset: str
    split: str
    mode: str
    seed: int
    task: str = CORRESPONDENCE
    cfg: float | None = None
    guidance: str = ""
    guidance_scale: float | None = None
    guidance_layers: str = ""
    guidance_steps: str = ""


def score_clip(
    context: RowContext,
    judges: Sequence[Judge],
    predictions: pa.Table,
    tracks: pa.Table,
    masks: StoredMasks | None = None,
) -> list[ScoreRow]:
    """Returns the rows of a clip's scores shard; arguments as of `score_groups`."""
    groups = score_groups(context, judges, predictions, tracks, masks)
    return [ScoreRow(**group.shared, **one) for group in groups for one in group.each]


def score_table(
    context: RowContext,
    judges: Sequence[Judge],
    predictions: pa.Table,
    tracks: pa.Table,
    masks: StoredMasks | None = None,
) -> pa.Table:
    """Returns the table of a clip's scores shard; arguments as of `score_groups`."""
    return groups_to_table(score_groups(context, judges, predictions, tracks, masks), ScoreRow, SCORES)


def score_groups(
    context: RowContext,
    judges: Sequence[Judge],
    predictions: pa.Table,
    tracks: pa.Table,
    masks: StoredMasks | None = None,
) -> list[RowGroup]:
    """Returns the rows of a clip's scores shard, grouped by prediction, each with value, floor and ceiling.

    masks: of a run of propagation.

    There is one row per prediction, variant that the prediction serves, and score of a metric.

    A failed clip has one row with status "failed" (metric "", layer = step = -1). A clip without tracks has one with
    status "not_scored". So has a clip that mode `invert` could not reproduce, or whose predictions no metric scores.
    These rows carry the first variant.
    """
    rows = rows_of(predictions)
    clip_id = rows[0]["clip"] if rows else ""
    failed = next((row for row in rows if row["status"] == STATUS_FAILED), None)
    if failed is not None:
        return [_empty_group(context, judges[0].variant, clip_id, STATUS_FAILED, failed["error"])]
    if not tracks.num_rows:
        return [_empty_group(context, judges[0].variant, clip_id, STATUS_NOT_SCORED, "the clip has no tracks")]
    round_trip = rows[0]["round_trip"]
    if round_trip < LEAST_ROUND_TRIP:
        why = f"the round trip of mode invert is {round_trip:.1f} dB, under {LEAST_ROUND_TRIP:g}"
        group = _empty_group(context, judges[0].variant, clip_id, STATUS_NOT_SCORED, why)
        return [group._replace(each=[{"round_trip": round_trip}])]
    stored = rows_of(tracks)[0]
    scorers = [ClipScorer(judge, stored, masks) for judge in judges]
    found = [scorer.score(context, prediction) for prediction in rows for scorer in scorers]
    why = "no metric scores what the probes predict"
    scored = [group for group in found if group.each]
    return scored or [_empty_group(context, judges[0].variant, clip_id, STATUS_NOT_SCORED, why)]


def make_failed_row(context: RowContext, judges: Sequence[Judge], predictions: pa.Table, error: str) -> ScoreRow:
    """Returns the only row of a clip for which a metric failed. error: as in the column of this name."""
    return empty_row(context, judges[0].variant, predictions["clip"][0].as_py(), STATUS_FAILED, error)


class ClipScorer:
    """Scores one clip under one variant. Floors and ceilings are computed once per grid and read-out."""

    def __init__(self, judge: Judge, tracks: Stored, masks: StoredMasks | None = None) -> None:
        self._variant = judge.variant
        self._switches = judge.variant.values
        self._of_rows = [one for one in judge.metrics if isinstance(one.metric, RowMetric)]
        self._of_tracks = [one for one in judge.metrics if isinstance(one.metric, TrackMetric)]
        self._of_masks, self._masks = [one for one in judge.metrics if isinstance(one.metric, MaskMetric)], masks
        self._of_positions = [
            one for one in judge.metrics if not isinstance(one.metric, (RowMetric, TrackMetric, MaskMetric))
        ]
        self._reference = unpack_tracks(tracks)
        lock_arrays(self._reference)
        self._queries = unpack_queries(tracks).xy
        self._clip_columns = clip_columns(tracks)
        self._grids: dict[str, TokenGrid] = {}
        self._size = (tracks["height"], tracks["width"])
        self._bounds: dict[tuple[str, Readout, str], _Bounds] = {}
        self._track_floors: Mapping[str, Versioned] | None = None

    def rows(self, context: RowContext, prediction: Stored) -> list[ScoreRow]:
        """Returns the rows of `score`, each by itself."""
        group = self.score(context, prediction)
        return [ScoreRow(**group.shared, **one) for one in group.each]

    def score(self, context: RowContext, prediction: Stored) -> RowGroup:
        """Returns the rows of one prediction; none if it was read under a variant that cannot serve this one."""
        read = variant_of(prediction)
        if not serves(prediction["kind"], prediction["layer"], read, self._variant):
            return RowGroup({}, ())
        grid = self._grid(prediction["grid"])
        shared = {**run_columns(context, self._variant), **self._clip_columns, **site_columns(prediction, grid)}
        if prediction["kind"] == MASKS:
            return RowGroup({**shared, "query_frame": 0}, list(self._score_masks()))
        return RowGroup(shared, list(self._score_points(prediction, grid)))

    def _score_points(self, prediction: Stored, grid: TokenGrid) -> Iterator[Columns]:
        """Yields the scores of a prediction about points: of an attention summary, or of positions."""
        if prediction["kind"] == ROWS:
            yield from self._attention(unpack_rows(prediction, grid), grid)
            return
        answer = unpack_positions(prediction, grid)
        self._check(prediction, grid, answer.xy)
        asked_in = self._reference.asked_in
        xy = to_frames(answer.xy, grid, self._queries, query_frame=asked_in, variant=self._switches)
        if self._of_positions:
            yield from self._positions(prediction, grid, xy)
        if self._of_tracks:
            yield from self._tracks(answer, xy)

    def _positions(self, prediction: Stored, grid: TokenGrid, xy: NDArray[np.float32]) -> Iterator[Columns]:
        """Yields the scores of positions (N, T, 2) in every frame, with floors and ceilings."""
        read = variant_of(prediction).values
        floors, ceilings = self._bounds_of(prediction["grid"], grid, prediction["readout"], read)
        for name, (score, version) in self._score(xy, grid, columns=floors.keys()).items():
            bounds = _limit_columns(name, floors, ceilings)
            _check_reachable(prediction, name, score.value, bounds)
            yield {**bounds, **score_columns(name, score, version)}

    def _score_masks(self) -> Iterator[Columns]:
        """Yields the scores of masks. The floor of an accuracy is the score of the given mask in every frame."""
        assert self._masks is not None  # a run of propagation has them
        floors = self._ask_of_masks(repeat_given(self._masks.reference))
        for name, (score, version) in self._ask_of_masks(self._masks.predicted, columns=floors.keys()).items():
            is_accuracy = name.partition(STRATUM_MARK)[0] in self._accuracies(self._of_masks)
            bounds = _limit_accuracy(floors[name].score.value) if is_accuracy else {}
            yield {**bounds, **score_columns(name, score, version)}

    def _ask_of_masks(self, predicted: NDArray[np.uint8], *, columns: Set[str] | None = None) -> dict[str, Versioned]:
        """Returns the scores of labels (T, H, W) by the metrics of masks; see `_score`."""
        assert self._masks is not None  # the caller has asked
        reference = self._masks.reference
        predicted.flags.writeable = reference.flags.writeable = False
        found = [
            (one, ask(one, "score_masks()", lambda metric: metric.score_masks(predicted, reference), columns))
            for one in self._of_masks
        ]
        return join(found)

    def _attention(self, rows: RowsPrediction, grid: TokenGrid) -> Iterator[Columns]:
        """Yields the scores of an attention summary, which have neither floor nor ceiling."""
        lock_arrays(rows)
        found = [
            (one, ask(one, "score_rows()", lambda metric: metric.score_rows(rows, self._reference, grid)))
            for one in self._of_rows
        ]
        for name, (score, version) in join(found).items():
            yield score_columns(name, score, version)

    def _tracks(self, answer: Prediction, xy: NDArray[np.float32]) -> Iterator[Columns]:
        """Yields the scores of positions (N, T, 2) and their visibility. Accuracies have a floor, and the ceiling 1."""
        floors = self._floors_of_tracks()
        for name, (score, version) in self._score_tracks(
            to_tracks(answer, xy, self._reference), columns=floors.keys()
        ).items():
            accuracies = self._accuracies(self._of_tracks)
            bounds = _limit_accuracy(floors[name].score.value) if name in accuracies else {}
            yield {**bounds, **score_columns(name, score, version)}

    def _floors_of_tracks(self) -> Mapping[str, Versioned]:
        """Returns the scores of zero motion: every point stays at its query, visible in every frame."""
        if self._track_floors is None:
            points, frames = self._reference.visible.shape
            still = Tracks(zero_motion(self._queries, frames), np.ones((points, frames), np.bool_), "still")
            self._track_floors = self._score_tracks(still)
        return self._track_floors

    @staticmethod
    def _accuracies(metrics: Sequence[VersionedMetric]) -> Set[str]:
        return {name for one in metrics for name in with_defaults(one.metric, MetricBase).accuracies}

    def _score_tracks(self, predicted: Tracks, *, columns: Set[str] | None = None) -> dict[str, Versioned]:
        """Returns the scores of tracks by the metrics of tracks; see `_score`."""
        lock_arrays(predicted)
        given = (predicted, self._reference, self._size)
        found = [
            (one, ask(one, "score_tracks()", lambda metric: metric.score_tracks(*given), columns))
            for one in self._of_tracks
        ]
        return join(found)

    def _grid(self, text: str) -> TokenGrid:
        if text not in self._grids:
            self._grids[text] = TokenGrid.from_dict(json.loads(text))
        return self._grids[text]

    def _check(self, prediction: Stored, grid: TokenGrid, xy: NDArray[np.float32]) -> None:
        points, frames = self._reference.visible.shape
        if (len(xy), grid.video_frames) != (points, frames):
            raise StoreError(
                f"Clip {prediction['clip']}: its predictions have {len(xy)} points over {grid.video_frames} frames, "
                f"its tracks have {points} over {frames}.",
                hint=APART,
            )
        if not np.array_equal(prediction["query_frames"], self._reference.asked_in):
            raise StoreError(
                f"Clip {prediction['clip']}: its predictions have their queries in other frames than its tracks.",
                hint=APART,
            )

    def _bounds_of(self, key: str, grid: TokenGrid, readout: Readout, read: Switches) -> _Bounds:
        """Returns floors and ceilings.

        The ceiling uses the read-out that made the positions and the time map that they are scored with.
        """
        known = (key, readout, read.readout)
        if known not in self._bounds:
            still = zero_motion(self._queries, grid.video_frames)
            floors = self._score(still, grid)
            ceilings = find_ceilings(
                self._rules(still, grid, floors),
                self._reference.xy,
                self._queries,
                grid,
                query_frame=self._reference.asked_in,
                readout=readout,
                variant=replace(self._switches, readout=read.readout),
            )
            self._bounds[known] = _Bounds(floors, ceilings)
        return self._bounds[known]

    def _rules(self, still: NDArray[np.float32], grid: TokenGrid, floors: Mapping[str, Versioned]) -> Rules:
        """Returns the rules of all columns that are shares of hits. floors: the scores of the tracks `still`."""
        scores = {column: score for column, (score, _) in floors.items()}
        rules: dict[str, HitRule] = {}
        for one in self._of_positions:
            with one.part.calling("hit_rules()"):
                rules.update(check_rules(one.metric, self._reference, grid, still, scores))
        return rules

    def _score(
        self, tracks: NDArray[np.floating[Any]], grid: TokenGrid, *, columns: Set[str] | None = None
    ) -> dict[str, Versioned]:
        """Returns the scores of tracks, which the metrics cannot change. columns: those that floor and ceiling have."""
        tracks.flags.writeable = False
        found = [
            (one, ask(one, "score()", lambda metric: metric.score(tracks, self._reference, grid), columns))
            for one in self._of_positions
        ]
        return join(found)


def run_columns(context: RowContext, variant: NamedVariant) -> dict[str, Any]:
    """Returns the columns that the rows of one run and variant share."""
    shared = {f.name: getattr(context, f.name) for f in fields(context)}
    numbers = {name: NAN if shared[name] is None else shared[name] for name in ("cfg", "guidance_scale")}
    return {**shared, **numbers, "variant": variant.base, "switches": variant.switches}


def clip_columns(tracks: Stored) -> dict[str, Any]:
    """Returns the columns that the rows of one clip share."""
    frames = np.unique(tracks["query_frames"])
    names = (
        *("tracker", "tracker_version", "data_hash", "still"),
        *("height", "width", "frames", "input_class", "query_mode"),
    )
    return {**{name: tracks[name] for name in names}, "query_frame": int(frames[0]) if len(frames) == 1 else NO_SITE}


def site_columns(prediction: Stored, grid: TokenGrid) -> dict[str, Any]:
    """Returns the columns that the rows of one prediction share."""
    names = ("clip", "probe", "attention", "layer", "layer_name", "step", "noise", "head", "round_trip")
    width, height = grid.stride
    return {**{name: prediction[name] for name in names}, "token_width": width, "token_height": height}


def _limit_columns(name: str, floors: Mapping[str, Versioned], ceilings: Ceilings) -> dict[str, Any]:
    """Returns floor and ceiling of one column; there are none for a column that is no share of hits."""
    if name not in ceilings.values:
        return {}
    return {
        "floor": floors[name].score.value,
        "ceiling": ceilings.values[name],
        "ceiling_kind": ceilings.kind,
    }


def _limit_accuracy(floor: float) -> dict[str, Any]:
    """Returns the columns of floor and ceiling of an accuracy of tracks; both are NaN where nothing counts."""
    return {"floor": floor, "ceiling": 1.0 if np.isfinite(floor) else NAN, "ceiling_kind": "free"}


def _check_reachable(prediction: Stored, column: str, value: float, bounds: Mapping[str, Any]) -> None:
    """Checks that a value is not above its ceiling, which would make its skill wrong.

    Raises:
        PluginError: it is. Then the probe answers between tokens, or the rule of the column is not what is counted.
    """
    if value > bounds.get("ceiling", NAN) + _ROUNDING:
        raise PluginError(
            f"Clip {prediction['clip']}: {column} of probe {prediction['probe']} is {value:.6g}, above its ceiling of "
            f"{bounds['ceiling']:.6g}, the best that read-out {prediction['readout']!r} can reach.",
            hint="A probe or model whose positions lie between tokens says readout 'free'. The hit_rules of a plugin's "
            "metric may count other pairs than its score (docs/plugins.md).",
        )


def score_columns(name: str, score: Score, version: int) -> dict[str, Any]:
    """Returns the columns of one score. name: of the column of the metric. version: of the metric."""
    return {
        "metric": name,
        "value": score.value,
        "n": score.n,
        "status": STATUS_OK if np.isfinite(score.value) else STATUS_NOT_SCORED,
        "metric_version": version,
        "scoring_version": SCORING_VERSION,
    }


def _empty_group(context: RowContext, variant: NamedVariant, clip_id: str, status: str, error: str) -> RowGroup:
    """Returns the only row of a clip without scores; see `empty_row`."""
    return RowGroup({**run_columns(context, variant), "clip": clip_id, "status": status, "error": error}, [{}])


def empty_row(context: RowContext, variant: NamedVariant, clip_id: str, status: str, error: str) -> ScoreRow:
    """Returns the only row of a clip without scores. status, error: why it has none."""
    return ScoreRow(**run_columns(context, variant), clip=clip_id, status=status, error=error)
