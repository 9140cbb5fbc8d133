"""Runs of generated videos: guided as asked, stored, tracked forth and back, scored from their files alone."""

from __future__ import annotations

import numpy as np
import pytest
from support import guiding, sliding
from support.tables import same

from vcorr.contract.errors import PluginError, StoreError, UsageError
from vcorr.contract.metric_columns import ranking_columns
from vcorr.contract.records import Tracks
from vcorr.contract.seeds import stable_seed
from vcorr.data.video.lossless import read_lossless
from vcorr.runner.chosen_layers import read_best_layers
from vcorr.runner.coordinator import Reuse, execute
from vcorr.runner.generation import find_ends
from vcorr.runner.plan import make_plan
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import RunSpec
from vcorr.runner.video_scoring import read_both_ways
from vcorr.store.shards import read_shard

PLAIN = sliding.slide(stable_seed(42, "prompt-0000"))[0] // 2


@pytest.fixture
def registry(plugins):
    return plugins(guiding)


def spec(**changes) -> RunSpec:
    base = {"model": "drawer", "task": "generation", "prompt": "a picture", "tracker": "sure"}
    return RunSpec(**{**base, "metrics": "brightness", **changes})


def run(registry, out, reuse=Reuse.MATCHING, **changes):
    return execute(make_plan(spec(**changes), registry), out, reuse=reuse)


def video_of(outcome):
    (path,) = sorted((outcome.run.path / "videos").iterdir())
    return read_lossless(path)


def scores_of(outcome, clip="prompt-0000") -> dict:
    rows = outcome.run.read("scores").to_pylist()
    return {row["metric"]: row["value"] for row in rows if row["clip"] == clip}


def test_a_video_is_stored_tracked_both_ways_and_scored(registry, tmp_path) -> None:
    outcome = run(registry, tmp_path)
    assert np.array_equal(video_of(outcome), PLAIN)
    (made,) = outcome.run.read("predictions").to_pylist()
    assert (made["kind"], made["probe"], made["points"], made["task"]) == ("video", "video", 0, "generation")
    forth, back = outcome.run.read("tracks").to_pylist()
    assert (forth["query_frames"][0], back["query_frames"][0]) == (0, sliding.FRAMES - 1)
    assert forth["video"] == back["video"]
    rows = outcome.run.read("scores").to_pylist()
    assert {(row["task"], row["mode"], row["guidance"], row["layer"], row["status"]) for row in rows} == {
        ("generation", "generate", "", -1, "ok")
    }
    assert scores_of(outcome)["brightness"] == pytest.approx(PLAIN.mean())
    assert scores_of(outcome)["return_error"] == 0


def test_the_ways_back_begin_where_the_tracks_end_inside_the_frame(registry, tmp_path) -> None:
    outcome = run(registry, tmp_path)
    both = read_both_ways("prompt-0000", read_shard(outcome.run.shard("tracks", "prompt-0000"), "tracks"))
    ends, starts = both.forward.xy[:, -1], both.backward.xy[:, -1]
    inside = ends[:, 0] < sliding.SIDE
    assert np.allclose(starts[inside], ends[inside])
    assert inside.any()
    assert (~inside).any()
    assert np.allclose(starts[~inside][:, 0], sliding.SIDE, atol=0.01)


def test_a_track_without_a_last_position_is_followed_back_from_its_last_known_one() -> None:
    xy = np.array([[[1, 1], [2, 2], [np.nan, np.nan]], [[-4, 5], [-3, 5], [-2, 99]]], np.float32)
    tracks = Tracks(xy, np.array([[True, True, False], [False, False, False]]), "t")
    ends = find_ends(tracks, np.zeros((3, 10, 20, 3), np.uint8))
    assert ends.t.tolist() == [2, 2]
    assert np.allclose(ends.xy, [[2, 2], [0, 10]], atol=0.01)


def test_a_guidance_changes_the_video_and_the_rows_say_how(registry, tmp_path) -> None:
    options = {"guidance": {"layers": "1,0", "scale": 1.5}}
    with pytest.raises(PluginError, match="layers must be a tuple of ascending"):
        run(registry, tmp_path, guidance="lamp", options=options)
    outcome = run(registry, tmp_path, guidance="lamp", options={"guidance": {"layers": "0,1", "scale": 1.5}}, cfg=6.0)
    assert np.array_equal(video_of(outcome), PLAIN + 30)
    row = outcome.run.read("scores").to_pylist()[0]
    assert (row["guidance"], row["guidance_scale"], row["guidance_layers"], row["guidance_steps"], row["cfg"]) == (
        *("lamp", 1.5, "0,1", "0", 6.0),
    )


def test_a_guidance_may_ask_for_more_steps(registry, tmp_path) -> None:
    marker = str(tmp_path / "marker")
    run(registry, tmp_path, guidance="lamp", options={"guidance": {"more": 5}, "model": {"marker": marker}})
    assert (tmp_path / "marker").read_text().split() == ["prompt-0000", "15"]


def test_each_guidance_is_a_run_of_its_own_and_none_keeps_its_fingerprint(registry, tmp_path) -> None:
    plans = [make_plan(spec(**changes), registry) for changes in ({}, {"guidance": "lamp"})]
    plans.append(make_plan(spec(guidance="lamp", options={"guidance": {"scale": 2.0}}), registry))
    assert len({plan.fingerprints()["predict"] for plan in plans}) == 3
    assert "guidance" not in plans[0].predict_identity()
    assert "guidance" not in plans[0].predict_identity()["settings"]


def test_a_run_goes_on_and_is_tracked_and_scored_again_without_the_model(registry, tmp_path) -> None:
    marker = {"model": {"marker": str(tmp_path / "marker")}}
    first = run(registry, tmp_path, options=marker)
    before = first.run.read("scores")
    for path in (first.run.path / "scores").iterdir():
        path.unlink()
    assert same(run(registry, tmp_path, options=marker).run.read("scores"), before)
    second = run(registry, tmp_path, options=marker, tracker="lk")
    assert {row["tracker"] for row in second.run.read("tracks").to_pylist()} == {"lk"}
    assert len((tmp_path / "marker").read_text().splitlines()) == 1
    rescore(first.run, registry, RunSpec(metrics="brightness"))
    assert set(first.run.read("scores")["metric"].to_pylist()) == {"brightness", "return_error"}


def test_a_clip_that_fails_is_a_row(registry, tmp_path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a picture\nbroken\n")
    outcome = run(registry, tmp_path, prompt=None, data=f"prompts:{prompts}")
    assert outcome.failed == ("prompt-0001",)
    assert "cannot be drawn" in outcome.run.read("scores")["error"].to_pylist()[-1]
    assert scores_of(outcome)["return_error"] == 0


def test_a_lost_video_is_made_again(registry, tmp_path) -> None:
    outcome = run(registry, tmp_path)
    next((outcome.run.path / "videos").iterdir()).unlink()
    with pytest.raises(StoreError, match="is missing"):
        rescore(outcome.run, registry, RunSpec(metrics="brightness"))
    assert np.array_equal(video_of(run(registry, tmp_path)), PLAIN)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"probe": "qk"}, "reads no attention"),
        ({"layers": "1"}, "reads no attention"),
        ({"steps": "last"}, "reads no attention"),
        ({"mode": "renoise"}, "has no mode 'renoise'"),
        ({"variant": "difftrack"}, "have no variants"),
        ({"guidance": "lampe"}, "Did you mean 'lamp'"),
        ({"options": {"guidance": {"layers": "0"}}}, "no guidance is used"),
        ({"guidance": "lamp", "options": {"guidance": {"layers": "7"}}}, "There is no layer 7"),
        ({"guidance": "lamp", "options": {"guidance": {"scale": float("nan")}}}, "scale"),
        ({"guidance": "lamp", "from_run": "runs/x", "options": {"guidance": {"layers": "1"}}}, "Leave --from out"),
        ({"from_run": "runs/x"}, "no guidance is used"),
        ({"guidance": "lamp", "options": {"guidance": {"layers": "auto"}}}, "--from runs/RUN"),
        ({"guidance": "lamp", "options": {"guidance": {"layers": "card"}}}, "names no layers"),
        ({"task": "correspondence", "probe": "qk", "guidance": "lamp"}, "vcorr generate"),
        ({"metrics": "matching_accuracy"}, "of the task correspondence"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_made(registry, changes, said) -> None:
    with pytest.raises(UsageError) as refused:
        make_plan(spec(**changes), registry)
    assert said in f"{refused.value.message} {refused.value.hint}"


def test_a_model_that_no_guidance_can_steer_is_refused(registry, monkeypatch) -> None:
    monkeypatch.setattr(guiding.Drawer, "takes_guidance", False)
    with pytest.raises(UsageError, match="Drawer samples in a way of its own"):
        make_plan(spec(guidance="lamp"), registry)


def test_layers_come_from_the_best_ones_of_a_run(registry, tmp_path) -> None:
    plan = make_plan(RunSpec(model="sliding-model", probe="qk", steps="last", limit=2), registry)
    measured = execute(plan, tmp_path).run
    with pytest.raises(UsageError, match="is of model 'sliding-model'"):
        make_plan(spec(guidance="lamp", from_run=str(measured.path)), registry)
    record = measured.record()
    measured.write_record({**record, "row_context": {**record["row_context"], "model": "drawer"}}, record["status"])
    asked = make_plan(spec(guidance="lamp", from_run=str(measured.path)), registry)
    assert asked.selection.guided.layers == (0, 1)
    assert read_best_layers(asked.spec, 1) == ((0,), measured.run_id)


def test_summaries_of_generated_videos_show_every_column(registry, tmp_path) -> None:
    record = run(registry, tmp_path, metrics="").run.record()
    columns = ranking_columns(record)
    assert {"track_survival", "dynamic_degree", "flicker", "brightness", "return_error"} <= set(columns)
    named = run(registry, tmp_path, metrics="track-survival").run.record()
    assert ranking_columns(named) == ("track_survival",)
