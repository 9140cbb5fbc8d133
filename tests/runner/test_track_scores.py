"""The score stage of a tracking run: stored positions, visibility and confidence reach the metrics of tracks."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support.made_tracks import HEIGHT, WIDTH, make_tables

from vcorr import MetricBase, MetricEntry, PluginError, Score, TokenGrid, Tracks
from vcorr.contract.errors import StoreError, UsageError
from vcorr.contract.variants import NamedVariant
from vcorr.metrics.tapvid_metric import TapVid
from vcorr.plugins.registry import installed
from vcorr.runner import score
from vcorr.runner.judges import VersionedMetric, make_judges
from vcorr.runner.metric_trial import check_columns
from vcorr.runner.parts import Part, metric_parts
from vcorr.runner.spec import RunSpec
from vcorr.runner.stored_tracks import pair_rows
from vcorr.store.arrow_rows import rows_of as rows_in

TAPVID = TapVid()
CONTEXT = score.RowContext("r", "m", "none", "d", "test", "renoise", 0, task="tracking")


def moving(points=4, frames=6):
    """Returns reference tracks that move 20 px of a 256 frame per frame, hidden in their third frame."""
    start = np.linspace(10, 60, points)[:, None]
    x = start + 20 * np.arange(frames)
    visible = np.ones((points, frames), bool)
    visible[:, 2] = False
    xy = np.stack([x, np.broadcast_to(start, x.shape)], axis=-1).astype(np.float32)
    return Tracks(xy, visible, "exact", query_frame=np.zeros(points, np.int32))


def rows_of(predicted, reference, *, metrics=(TAPVID,), variant="corrected", **changes):
    judges = make_judges([NamedVariant.parse(variant)], [VersionedMetric(metric, 1) for metric in metrics])
    return {
        row.metric: row for row in score.score_clip(CONTEXT, judges, *make_tables("c", predicted, reference, **changes))
    }


def test_rows_have_the_floor_of_standing_still_and_the_ceiling_one():
    reference = moving()
    found = rows_of(reference, reference)
    assert set(found) == set(TapVid.columns)
    assert all(
        (row.task, row.value, row.ceiling, row.ceiling_kind) == ("tracking", 1, 1, "free") for row in found.values()
    )
    still = Tracks(np.repeat(reference.xy[:, :1], 6, axis=1), np.ones_like(reference.visible), "still")
    expected = TapVid().score_tracks(still, replace(reference, query_mode="first"), (HEIGHT, WIDTH))
    assert {name: (row.floor, row.n) for name, row in found.items()} == {
        name: (score.value, score.n) for name, score in expected.items()
    }
    assert found["occlusion_accuracy"].floor == 4 / 5


def test_predicted_visibility_and_the_mode_of_the_queries_are_used():
    reference = moving()
    hidden = replace(reference, visible=np.zeros_like(reference.visible))
    found = rows_of(hidden, reference)
    assert (found["average_jaccard"].value, found["occlusion_accuracy"].value) == (0, 1 / 5)
    late = replace(reference, query_frame=np.full(4, 3, np.int32))
    assert rows_of(late, late)["occlusion_accuracy"].n == 4 * 2
    assert rows_of(late, late, query_mode="strided")["occlusion_accuracy"].n == 4 * 5


def test_a_prediction_without_visibility_is_visible_where_it_has_a_position():
    reference = moving()
    positions = reference.xy.copy()
    positions[:, 5] = np.nan
    found = rows_of(replace(reference, xy=np.nan_to_num(positions)), reference, visible=(), xy=positions.ravel())
    # of five frames after the query, one is hidden and one has no position
    assert found["occlusion_accuracy"].value == 3 / 5
    assert found["jaccard_1"].value == pytest.approx(3 / (4 + 1))


def test_the_published_variant_scores_the_same_rows():
    reference = moving()
    hidden = replace(reference, visible=np.zeros_like(reference.visible))
    found = rows_of(hidden, reference, variant="corrected+pooling=everything")
    assert found["occlusion_accuracy"].value == 4 / 5


class Length(MetricBase):
    """Is the mean distance per frame; it names no columns."""

    higher_is_better = False

    def score_tracks(self, predicted, reference, size):
        return {"length": Score(float(np.abs(np.diff(predicted.xy[..., 0])).mean()), predicted.xy.shape[0])}


def test_columns_of_a_metric_of_tracks_are_learnt_by_a_trial():
    entry = MetricEntry(name="length", summary=".", factory=f"{__name__}:Length", task="tracking")
    (found,) = check_columns([Part(entry, "test 1", None)])
    assert (found.columns, found.primary, found.higher_is_better) == (("length",), "length", False)


def test_an_entry_of_a_task_that_does_not_exist_is_refused():
    with pytest.raises(PluginError, match="task must be one of correspondence, tracking"):
        MetricEntry(name="length", summary=".", factory=f"{__name__}:Length", task="tracing")


def test_only_accuracies_have_a_floor():
    row = rows_of(moving(), moving(), metrics=(TapVid(), Length()))["length"]
    assert (row.value, row.ceiling_kind, row.status) == (20, "none", "ok")
    assert math.isnan(row.floor)
    assert math.isnan(row.ceiling)


def test_a_prediction_with_fewer_latents_than_frames_is_refused():
    reference = moving(frames=5)
    grid = TokenGrid(frames=2, rows=16, cols=32, stride=(8, 8), temporal_ratio=4)
    with pytest.raises(StoreError, match="one per frame"):
        rows_of(
            reference, reference, visible=(), xy=reference.xy[:, :2].ravel(), latents=2, grid=json.dumps(grid.to_dict())
        )


def test_points_without_a_position_are_shown_by_no_threshold():
    reference = moving()
    positions, sure = reference.xy.copy(), np.full(reference.visible.shape, 0.9, np.float32)
    positions[:, 5] = np.nan
    tables = make_tables("c", replace(reference, confidence=sure), reference, xy=positions.ravel())
    shown = pair_rows(*(rows_in(table)[0] for table in tables)).tracks.show_above(0.0).shown
    assert shown[:, :5].all()
    assert not shown[:, 5].any()


def test_metrics_belong_to_runs_of_their_task():
    def names(task, metrics=""):
        return [part.entry.name for part in metric_parts(RunSpec(metrics=metrics), installed(), task)]

    assert "tapvid" in names("tracking")
    assert "matching_accuracy" not in names("tracking")
    assert "tapvid" not in names("correspondence")
    with pytest.raises(UsageError, match="'tapvid' is for runs of the task tracking; this run is of the task corr"):
        names("correspondence", "tapvid")
    with pytest.raises(UsageError, match="'pck' is for runs of the task correspondence"):
        names("tracking", "tapvid,pck")
