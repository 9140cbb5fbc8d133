from __future__ import annotations

import pytest

from vcorr.board.tables.board_runs import load_run
from vcorr.board.tables.definitions import builtin_boards, metric_names, parse_board
from vcorr.board.tables.ranking import rank
from vcorr.stats.series import series
from vcorr.stats.summary import best_site
from vcorr.store.rundir import RunDirectory, find_runs

BOARDS = builtin_boards()
SMALL = {"layers": 3, "steps": 2, "metrics": ("matching_accuracy",)}


@pytest.fixture
def load(tmp_path):
    def load(folder):
        return [load_run(run, metric_names(BOARDS), tmp_path / f"{run.run_id}.arrow") for run in find_runs(folder)]

    return load


def ranked(ranking):
    return [(row.rank, row.run.model, row.series.key["probe"]) for row in ranking.rows]


def test_order_by_skill_baselines_included_random_weights_left_out(load, results):
    (ranking,), left_out = rank(load(results), BOARDS)
    assert ranking.board.title == "Sprites"
    assert ranked(ranking) == [
        (1, "made-up-good", "qk"),
        (2, "made-up-good", "feature"),
        (3, "made-up-baseline", "direct"),
        (4, "made-up-poor", "qk"),
        (5, "made-up-poor", "feature"),
    ]
    assert [row.run.is_baseline for row in ranking.rows] == [False, False, True, False, False]
    assert [row.attention for row in ranking.rows] == ["full3d", "full3d", "none", "full3d", "full3d"]
    (random,) = left_out
    assert random.run.model == "made-up-random"
    assert random.reason.startswith("random weights")


def test_numbers_are_the_summarys(load, results):
    (ranking,), _ = rank(load(results), BOARDS)
    expected = {
        (best.key["model"], best.key["probe"]): best
        for run in find_runs(results)
        for best in map(best_site, series(run.read("scores"), metric="matching_accuracy"))
    }
    assert len(ranking.rows) == 5
    for row in ranking.rows:
        assert row.best.to_dict() == expected[row.run.model, row.series.key["probe"]].to_dict()  # NaN as None


def test_few_clips_are_shown_unranked_and_a_partial_run_is_marked(load, tmp_path, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-few", clips=6, best=0.9, probes=("qk",), **SMALL)
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up-part", clips=32, probes=("qk",), status="partial", **SMALL)
    (ranking,), _ = rank(load(tmp_path / "runs"), BOARDS)
    assert ranked(ranking) == [(1, "made-up-part", "qk"), (None, "made-up-few", "qk")]
    assert ranking.rows[1].unranked == "6 clips: too few to rank (this board needs 16)"
    assert [row.run.is_complete for row in ranking.rows] == [False, True]
    assert ranking.rows[0].others == (None,)  # the further metric was not computed


@pytest.mark.parametrize("column", ["dataset", "split", "mode", "tracker", "variant"])
def test_what_does_not_compare_is_not_in_one_table(load, tmp_path, make_run, column):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-a", clips=4, **SMALL)
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up-b", clips=4, **SMALL, **{column: "another"})
    rankings, _ = rank(load(tmp_path / "runs"), BOARDS)
    assert sorted(sorted({row.run.model for row in r.rows}) for r in rankings) == [["made-up-a"], ["made-up-b"]]


def test_of_repeated_runs_the_one_with_most_clips_stands(load, tmp_path, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", clips=6, best=0.9, probes=("qk",), **SMALL)
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up", clips=32, best=0.5, probes=("qk",), **SMALL)
    make_run(tmp_path / "runs", "cccccccccccc", "made-up", clips=32, probes=("qk",), weights="path:other", **SMALL)
    (ranking,), left_out = rank(load(tmp_path / "runs"), BOARDS)
    assert sorted(row.run.run_id for row in ranking.rows) == ["bbbbbbbbbbbb", "cccccccccccc"]
    assert [(left.run.run_id, left.probe) for left in left_out] == [("aaaaaaaaaaaa", "qk")]
    assert "bbbbbbbbbbbb" in left_out[0].reason


def test_runs_on_other_content_are_not_in_one_table(load, tmp_path, make_run):
    folder = tmp_path / "runs"
    make_run(folder, "aaaaaaaaaaaa", "made-up-a", clips=6, probes=("qk",), data_hash="1" * 16, **SMALL)
    make_run(folder, "bbbbbbbbbbbb", "made-up-b", clips=4, probes=("qk",), data_hash="2" * 16, **SMALL)
    make_run(folder, "cccccccccccc", "made-up-c", clips=4, probes=("qk",), data_hash="", **SMALL)
    (ranking,), (left,) = rank(load(folder), BOARDS)
    assert {row.run.model for row in ranking.rows} == {"made-up-a", "made-up-c"}
    assert (left.run.model, left.probe) == ("made-up-b", "qk")
    assert left.reason == "the content of clip clip-000 differs from run aaaaaaaaaaaa: the data changed"


def test_generated_videos_are_each_models_own(load, tmp_path, make_run):
    for number, name in enumerate(("aaaaaaaaaaaa", "bbbbbbbbbbbb")):
        shared = {"mode": "generate", "data_hash": str(number) * 16}
        make_run(tmp_path / "runs", name, f"made-up-{number}", clips=4, probes=("qk",), **shared, **SMALL)
    (ranking,), left_out = rank(load(tmp_path / "runs"), BOARDS)
    assert (len(ranking.rows), left_out) == (2, [])


def test_reasons_to_leave_a_run_out(load, tmp_path, make_run):
    folder = tmp_path / "runs"
    RunDirectory.create(folder, "aaaaaaaaaaaa").write_record({"row_context": {"model": "made-up-new"}}, "started")
    make_run(folder, "bbbbbbbbbbbb", "made-up-broken", clips=0, failed=3, status="failed")
    make_run(folder, "cccccccccccc", "made-up-other", clips=4, layers=2, steps=2, metrics=("pck_4",))
    make_run(folder, "dddddddddddd", "made-up-else", clips=4, dataset="davis", **SMALL)
    rankings, left_out = rank(load(folder), [BOARDS[0]])
    assert rankings == []
    assert [(left.run.model, left.reason) for left in left_out] == [
        ("made-up-new", "no scores yet"),
        ("made-up-broken", "no clip could be run"),
        ("made-up-other", "not scored by matching_accuracy"),
        ("made-up-else", "no board ranks the dataset davis"),
    ]
    assert left_out[1].run.failed == 3


def test_without_a_range_there_is_no_skill_and_no_rank(load, tmp_path, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-flat", clips=32, layers=1, steps=1, floor=0.5, ceiling=0.51)
    (ranking,), left_out = rank(load(tmp_path / "runs"), BOARDS)
    assert left_out == []
    assert [row.rank for row in ranking.rows] == [None, None]
    assert all(row.unranked.startswith("no skill") for row in ranking.rows)


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
    text = "{title: T, datasets: any, primary: error, metrics: [{name: error, title: E}], admission: {min_clips: 4}}"
    board = parse_board(text, "Board x")
    runs = [load_run(run, ("error",), tmp_path / "x.arrow") for run in find_runs(tmp_path / "runs")]
    (ranking,), _ = rank(runs, [board])
    assert ranked(ranking) == [(1, "made-up-b", "qk"), (2, "made-up-a", "qk")]
    assert [row.best.summary.skill for row in ranking.rows] == [0.875, 0.75]
