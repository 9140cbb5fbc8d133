"""Matching accuracy by kind of pair: by construction, against a loop over pairs, through the stages."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import sliding

from vcorr import TokenGrid, Tracks, UsageError
from vcorr.metrics import MatchingAccuracy
from vcorr.metrics.strata import Strata, StrataConfig
from vcorr.plugins import builtin, registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import RunSpec
from vcorr.runner.unpacking import unpack_tracks
from vcorr.testing import assert_passed, check_metric

fast = settings(max_examples=40, deadline=None, derandomize=True)
GRID = TokenGrid(frames=6, rows=8, cols=8, stride=(8, 8))
CONFIG = StrataConfig(displacement=(1, 2), frames=(1, 3), near=1, boundary=(0.5, 1), pairs=("moving", "all"))
DIMENSIONS = ("displacement", "frames", "reappeared", "occlusion", "boundary", "layer")


def clip(seed=0, points=5, frames=6, boundary=True, later=False, layer=True):
    generator = np.random.default_rng(seed)
    start = generator.uniform(8, 56, (points, 1, 2))
    xy = (start + generator.normal(0, 6, (points, 1, 2)) * np.arange(frames)[:, None]).astype(np.float32)
    visible = generator.random((points, frames)) < 0.7
    xy[~visible] = np.nan
    edge = generator.uniform(0, 12, points).astype(np.float32)
    edge[generator.random(points) < 0.3] = np.nan
    asked = generator.integers(0, frames, points, dtype=np.int32) if later else None
    tracks = Tracks(
        xy,
        visible,
        "exact",
        boundary=edge if boundary else None,
        query_frame=asked,
        layer=generator.integers(-1, 3, points, dtype=np.int32) if layer else None,
    )
    return np.nan_to_num(xy) + generator.normal(0, 3, xy.shape).astype(np.float32), tracks


def slow_strata(tracks, reference, n, t):
    """Returns the strata of one pair, in words."""
    visible, asked = reference.visible, reference.asked_in[n]
    away, between = abs(t - asked), range(min(t, asked), max(t, asked))
    moved = np.hypot(*(reference.xy[n, t] - reference.xy[n, asked]).astype(float)) / 8
    hidden = [u for u in range(visible.shape[1]) if not visible[n, u]]
    found = {
        "displacement": "0-1" if moved <= 1 else "1-2" if moved <= 2 else "2+",
        "frames": "0-1" if away <= 1 else "1-3" if away <= 3 else "3+",
        "reappeared": "yes" if any(u in between for u in hidden) else "no",
        "occlusion": "near" if any(abs(u - t) <= 1 for u in hidden) else "far",
    }
    edge = math.nan if reference.boundary is None else reference.boundary[n] / 8
    if not math.isnan(edge):
        found["boundary"] = "0-0.5" if edge <= 0.5 else "0.5-1" if edge <= 1 else "1+"
    if reference.layer is not None and reference.layer[n] >= 0:
        found["layer"] = "foreground" if reference.layer[n] else "background"
    return found


@fast
@given(seed=st.integers(0, 10_000), boundary=st.booleans(), later=st.booleans(), layer=st.booleans())
def test_it_agrees_with_the_loop_over_pairs(seed, boundary, later, layer):
    tracks, reference = clip(seed, boundary=boundary, later=later, layer=layer)
    right, pairs = {}, {}
    for n in np.flatnonzero(reference.visible[np.arange(5), reference.asked_in]):
        for t in range(6):
            if reference.visible[n, t] and t != reference.asked_in[n]:
                hit = np.hypot(*(tracks[n, t] - reference.xy[n, t]).astype(float)) < 4
                moved = np.hypot(*(reference.xy[n, t] - reference.xy[n, reference.asked_in[n]]).astype(float)) > 8
                for dimension, label in slow_strata(tracks, reference, n, t).items():
                    for suffix in ("", "_moving") if moved else ("",):
                        name = f"matching_accuracy{suffix}@{dimension}:{label}"
                        pairs[name] = pairs.get(name, 0) + 1
                        right[name] = right.get(name, 0) + hit
    metric = Strata(CONFIG)
    scores = metric.score(tracks, reference, GRID)
    assert len(scores) == 2 * (3 + 3 + 2 + 2 + 3 + 2)
    assert set(pairs) <= set(scores) == set(metric.columns)
    for name, score in scores.items():
        assert score.n == pairs.get(name, 0)
        assert score.value == pytest.approx(right[name] / pairs[name]) if score.n else math.isnan(score.value)


@fast
@given(seed=st.integers(0, 10_000), variant=st.sampled_from(["corrected", "difftrack"]))
def test_the_strata_of_a_dimension_make_up_the_whole(seed, variant):
    tracks, reference = clip(seed)
    reference = Tracks(
        *(np.nan_to_num(reference.xy), reference.visible, "exact"),
        boundary=np.ones(5, np.float32),
        layer=np.abs(reference.layer),
    )
    scores = Strata(CONFIG, variant=variant).score(tracks, reference, GRID)
    wholes = MatchingAccuracy(variant=variant).score(tracks, reference, GRID)
    for dimension, (column, score) in itertools.product(DIMENSIONS, wholes.items()):
        parts = [score for name, score in scores.items() if name.startswith(f"{column}@{dimension}:")]
        pairs = sum(score.n for score in parts)
        assert pairs == score.n
        if pairs:
            assert sum(part.value * part.n for part in parts if part.n) / pairs == pytest.approx(score.value)


def score_all_pairs(tracks, reference):
    """Returns the scores of all pairs, by the dimension and the stratum."""
    scores = Strata(dataclasses.replace(CONFIG, pairs=("all",))).score(tracks, reference, GRID)
    return {name.removeprefix("matching_accuracy@"): score for name, score in scores.items()}


def test_one_wrong_pair_takes_its_share_from_its_strata_alone():
    xy = np.repeat(np.float32([[8, 8], [20, 20]])[:, None], 6, axis=1)
    xy[1, :, 0] += 12 * np.arange(6)  # 1.5 strides a frame
    reference = Tracks(xy, np.ones((2, 6), dtype=bool), "exact")
    tracks = xy.copy()
    tracks[1, 1] += 5  # moved 1.5 strides, one frame after the query
    found = {name: (score.value, score.n) for name, score in score_all_pairs(tracks, reference).items() if score.n}
    assert found == {
        "displacement:0-1": (1, 5),
        "displacement:1-2": (0, 1),
        "displacement:2+": (1, 4),
        "frames:0-1": (0.5, 2),
        "frames:1-3": (1, 4),
        "frames:3+": (1, 4),
        "reappeared:no": (0.9, 10),
        "occlusion:far": (0.9, 10),
    }


def test_a_point_that_is_hidden_for_a_while():
    visible = np.ones((1, 6), dtype=bool)
    visible[0, 3] = False
    reference = Tracks(np.full((1, 6, 2), 8, dtype=np.float32), visible, "exact")
    n = {name: score.n for name, score in score_all_pairs(reference.xy, reference).items()}
    assert (n["reappeared:no"], n["reappeared:yes"]) == (2, 2)  # frames 1, 2 before it; 4, 5 after it
    assert (n["occlusion:near"], n["occlusion:far"]) == (2, 2)  # frames 2, 4; 1, 5


def test_no_boundary_known_and_none_there():
    tracks, reference = clip(boundary=False)
    scores = Strata().score(tracks, reference, GRID)
    assert {score.n for name, score in scores.items() if "@boundary" in name} == {0}
    away = Tracks(reference.xy, reference.visible, "exact", boundary=np.full(5, np.inf, np.float32))
    scores = Strata().score(tracks, away, GRID)
    assert scores["matching_accuracy@boundary:2+"].n > 0


def test_one_query_on_the_background_and_two_in_front_of_it():
    xy = np.repeat(np.float32([[8, 8], [20, 20], [40, 40], [50, 8]])[:, None], 6, axis=1)
    xy[2, 3:] += 12  # the third point moves in its last three frames
    reference = Tracks(xy, np.ones((4, 6), dtype=bool), "exact", layer=np.int32([0, 1, 3, -1]))
    still = np.repeat(xy[:, :1], 6, axis=1)
    scores = Strata(StrataConfig(pairs=("all", "moving"))).score(still, reference, GRID)
    found = {name: (score.value, score.n) for name, score in scores.items() if "@layer" in name}
    assert found.pop("matching_accuracy_moving@layer:background")[1] == 0
    assert found == {
        "matching_accuracy@layer:background": (1, 5),
        "matching_accuracy@layer:foreground": (0.7, 10),
        "matching_accuracy_moving@layer:foreground": (0, 3),
    }


def test_no_layer_known():
    tracks, reference = clip(layer=False)
    for layer in (None, np.full(5, -1, np.int32)):
        scores = Strata().score(tracks, dataclasses.replace(reference, layer=layer), GRID)
        assert {score.n for name, score in scores.items() if "@layer" in name} == {0}


@pytest.mark.parametrize("pairs", [("all",), ("moving",), ("all", "moving")])
def test_the_contract_of_metrics(pairs):
    assert_passed(check_metric(Strata(StrataConfig(pairs=pairs))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"displacement": ()}, "displacement must be rising"),
        ({"frames": (4, 4)}, "frames must be rising"),
        ({"frames": (-1, 4)}, "frames must be rising"),
        ({"boundary": (1, math.inf)}, "boundary must be rising"),
        ({"near": 0}, "near must be at least 1"),
        ({"pairs": ()}, "pairs must be all, moving or both"),
        ({"pairs": ("all", "all")}, "pairs must be all, moving or both"),
        ({"pairs": ("still",)}, "pairs must be all, moving or both"),
    ],
)
def test_options_that_make_no_strata(options, message):
    with pytest.raises(UsageError, match=message):
        StrataConfig(**options)


def test_tracks_refuse_distances_that_are_none():
    xy, visible = np.zeros((2, 3, 2), np.float32), np.ones((2, 3), dtype=bool)
    with pytest.raises(UsageError, match=r"boundary must have shape \(2,\)"):
        Tracks(xy, visible, "exact", boundary=np.zeros(3, np.float32))
    with pytest.raises(UsageError, match="cannot be negative"):
        Tracks(xy, visible, "exact", boundary=np.float32([1, -1]))


# ---------------------------------------------------------------------------------------------------------- the stages


class Edged(sliding.SlidingData):
    """The sliding pictures, with a boundary at the left border. Every other point is in front of the background."""

    def clip(self, clip_id):
        found = super().clip(clip_id)
        return type(found)(
            id=found.id,
            prompt=found.prompt,
            queries=found.queries,
            video=found.video,
            tracks=Tracks(
                found.tracks.xy,
                found.tracks.visible,
                "exact",
                boundary=found.queries.xy[:, 0],
                layer=np.arange(len(found.queries), dtype=np.int32) % 2,
            ),
        )


def test_floors_and_ceilings_are_per_stratum_and_old_runs_can_be_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(sliding, "SlidingData", Edged)
    installed = registry.Registry(
        [registry.PluginSource(m.__name__, m.__name__, "1", lambda m=m: m) for m in (builtin, sliding)]
    )
    spec = RunSpec(model="sliding-model", probe="qk", steps="last", limit=1)
    run = execute(make_plan(spec, installed), tmp_path).run
    rescore(run, installed, RunSpec(metrics="strata"))
    rows = {row["metric"].split("@")[1]: row for row in run.read("scores").to_pylist() if row["layer"] == 1}
    # everything moves by one stride a frame, and layer 1 stands still: it is its floor, and wrong wherever it moved
    assert {name for name, row in rows.items() if row["status"] == "not_scored"} == {
        *("displacement:4-8", "displacement:8+", "frames:4-8", "frames:8-16", "frames:16-32", "frames:32+"),
        *("reappeared:yes", "occlusion:near", "boundary:0.5-1"),
    }
    assert {row["value"] for row in rows.values() if row["n"]} == {0}
    assert {row["floor"] for row in rows.values() if row["n"]} == {0}
    assert {row["ceiling"] for row in rows.values() if row["n"]} == {1}
    assert rows["displacement:0-1"]["n"] == rows["displacement:1-2"]["n"]
    assert rows["displacement:2-4"]["n"] == 2 * rows["displacement:1-2"]["n"]
    stored = unpack_tracks(run.read("tracks").to_pylist()[0])
    np.testing.assert_array_equal(stored.boundary, stored.xy[:, 0, 0])
    expected = int((stored.boundary <= 4).sum()) * 4
    assert rows["boundary:0-0.5"]["n"] == expected > 0
    assert rows["layer:foreground"]["n"] == int((stored.layer == 1).sum()) * 4 > 0
    assert rows["layer:background"]["n"] == int((stored.layer == 0).sum()) * 4 > 0
