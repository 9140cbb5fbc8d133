"""Comparing stored runs: which rows are paired, which are left out, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support import sliding

from vcorr.analysis.comparable import differences
from vcorr.analysis.comparison import Question, compare_runs
from vcorr.analysis.stored_scores import load_scores
from vcorr.contract.errors import StoreError, UsageError
from vcorr.plugins import builtin, registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import RunSpec
from vcorr.store import shards
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ROWS, ScoreRow, TrackRow

INSTALLED = registry.Registry(
    [registry.PluginSource(m.__name__, m.__name__, "1", lambda m=m: m) for m in (builtin, sliding)]  # type: ignore[misc]
)
DATA = {"data": {"clips": 6}}


def run(out: Path, **changes: object) -> RunDirectory:
    asked = {"model": "sliding-model", "probe": "qk", "steps": "last", "options": DATA, **changes}
    return execute(make_plan(RunSpec(**asked), INSTALLED), out).run  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """Runs of the same six clips: of the model with single heads, of fewer clips, of a baseline."""
    out = tmp_path_factory.mktemp("runs")
    return {
        "heads": run(out, probe="qk,feature", options={**DATA, "probe": {"heads": "each"}}),
        "five": run(out, limit=5, seed=1),
        "baseline": run(out, model="zero-motion", data="token-slide", probe=""),
    }


@pytest.fixture
def changed(runs, tmp_path):
    """Makes a copy of a run, with a run.json that a function edited."""

    def change(name: str, edit=lambda record: None) -> RunDirectory:
        copy = RunDirectory(Path(shutil.copytree(runs[name].path, tmp_path / "copy")))
        record = copy.record()
        edit(record)
        (copy.path / "run.json").write_text(json.dumps(record))
        return copy

    return change


def test_a_run_and_a_baseline(runs) -> None:
    found = compare_runs(runs["heads"], runs["baseline"], Question(("matching_accuracy",)))
    assert len(found.clips) == 6
    assert [(row.a.probe, row.b.probe, row.heads) for row in found.rows] == [
        ("feature", "direct", "mean"),
        ("feature", "direct", "single"),
        ("qk", "direct", "mean"),
        ("qk", "direct", "single"),
    ]
    qk = found.rows[2]
    assert ([site.site for site in qk.a.sites], qk.b.sites[0].layer, qk.clips) == (["0:9"], -1, 6)
    assert (qk.a.chosen_on, qk.b.chosen_on) == (3, 0)
    assert (qk.a.value, qk.b.value, qk.difference.estimate, qk.skill_difference.estimate) == (1, 0, 1, 1)
    # all six clips agree: the test can say no more, and there is no variance for an interval
    assert qk.difference.p == qk.smallest_p == 2 / 2**6
    assert "without variance" in qk.difference.no_interval


def test_clips_of_one_side_are_left_out_and_named(runs) -> None:
    found = compare_runs(runs["five"], runs["heads"])
    assert found.clips == tuple(f"slide-{i}" for i in range(5))
    assert found.only_in(found.b) == ("slide-5",)
    assert found.only_in(found.a) == ()
    # both runs have qk; the single heads of one run have no partner in the other
    assert {(row.a.probe, row.b.probe, row.heads) for row in found.rows} == {("qk", "qk", "mean")}
    assert [row.metric for row in found.rows][:4] == [
        "matching_accuracy_moving",
        "matching_accuracy",
        "pck_1_moving",
        "pck_1",
    ]
    assert [row.metric for row in found.rows][-1] == "pck_16"
    assert found.settings["settings.seed"] == (1, 42)
    assert "model.name" not in found.settings


def test_chosen_clips_count_alone(runs) -> None:
    chosen = ("slide-1", "slide-2", "slide-3", "slide-4", "elsewhere")
    asked = Question(("matching_accuracy",), probe="qk", sites_a=("0:9",), clips=chosen)
    found = compare_runs(runs["heads"], runs["baseline"], asked)
    assert found.clips == chosen[:4]
    scores = runs["heads"].read("scores").to_pylist()
    wanted = {
        row["head"]: sum(other["value"] for other in scores if _is_like(other, row) and other["clip"] in chosen) / 4
        for row in scores
        if (row["metric"], row["probe"], row["layer"], row["step"]) == ("matching_accuracy", "qk", 0, 9)
    }
    assert [(row.clips, row.a.value) for row in found.rows] == [(4, wanted[-1])]
    with pytest.raises(UsageError, match="no clip in common"):
        compare_runs(runs["heads"], runs["baseline"], replace(asked, clips=("elsewhere",)))


def _is_like(one, other) -> bool:
    return all(one[name] == other[name] for name in ("metric", "probe", "layer", "step", "head", "variant"))


def test_two_sites_of_one_run(runs) -> None:
    asked = Question(("matching_accuracy",), sites_a=("0:9",), sites_b=("1:9", "0:9:1"))
    found = compare_runs(runs["heads"], runs["heads"], asked)
    rows = [row for row in found.rows if row.a.probe == "qk"]
    assert [(row.heads, row.clips, row.difference.estimate) for row in rows] == [("given", 6, 1), ("given", 6, 0)]


def test_two_probes_of_one_run(runs) -> None:
    found = compare_runs(runs["heads"], runs["heads"], Question(("matching_accuracy",), "qk:feature"))
    assert {(row.a.probe, row.b.probe) for row in found.rows} == {("qk", "feature")}


def test_one_failed_clip(runs, tmp_path) -> None:
    failed = run(tmp_path, options={"data": {"clips": 6, "fail": "slide-2"}})
    record = failed.record()
    record["resolved"]["data"]["config"]["fail"] = ""
    (failed.path / "run.json").write_text(json.dumps(record))
    found = compare_runs(failed, runs["heads"], Question(("pck_4",)))
    assert found.a.failed == ("slide-2",)
    assert "slide-2" not in found.clips
    assert found.notes == ("A: the run is partial.",)


def test_random_weights_are_marked(changed, runs) -> None:
    def weights(record):
        record["row_context"]["weights"] = "random:0"

    found = compare_runs(changed("five", weights), runs["heads"])
    assert found.a.is_random
    assert not found.b.is_random
    assert found.notes[0].startswith("A: random weights (random:0)")


def edit(*path: str, value: object):
    def change(record):
        for key in path[:-1]:
            record = record[int(key) if isinstance(record, list) else key]
        record[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("resolved", "data", "name", value="other"), "dataset: token-slide and other"),
        (edit("resolved", "data", "version", value=2), "version of dataset token-slide: 1 and 2"),
        (edit("resolved", "data", "split", value="train"), "split of dataset token-slide: test and train"),
        (edit("resolved", "data", "config", "moved", value=7.0), "option data.moved: 0.0 and 7.0"),
        (edit("row_context", "mode", value="generate"), "mode: renoise and generate"),
        (edit("metrics", "0", "version", value=3), r"metric \w+, version: 1 and 3(.|\n)*vcorr score RUN_A RUN_B"),
        (edit("scoring", value=9), "version of floors, ceilings and time map: 2 and 9"),
        (
            edit("tracker", value={"name": "dis", "version": 1, "config": {}}),
            "tracks: the data's own and dis",
        ),
    ],
)
def test_runs_that_measure_different_things_are_refused(runs, changed, change, message) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        compare_runs(runs["heads"], changed("five", change))
    assert f"Runs {runs['heads'].run_id} and copy measure different things" in str(refused.value)
    assert refused.value.hint


def test_every_difference_is_named(runs, changed) -> None:
    def change(record):
        edit("resolved", "data", "version", value=2)(record)
        edit("scoring", value=9)(record)

    with pytest.raises(UsageError, match=r"version of dataset(.|\n)*version of floors"):
        compare_runs(runs["heads"], changed("five", change))


def test_changed_tracks_are_refused(runs, changed) -> None:
    copy = changed("five")
    path = copy.shard("tracks", "slide-1")
    (row,) = shards.read_shard(path, "tracks").to_pylist()
    row["xy"][5] += 1
    shards.write_shard(path, "tracks", [TrackRow(**row)], "f")
    with pytest.raises(UsageError, match=r"query points or tracks of clip slide-1: \w+… and "):
        compare_runs(runs["heads"], copy)


@pytest.mark.parametrize("name", ["clips", "limit"])
def test_how_many_clips_a_dataset_has_is_no_difference(runs, changed, name) -> None:
    found = compare_runs(runs["heads"], changed("five", edit("resolved", "data", "config", name, value=7)))
    assert len(found.clips) == 5


def test_files_of_clips_without_a_hash_are_compared(runs, changed) -> None:
    content = {"files": {"slide-0": "1", "slide-1": "2"}}

    def copies(other: dict[str, str]) -> tuple[RunDirectory, RunDirectory]:
        record = edit("resolved", "data", "content", value=content)
        a = changed("five", record)
        a = RunDirectory(a.path.rename(a.path.with_name("older")))
        b = changed("five", edit("resolved", "data", "content", value={"files": other}))
        return a, b

    a, b = copies({"slide-1": "3", "slide-7": "4"})
    assert compare_runs(a, b).rows  # every clip has a hash, which decides
    for path in sorted((b.path / "scores").glob("*.arrow")):
        _edit_rows(path, data_hash="")
    with pytest.raises(UsageError, match=r"content of the data \(files.slide-1\): 2 and 3") as refused:
        compare_runs(a, b)
    assert "slide-7" not in refused.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 7}, r"frames of clip slide-1: \d and 7"),
        ({"tracker": "dis"}, "tracker of clip slide-1: exact and dis"),
        ({"tracker_version": 7}, "version of the tracker of clip slide-1: 1 and 7"),
        ({"height": 64}, ""),
    ],
)
def test_facts_of_a_clip_that_differ(runs, changed, changes, message) -> None:
    copy = changed("five")
    _edit_rows(copy.shard("scores", "slide-1"), **changes)
    if not message:  # models read videos at sizes of their own
        assert compare_runs(runs["heads"], copy).rows
        return
    with pytest.raises(UsageError, match=message):
        compare_runs(runs["heads"], copy)


@pytest.mark.parametrize(("changes", "seed", "message"), [({"width": 80}, 42, "size of clip"), ({}, 7, "seed of the")])
def test_generated_videos_compare_by_seed_and_size(runs, changed, changes, seed, message) -> None:
    def generate(record):
        record["row_context"].update(mode="generate", seed=seed)

    copy = changed("five", generate)
    _edit_rows(copy.shard("scores", "slide-1"), **changes)
    other = RunDirectory(copy.path.rename(copy.path.with_name("other")))
    seed = 42
    with pytest.raises(UsageError, match=message):
        compare_runs(changed("five", generate), other)


def _edit_rows(path: Path, **changes: object) -> None:
    found = shards.read_shard(path, "scores")
    rows = [ScoreRow(**{**row, **changes}) for row in found.to_pylist()]
    shards.write_shard(path, "scores", rows, shards.fingerprint_of(found))


def test_clips_of_other_content_are_refused_whatever_their_size(runs, changed) -> None:
    copy = changed("five")
    path = copy.shard("scores", "slide-1")
    assert all(shards.read_shard(path, "scores")["data_hash"].to_pylist())
    _edit_rows(path, height=128, data_hash="0123456789abcdef")
    with pytest.raises(UsageError, match=r"content of clip slide-1: \w+ and 0123456789abcdef"):
        compare_runs(runs["heads"], copy)
    _edit_rows(path, data_hash="")  # rows of an older vcorr have no hash
    assert compare_runs(runs["heads"], copy).rows


def test_no_clip_in_common(runs, changed) -> None:
    copy = changed("five")
    for i in range(5):
        for table in ("scores", "tracks"):
            path = copy.shard(table, f"slide-{i}")
            found = shards.read_shard(path, table)
            rows = [ROWS[table](**{**row, "clip": f"other-{i}"}) for row in found.to_pylist()]
            shards.write_shard(copy.shard(table, f"other-{i}"), table, rows, shards.fingerprint_of(found))
            path.unlink()
    with pytest.raises(UsageError, match=r"no clip in common: \w+ has slide-0, .* … slide-5 \(6\); copy has other-0"):
        compare_runs(runs["heads"], copy)


def test_too_few_clips(runs, tmp_path) -> None:
    few = run(tmp_path, limit=3)
    with pytest.raises(UsageError, match="Only 3 clips in common"):
        compare_runs(few, runs["heads"])
    given = compare_runs(few, runs["heads"], Question(("pck_4",), sites_a=("0:9",), sites_b=("0:9",)))
    assert given.rows[0].clips == 3


def test_other_metrics_and_other_variants(runs, changed) -> None:
    copy = changed("five")
    rescore(copy, INSTALLED, RunSpec(metrics="pck"))
    with pytest.raises(UsageError, match=r"Only run \w+ was scored by 'matching_accuracy'"):
        compare_runs(runs["heads"], copy, Question(("matching_accuracy",)))
    assert all(row.metric.startswith("pck") for row in compare_runs(runs["heads"], copy).rows)
    for path in sorted((copy.path / "scores").glob("*.arrow")):
        found = shards.read_shard(path, "scores")
        rows = [ScoreRow(**{**row, "variant": "difftrack"}) for row in found.to_pylist()]
        shards.write_shard(path, "scores", rows, shards.fingerprint_of(found))
    with pytest.raises(UsageError, match=r"no metric, variant and probe in common: .*corrected.*difftrack"):
        compare_runs(runs["heads"], copy)


def test_runs_with_different_probes_are_told_how_to_compare_them(runs, changed) -> None:
    copy = changed("five")
    for path in sorted((copy.path / "scores").glob("*.arrow")):
        found = shards.read_shard(path, "scores")
        rows = [ScoreRow(**{**row, "probe": "kk"}) for row in found.to_pylist()]
        shards.write_shard(path, "scores", rows, shards.fingerprint_of(found))
    with pytest.raises(UsageError, match=r"no metric, variant and probe in common") as raised:
        compare_runs(runs["heads"], copy)
    probe = raised.value.hint.split()[-1]
    assert probe.endswith(":kk")
    assert compare_runs(runs["heads"], copy, Question(probe=probe)).rows


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Question(("matching_acuracy",)), "Did you mean 'matching_accuracy'"),
        (Question(("pck_3*",)), "Unknown metric"),
        (Question(probe="kk"), "Unknown probe of run A 'kk'"),
        (Question(probe="qk:kk"), "Unknown probe of run B 'kk'"),
        (Question(probe=":qk"), "--probe ':qk' names a probe for only one of the two runs"),
        (Question(("matching_accuracy@*",)), r"not scored by strata(.|\n)*metrics=matching_accuracy,strata"),
        (Question(sites_a=("7",)), "--site-a: '7' is not a site"),
        (Question(sites_b=("0:1",)), r"has no site 0:1 of probe feature(.|\n)*steps 9"),
        (Question(sites_a=("0:9", "1:9"), sites_b=("0:9",) * 3), "2 sites of A and 3 of B"),
    ],
)
def test_questions_that_cannot_be_answered(runs, asked, message) -> None:
    with pytest.raises(UsageError, match=message):
        compare_runs(runs["heads"], runs["heads"], asked)


def test_where_nothing_can_be_chosen_sites_are_asked_for(runs) -> None:
    with pytest.raises(UsageError, match=r"Nothing could be compared.*single heads") as refused:
        compare_runs(runs["five"], runs["five"], Question(sites_a=("0:9:0",)))
    assert "--site-a LAYER:STEP" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pck_99", "Compare another metric: vcorr show run"),
        ("pck_99@layer:foreground", "Compare another stratum: vcorr show run RUN --metric 'pck_99@*'"),
    ],
)
@pytest.mark.parametrize("sites", [(), ("0:9",)], ids=["no sites given", "with sites"])
def test_where_nothing_is_scored_no_sites_are_asked_for(changed, name, hint, sites) -> None:
    copy = changed("five")
    for path in copy.shard_paths("scores"):
        found = shards.read_shard(path, "scores")
        rows = [ScoreRow(**row) for row in found.to_pylist()]
        main = [row for row in rows if row.metric == "matching_accuracy"]
        rows += [dataclasses.replace(row, metric=name, value=math.nan, n=0) for row in main]
        shards.write_shard(path, "scores", rows, shards.fingerprint_of(found))
    with pytest.raises(UsageError, match=r"Nothing could be compared.*none of the 5 clips has a score") as refused:
        compare_runs(copy, copy, Question((name,), sites_a=sites, sites_b=sites))
    assert refused.value.hint.startswith(hint)


def test_runs_of_one_id_are_named_by_their_paths(runs, changed) -> None:
    other = changed("five", lambda record: record.update(tracker={"name": "dis"}))
    other = RunDirectory(other.path.rename(other.path.with_name(runs["five"].run_id)))
    with pytest.raises(UsageError) as refused:
        compare_runs(runs["five"], other)
    assert refused.value.message.startswith(f"Runs {runs['five'].path} and {other.path} measure different things")


def test_records_and_scores_that_are_missing(changed, runs) -> None:
    copy = changed("five", lambda record: record.pop("scoring"))
    with pytest.raises(StoreError, match=r"lacks scoring(.|\n)*vcorr score"):
        compare_runs(runs["heads"], copy)
    rescore(copy, INSTALLED, RunSpec())
    assert compare_runs(runs["heads"], copy).rows
    shutil.rmtree(copy.path / "scores")
    with pytest.raises(StoreError, match="has no scores yet"):
        compare_runs(runs["heads"], copy)


def test_two_runs_of_an_earlier_scoring_compare_and_it_is_said(changed, tmp_path) -> None:
    old = changed("five", lambda record: record.update(scoring=1))
    again = RunDirectory(Path(shutil.copytree(old.path, tmp_path / "again")))
    notes = compare_runs(old, again).notes
    assert [note.partition(" Scored by an earlier version of vcorr")[0] for note in notes] == ["A:", "B:"]
    assert all(f"vcorr score {side.path}" in note for note, side in zip(notes, (old, again), strict=True))


def test_a_version_that_an_older_record_lacks_agrees_with_any(runs) -> None:
    measured = load_scores(runs["five"]).read_measured_on()
    unknown, one, other = (
        replace(measured, tracker={"name": "dis", "version": 1, **known})
        for known in ({}, {"versions.opencv": "4.12"}, {"versions.opencv": "5.0"})
    )
    assert differences(unknown, one) == differences(one, unknown) == []
    assert [found.what for found in differences(one, other)] == ["tracker dis, versions.opencv"]


def test_tokens_of_another_size_are_said(runs, tmp_path) -> None:
    coarse = run(tmp_path, model="zero-motion", data="token-slide", probe="", options={**DATA, "model": {"stride": 16}})
    found = compare_runs(runs["five"], coarse)
    (note,) = found.notes
    assert note.startswith("A's tokens are 8x8 pixels, B's 16x16: matching_accuracy counts in tokens and does not")
    assert note.endswith("; the gain of pck does.")
