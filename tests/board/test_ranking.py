from __future__ import annotations

import math

import pytest

from vcorr.board.tables.board_runs import load_run
from vcorr.board.tables.definitions import builtin_boards, metric_names, parse_board
from vcorr.board.tables.ranking import rank
from vcorr.stats.choice import cross_fit
from vcorr.stats.intervals import gain_interval, mean_interval, skill_interval
from vcorr.stats.series import series
from vcorr.store.run_search import open_run
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import fingerprint_of, read_shard, write_shard

BOARDS = builtin_boards()
SPRITES = next(board for board in BOARDS if board.datasets == ("sprites",))
SMALL = {"layers": 3, "steps": 2, "metrics": ("pck_8_moving", "matching_accuracy_moving")}


@pytest.fixture
def load(tmp_path):
    def load(folder):
        return [load_run(run, metric_names(BOARDS), tmp_path / f"{run.run_id}.arrow") for run in find_runs(folder)]

    return load


def ranked(ranking):
    return [(row.rank, row.run.model, row.series.key["probe"]) for row in ranking.rows]


def test_order_by_gain_baselines_included_random_weights_left_out(load, results):
    (ranking, heads), left_out = rank(load(results), BOARDS)
    assert (ranking.group.get("heads"), heads.group["heads"]) == (None, "single heads")
    assert ranking.board.title == "Sprites"
    assert ranked(ranking) == [
        (1, "made-up-good", "qk"),
        (2, "made-up-good", "feature"),
        (3, "made-up-baseline", "direct"),
        (4, "made-up-poor", "qk"),
        (5, "made-up-poor", "feature"),
    ]
    assert [row.run.is_baseline for row in ranking.rows] == [False, False, True, False, False]
    assert [row.at.attention[0] for row in ranking.rows] == ["full3d", "full3d", "none", "full3d", "full3d"]
    (random,) = left_out
    assert random.run.model == "made-up-random"
    assert random.reason.startswith("random weights")


def test_every_number_of_a_row_is_at_the_sites_that_one_metric_chose(load, results):
    (ranking, _), _ = rank(load(results), BOARDS)
    assert len(ranking.rows) == 5
    for row in ranking.rows:
        scores = open_run(results / row.run.run_id).read("scores")
        probe = row.at.best.key["probe"]
        by_metric = {s.key["metric"]: s.by_heads()["mean"] for s in series(scores) if s.key["probe"] == probe}
        chooser = by_metric["matching_accuracy_moving"]
        fit = cross_fit(chooser.score, chooser.floor, chooser.ceiling, chooser.halves())
        for name, cell in row.at.cells.items():
            found = fit.report(tuple(getattr(by_metric[name], part) for part in ("score", "floor", "ceiling")))
            assert (cell.value, cell.value_low) == (mean_interval(found.score).estimate, mean_interval(found.score).low)
            assert (cell.gain, cell.gain_high) == tuple(
                getattr(gain_interval(found.score, found.floor), end) for end in ("estimate", "high")
            )
            assert cell.skill == skill_interval(*found).estimate
            assert cell.clips == 16
        assert set(row.at.cells) == {column.name for column in SPRITES.metrics}
        assert row.at.best.regret == fit.regret


def test_a_small_run_has_a_table_of_its_own_and_leaves_the_large_one_alone(load, tmp_path, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-few", clips=6, best=0.9, probes=("qk",), **SMALL)
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up-many", clips=16, probes=("qk",), **SMALL)
    (large, small), left_out = rank(load(tmp_path / "runs"), BOARDS)
    assert ranked(large) == [(1, "made-up-many", "qk")]
    assert (large.group["clips"], len(large.clips), large.size) == ("first 16 clips", 16, 16)
    (few,) = large.incomplete
    assert (few.entry.run.model, few.reason) == ("made-up-few", "6 of the 16 clips, and a row needs 95%")
    # both on six clips, where the large run is no longer alone
    assert ranked(small) == [(None, "made-up-few", "qk"), (None, "made-up-many", "qk")]
    assert small.group["clips"] == "first 6 clips"
    assert {row.unranked for row in small.rows} == {"6 clips: too few to rank (this board needs 16)"}
    assert {row.cell.clips for row in small.rows} == {6}
    assert left_out == []


def test_a_failed_clip_is_missing_and_not_zero(load, tmp_path, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-a", clips=40, probes=("qk",), **SMALL)
    for name, clips in (("bbbbbbbbbbbb", 39), ("cccccccccccc", 37)):
        made = make_run(
            tmp_path / "runs",
            name,
            f"made-up-{name[0]}",
            clips=clips,
            failed=40 - clips,
            status="partial",
            probes=("qk",),
            **SMALL,
        )
        for i in range(clips, 40):  # these clips failed, and the other run has them
            (made.path / "scores" / f"failed-{i - clips:03d}.arrow").unlink()
    (large, small), _ = rank(load(tmp_path / "runs"), BOARDS)
    assert sorted(row.run.model for row in large.rows) == ["made-up-a", "made-up-b"]
    assert (len(large.clips), large.size) == (39, 40)
    assert {row.cell.clips for row in large.rows} == {39}
    assert [x.entry.run.model for x in large.incomplete] == ["made-up-c"]
    assert sorted(row.run.model for row in small.rows) == ["made-up-a", "made-up-b", "made-up-c"]


def test_what_did_not_finish_is_left_out_as_incomplete(load, tmp_path, make_run, record_of):
    record = record_of("made-up-a", 20)
    make_run(
        tmp_path / "runs",
        "aaaaaaaaaaaa",
        "made-up-a",
        clips=10,
        failed=2,
        probes=("qk",),
        record=record,
        status="partial",
        **SMALL,
    )
    rankings, (left,) = rank(load(tmp_path / "runs"), BOARDS)
    assert rankings == []
    assert left.reason == (
        "incomplete: 10 of its 20 clips have scores (2 failed, 8 not run), and a row needs 95% of its clips"
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("dataset", "another"),
        ("split", "another"),
        ("mode", "invert"),
        ("tracker", "another"),
        ("variant", "difftrack"),
        ("frames", 9),
        ("data_hash", "2" * 16),
    ],
)
def test_what_does_not_compare_is_not_in_one_table(load, tmp_path, make_run, column, value):
    options = {**SMALL, "clips": 6, "probes": ("qk",), "metrics": ("pck_8", *SMALL["metrics"])}
    first = {"data_hash": "1" * 16} if column == "data_hash" else {}
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-a", **options, **first)
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up-b", **options, **{column: value})
    rankings, left_out = rank(load(tmp_path / "runs"), BOARDS)
    assert sorted(sorted({row.run.model for row in r.rows}) for r in rankings) == [["made-up-a"], ["made-up-b"]]
    assert left_out == []
    assert rankings[0].group != rankings[1].group  # the page says in what they differ


@pytest.mark.parametrize("clips", [6, 16])
def test_of_repeated_runs_the_one_with_most_clips_stands(load, tmp_path, make_run, record_of, clips):
    options = {"probes": ("qk",), **SMALL}
    earlier = record_of("made-up", clips, started="2026-01-01T00:00:00+00:00")
    earlier["resolved"]["settings"]["seed"] = 7
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", clips=clips, best=0.9, record=earlier, **options)
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up", clips=16, best=0.5, **options)
    make_run(tmp_path / "runs", "cccccccccccc", "made-up", clips=16, weights="path:other", **options)
    (ranking,), (left,) = rank(load(tmp_path / "runs"), BOARDS)
    assert sorted(row.run.run_id for row in ranking.rows) == ["bbbbbbbbbbbb", "cccccccccccc"]
    assert (left.run.run_id, left.probe) == ("aaaaaaaaaaaa", "qk")
    how = "on more clips (16, not 6)" if clips == 6 else "later"
    assert left.reason == f"run bbbbbbbbbbbb measured the same {how} (settings.seed 42 there, 7 here)"


def test_a_run_at_fewer_sites_says_so(load, tmp_path, make_run):
    few = {**SMALL, "layers": 1, "probes": ("qk",)}
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up", clips=6, **few)
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", clips=6, **{**few, "layers": 3})
    _, (left,) = rank(load(tmp_path / "runs"), BOARDS)
    assert left.reason == "run aaaaaaaaaaaa measured the same at more sites (6, not 2)"


def test_a_run_that_read_a_second_variant_as_well_is_the_same_measurement(load, tmp_path, make_run, record_of):
    options = {**SMALL, "probes": ("qk",)}
    both = record_of("made-up", 6)
    both["resolved"]["probes"][0]["variants"] = ["corrected", "difftrack"]
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", clips=6, record=both, **options)
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up", clips=16, **options)
    (ranking,), (left,) = rank(load(tmp_path / "runs"), BOARDS)
    assert [row.run.run_id for row in ranking.rows] == ["bbbbbbbbbbbb"]
    assert left.reason.startswith("run bbbbbbbbbbbb measured the same on more clips (16, not 6)")


def test_runs_with_other_options_are_rows_of_their_own(load, tmp_path, make_run, record_of):
    for name, stride in (("aaaaaaaaaaaa", 8), ("bbbbbbbbbbbb", 16)):
        record = record_of("made-up", 6)
        record["resolved"]["model"]["config"] = {"stride": stride, "size": 1}
        make_run(
            tmp_path / "runs", name, "made-up", clips=6, probes=("qk",), record=record, token_width=stride, **SMALL
        )
    (ranking,), left_out = rank(load(tmp_path / "runs"), BOARDS)
    assert sorted(row.options for row in ranking.rows) == ["model.stride 16", "model.stride 8"]
    assert sorted(row.token.of_256 for row in ranking.rows) == [16, 32]
    assert left_out == []


def test_a_table_of_an_earlier_scoring_says_so(load, tmp_path, make_run, record_of):
    for name, record in {
        "aaaaaaaaaaaa": record_of("made-up", 6),
        "bbbbbbbbbbbb": record_of("made-up", 6, scoring=1),
    }.items():
        make_run(tmp_path / name, name, "made-up", clips=6, probes=("qk",), record=record, **SMALL)
    (now,), _ = rank(load(tmp_path / "aaaaaaaaaaaa"), BOARDS)
    (then,), _ = rank(load(tmp_path / "bbbbbbbbbbbb"), BOARDS)
    assert then.group == {**now.group, "scored by": "an earlier version, its ceilings can be passed"}


def test_runs_of_an_older_scoring_are_left_out_with_the_command(load, tmp_path, make_run, record_of):
    for name, version in (("aaaaaaaaaaaa", 1), ("bbbbbbbbbbbb", 2)):
        record = record_of(f"made-up-{name[0]}", 6)
        record["metrics"][1]["version"] = version
        make_run(tmp_path / "runs", name, f"made-up-{name[0]}", clips=6, probes=("qk",), record=record, **SMALL)
    (ranking,), (left,) = rank(load(tmp_path / "runs"), BOARDS)
    assert [row.run.model for row in ranking.rows] == ["made-up-b"]
    assert left.reason == (
        "metric pck, version is 1, and 2 in run bbbbbbbbbbbb: score it again, vcorr score runs/aaaaaaaaaaaa"
    )


def test_runs_on_other_content_have_tables_of_their_own(load, tmp_path, make_run):
    folder = tmp_path / "runs"
    make_run(folder, "aaaaaaaaaaaa", "made-up-a", clips=6, probes=("qk",), data_hash="1" * 16, **SMALL)
    make_run(folder, "bbbbbbbbbbbb", "made-up-b", clips=6, probes=("qk",), data_hash="2" * 16, **SMALL)
    make_run(folder, "cccccccccccc", "made-up-c", clips=6, probes=("qk",), data_hash="", **SMALL)
    rankings, left_out = rank(load(folder), BOARDS)
    tables = [sorted(row.run.model[-1] for row in ranking.rows) for ranking in rankings]
    assert sorted(tables) == [["a", "c"], ["b", "c"]]  # unknown content compares with either
    assert left_out == []
    assert {ranking.group["only here"] for ranking in rankings} == {
        "content of clip clip-000 and 5 more 1111111111111111",
        "content of clip clip-000 and 5 more 2222222222222222",
    }


def test_generated_videos_of_one_seed_compare(load, tmp_path, make_run):
    shared = {"mode": "generate", "clips": 6, "probes": ("qk",), **SMALL}
    for number, name in enumerate(("aaaaaaaaaaaa", "bbbbbbbbbbbb")):
        make_run(tmp_path / "runs", name, f"made-up-{number}", data_hash="1" * 16, **shared)
    (ranking,), left_out = rank(load(tmp_path / "runs"), BOARDS)
    assert (len(ranking.rows), left_out, ranking.group["seed"]) == (2, [], "42")
    make_run(tmp_path / "runs", "cccccccccccc", "made-up-2", seed=1, **shared)
    make_run(tmp_path / "runs", "dddddddddddd", "made-up-3", height=64, **shared)
    rankings, _ = rank(load(tmp_path / "runs"), BOARDS)
    assert sorted(len(ranking.rows) for ranking in rankings) == [1, 1, 2]


def test_reasons_to_leave_a_run_out(load, tmp_path, make_run, record_of):
    folder = tmp_path / "runs"
    RunDirectory.create(folder, "aaaaaaaaaaaa").write_record({"row_context": {"model": "made-up-new"}}, "started")
    make_run(folder, "bbbbbbbbbbbb", "made-up-broken", clips=0, failed=3, status="failed")
    make_run(folder, "cccccccccccc", "made-up-other", clips=4, layers=2, steps=2, metrics=("pck_4",))
    make_run(folder, "dddddddddddd", "made-up-else", clips=4, dataset="davis", **SMALL)
    old = record_of("made-up-old", 4)
    del old["scoring"], old["row_context"]["mode"]
    make_run(folder, "eeeeeeeeeeee", "made-up-old", clips=4, record=old, **SMALL)
    make_run(folder, "ffffffffffff", "made-up-still", clips=4, probes=("qk",), value=float("nan"), **SMALL)
    make_run(
        folder, "gggggggggggg", "made-up-part", clips=4, probes=("qk",), layers=2, steps=1, metrics=("pck_8_moving",)
    )
    lacking = "its run.json lacks scoring, row_context.mode, without which it compares with no run"
    rankings, left_out = rank(load(folder), [SPRITES])
    assert rankings == []
    assert [(left.run.model, left.reason) for left in left_out] == [
        ("made-up-new", "no scores yet"),
        ("made-up-broken", "no clip could be run"),
        ("made-up-other", "not scored by pck_8_moving"),
        ("made-up-else", "no board ranks the dataset davis"),
        ("made-up-old", f"{lacking}. vcorr score runs/eeeeeeeeeeee completes it"),
        ("made-up-still", "nothing moves: no clip has a point that pck_8_moving counts as moving"),
        ("made-up-part", "not scored by matching_accuracy_moving, which chooses the sites of this board"),
    ]
    assert left_out[1].run.failed == 3


def test_where_nothing_moves_all_points_choose(load, tmp_path, make_run):
    names = ("pck_8", "matching_accuracy", "matching_accuracy_moving")
    options = {"clips": 6, "layers": 2, "steps": 1, "probes": ("qk",), "metrics": names}
    run = make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", dataset="davis", **options)
    for path in run.shard_paths("scores"):
        table = read_shard(path, "scores")
        rows = [
            ScoreRow(**{**row, "value": math.nan if row["metric"].endswith("_moving") else row["value"]})
            for row in table.to_pylist()
        ]
        write_shard(path, "scores", rows, fingerprint_of(table))
    (ranking,), left_out = rank(load(tmp_path / "runs"), BOARDS)
    (row,) = ranking.rows
    assert left_out == []
    assert row.at.chosen_by == "matching_accuracy"
    assert not math.isnan(row.cell.gain)


def test_without_a_range_there_is_no_site_to_choose(load, tmp_path, make_run, make_baseline):
    flat = {"clips": 16, "floor": 0.99, "ceiling": 1.0}
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-flat", probes=("qk",), **{**SMALL, **flat})
    make_baseline(tmp_path / "runs", "bbbbbbbbbbbb", "made-up-baseline", **flat)
    (ranking,), (left,) = rank(load(tmp_path / "runs"), BOARDS)
    assert left.reason == (
        "no site has a skill by matching_accuracy_moving on either half of the clips, so none can be chosen"
    )
    (row,) = ranking.rows
    assert (row.rank, row.unranked) == (None, "no gain: standing still scores 0.990, so the points hardly move")


def test_a_board_of_ones_own(load, tmp_path, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", clips=4, layers=2, steps=2)
    text = "{title: T, datasets: any, primary: pck_4, metrics: [{name: pck_4, title: P}], admission: {min_clips: 4}}"
    board = parse_board(text, "Board x")
    runs = [load_run(run, metric_names([board]), tmp_path / "x.arrow") for run in find_runs(tmp_path / "runs")]
    assert {s.key["metric"] for run in runs for s in run.series} == {"pck_4"}
    (ranking,), _ = rank(runs, [board])
    assert ranked(ranking) == [(1, "made-up", "qk"), (2, "made-up", "feature")]


def test_rows_with_flipped_switches_are_never_ranked(load, tmp_path, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-a", clips=4, probes=("qk",), **SMALL)
    switched = {"switches": "time_map=stretched"}
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up-b", clips=4, probes=("qk",), **SMALL, **switched)
    rankings, left_out = rank(load(tmp_path / "runs"), BOARDS)
    assert [row.run.model for ranking in rankings for row in ranking.rows] == ["made-up-a"]
    (left,) = left_out
    assert (left.run.model, left.probe) == ("made-up-b", "qk, corrected+time_map=stretched")
    assert left.reason == "flipped switches (time_map=stretched): the numbers belong to neither variant"


def test_single_heads_are_chosen_apart_and_have_a_table_of_their_own(load, tmp_path, make_run, make_baseline):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-heads", clips=6, heads=2, probes=("qk",), **SMALL)
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up-mean", clips=6, probes=("qk",), **SMALL)
    make_baseline(tmp_path / "runs", "cccccccccccc", "made-up-baseline", clips=6)
    rankings, _ = rank(load(tmp_path / "runs"), BOARDS)
    assert [ranking.group.get("heads") for ranking in rankings] == [None, "single heads"]
    mean, single = ({row.run.model: row for row in ranking.rows} for ranking in rankings)
    assert set(mean) == {"made-up-heads", "made-up-mean", "made-up-baseline"}
    assert set(single) == {"made-up-heads", "made-up-baseline"}
    assert {site.head for site in mean["made-up-heads"].at.sites} == {-1}
    assert {site.head for site in single["made-up-heads"].at.sites} <= {0, 1}
    assert (mean["made-up-heads"].at.best.candidates, single["made-up-heads"].at.best.candidates) == (6, 12)


def test_ties_are_said(load, tmp_path, make_run):
    options = {"clips": 16, "probes": ("qk",), "layers": 2, "steps": 1, "metrics": SMALL["metrics"]}
    for name, best in (("aaaaaaaaaaaa", 0.6), ("bbbbbbbbbbbb", 0.603), ("cccccccccccc", 0.2)):
        make_run(tmp_path / "runs", name, f"made-up-{name[0]}", best=best, **options)
    (ranking,), _ = rank(load(tmp_path / "runs"), BOARDS)
    assert [row.rank for row in ranking.rows] == [1, 2, 3]
    assert {row.run.model: row.tied for row in ranking.rows}["made-up-c"] is False
    assert [row.tied for row in ranking.rows] == [False, True, False]
    assert ranking.ties_text == "The test does not separate the best row from 1 of the 2 others."


def test_equal_rows_have_equal_ranks(load, tmp_path, make_baseline):
    for name, best in (("aaaaaaaaaaaa", 0.6), ("bbbbbbbbbbbb", 0.6), ("cccccccccccc", 0.2)):
        make_baseline(tmp_path / "runs", name, f"made-up-{name[0]}", best=best, clips=16)
    (ranking,), _ = rank(load(tmp_path / "runs"), BOARDS)
    assert [(row.rank, row.tied) for row in ranking.rows] == [(1, False), (1, True), (3, False)]


@pytest.mark.parametrize("clips", [5, 16])  # of 16 clips all but five have nothing to score
def test_too_few_clips_for_the_test_are_said(load, tmp_path, make_run, clips):
    text = "{title: T, datasets: any, primary: pck_4, metrics: [{name: pck_4, title: P}], admission: {min_clips: 4}}"
    board = parse_board(text, "Board x")
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", clips=clips, layers=1, steps=1)
    runs = [load_run(run, metric_names([board]), tmp_path / "x.arrow") for run in find_runs(tmp_path / "runs")]
    for scores in runs[0].series:
        scores.score[5:] = math.nan
    (ranking,), _ = rank(runs, [board])
    assert "5 clips and 1 comparison cannot give the test a p under 0.062" in ranking.ties_text
    assert [row.tied for row in ranking.rows] == [False, True]
    assert ranking.rows[0].cell.no_interval == "5 clips, and an interval needs 6"


@pytest.mark.parametrize(("without", "shown"), [(1, 15), (2, 16)])
def test_a_clip_that_one_row_could_not_score_counts_for_no_row(load, tmp_path, make_run, without, shown):
    """Checks that a clip which no row could score stays: it takes nothing from the comparison."""
    for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        make_run(tmp_path / "runs", name, f"made-up-{name[0]}", clips=16, probes=("qk",), metrics=SMALL["metrics"])
    runs = load(tmp_path / "runs")
    for run in runs[:without]:
        for scores in run.series:
            scores.score[3] = math.nan
    (ranking,), _ = rank(runs, BOARDS)
    assert len(ranking.clips) == shown
    assert [row.cell.clips for row in ranking.rows] == [15, 15]


def test_an_error_is_ranked_by_how_low_it_is(tmp_path, make_run, record_of):
    columns = [{"metric": "error", "columns": ["error"], "primary": "error", "higher_is_better": False}]
    options = {
        "metrics": ("error",),
        "probes": ("qk",),
        "layers": 1,
        "steps": 1,
        "clips": 4,
        "floor": 9.0,
        "ceiling": 1.0,
    }
    for name, value in (("aaaaaaaaaaaa", 3.0), ("bbbbbbbbbbbb", 2.0)):
        record = record_of(f"made-up-{name[0]}", 4, metric_columns=columns)
        make_run(tmp_path / "runs", name, f"made-up-{name[0]}", record=record, value=value, **options)
    text = (
        "{title: T, datasets: any, primary: error, by: skill, metrics: [{name: error, title: E}], "
        "admission: {min_clips: 4}}"
    )
    board = parse_board(text, "Board x")
    runs = [load_run(run, ("error",), tmp_path / "x.arrow") for run in find_runs(tmp_path / "runs")]
    (ranking,), _ = rank(runs, [board])
    assert ranked(ranking) == [(1, "made-up-b", "qk"), (2, "made-up-a", "qk")]
    assert [row.cell.skill for row in ranking.rows] == [0.875, 0.75]
    (ranking,), _ = rank(runs, [parse_board(text.replace("by: skill", "by: gain"), "Board x")])
    assert {row.unranked for row in ranking.rows} == {"no gain: error is an error, so a board ranks it by skill"}


def test_an_option_without_a_value_is_null_as_it_is_typed(load, tmp_path, make_run, record_of):
    for number, height in enumerate((None, 64)):
        record = record_of("made-up", 6)
        record["resolved"].setdefault("model", {})["config"] = {"height": height}
        make_run(tmp_path / "runs", f"{number}" * 12, "made-up", clips=6, probes=("qk",), record=record, **SMALL)
    rankings, _ = rank(load(tmp_path / "runs"), BOARDS)
    found = {row.options for ranking in rankings for row in ranking.rows}
    assert found == {"model.height null", "model.height 64"}


def test_tables_of_one_dataset_name_the_options_in_which_they_differ(load, tmp_path, make_run, record_of):
    for number, level in enumerate(("easy", "hard", "easy")):
        record = record_of(f"made-up-{number}", 6)
        record["resolved"]["data"]["config"]["level"] = level
        shared = {"clips": 6, "probes": ("qk",), "record": record, "data_hash": f"{level:0<16}"}
        make_run(tmp_path / "runs", f"{number}" * 12, f"made-up-{number}", **shared, **SMALL)
    rankings, _ = rank(load(tmp_path / "runs"), BOARDS)
    assert sorted((ranking.group["level"], len(ranking.rows)) for ranking in rankings) == [("easy", 2), ("hard", 1)]
    assert all("only here" not in ranking.group for ranking in rankings)
    assert list(rankings[0].group)[:2] == ["dataset", "level"]
