"""The board of tracking runs: made-up runs in tables, rows without a rank, reported numbers, cost, the page."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vcorr.board.site.clip_page import MOST_CLIPS, UNIT, make_clip_pages
from vcorr.board.site.html import token, token_note
from vcorr.board.site.site_build import build_site
from vcorr.board.tables.board_runs import InputFacts, load_run
from vcorr.board.tables.data_defaults import find_defaults
from vcorr.board.tables.definitions import builtin_boards, metric_names
from vcorr.board.tables.ranking import rank
from vcorr.contract.geometry import TokenGrid
from vcorr.plugins.registry import installed
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr.store.schema import PredictionRow, ScoreRow, TrackRow
from vcorr.store.shards import write_shard

BOARDS = builtin_boards()
TRACKING = BOARDS[-1]
FLOORS = {"average_pts_within_thresh": 0.2, "average_jaccard": 0.1, "occlusion_accuracy": 0.7, "pts_within_1": 0.05}
COST = {"seconds_per_clip": 1.25, "seconds_per_point": 0.1, "device_gib": None, "host_gib": 0.5, "clips": 9}
PLACE = {"layer": -1, "layer_name": "", "step": -1, "noise": math.nan, "attention": "none", "weights": "none"}


def _write_tracks(run, clip, side):
    """Writes two points that stand at a quarter and a half of the frame, and predictions a tenth further right."""
    xy = np.repeat(np.float32([[0.25, 0.25], [0.5, 0.5]])[:, None], 3, axis=1) * side
    shared = {"run": run.run_id, "clip": clip, "points": 2, "query_frames": [0, 1]}
    visible = [True, True, False, True, True, True]
    moved, xy[0, 2] = xy + np.float32([side / 10, 0]), np.nan  # hidden there
    track = TrackRow(
        **shared, frames=3, width=side, height=side, queries=[0.0] * 4, xy=xy.ravel(), visible=visible, tracker="exact"
    )
    grid = TokenGrid(frames=3, rows=2, cols=2, stride=(side / 2, side / 2), video_frames=3, temporal_ratio=1)
    predicted = PredictionRow(
        **shared, probe="direct", kind="positions", variant="corrected", readout="free", latents=3, xy=moved.ravel(),
        visible=[False, *[True] * 5], grid=json.dumps(grid.to_dict()),
    )  # fmt: skip
    write_shard(run.shard("tracks", clip), "tracks", [track], "cd" * 32)
    write_shard(run.shard("predictions", clip), "predictions", [predicted], "ab" * 32)


@pytest.fixture
def make_tracking(tmp_path, score_row, record_of):
    """Makes a tracking run below runs/, each of whose clips has about the same position accuracy `best`.

    side: width and height of its frames, for tracks of two points in three frames; 0 for scores alone.
    """

    def make(name, model, best, *, clips=9, tracker=False, resolved=None, data=None, cost=COST, side=0, **columns):
        run = RunDirectory.create(tmp_path / "runs", name * 12)
        columns |= {"frames": 3, "height": side, "width": side} if side else {}
        shared = {"probe": "direct", "task": "tracking", "query_mode": "first", "input_class": "256"} | PLACE | columns
        for c in range(clips):
            clip = f"clip-{c:03d}"
            rows = []
            for metric, floor in FLOORS.items():
                values = {"metric": metric, "value": best + 0.01 * (c % 3), "floor": floor, "ceiling": 1.0}
                rows.append(score_row(run.run_id, model, clip, **shared | values))
            write_shard(run.shard("scores", clip), "scores", rows, "ef" * 32)
            if side:
                _write_tracks(run, clip, side)
        record = record_of(model, clips, of=columns)
        record["row_context"]["task"] = "tracking"
        record["spec"] |= {"task": "tracking", "model": "" if tracker else model, "tracker": model if tracker else None}
        record["resolved"] |= {"probes": [], "task": "tracking", **(resolved or {})}
        record["resolved"]["data"]["config"] |= data or {}
        record["card"] = None if tracker else record["card"]
        run.write_record(record | ({"cost": cost} if cost else {}), "complete")
        return run

    return make


@pytest.fixture
def load(tmp_path):
    """Returns a function that loads all runs below runs/."""
    folder = tmp_path / "runs"
    return lambda: [load_run(r, metric_names(BOARDS), tmp_path / f"{r.run_id}.arrow") for r in find_runs(folder)]


def list_ranks(ranking) -> list[tuple[int | None, str, str]]:
    return [(row.rank, row.run.model, row.apart) for row in ranking.rows]


def test_rows_are_ranked_by_delta_and_ceilings_and_the_floor_are_not(make_tracking, make_baseline, load, tmp_path):
    make_tracking("a", "tapnext", 0.8, tracker=True)
    make_tracking("b", "made-up", 0.6)
    make_tracking("c", "dis", 0.7, tracker=True)
    make_tracking("d", "position-only", 0.2)
    make_baseline(tmp_path / "runs", "e" * 12, "made-up-baseline", clips=16)
    rankings, left_out = rank(load(), BOARDS)
    assert left_out == []
    assert [ranking.board.title for ranking in rankings] == ["Sprites", "Point tracking"]
    assert list_ranks(rankings[1]) == [
        *((1, "dis", ""), (2, "made-up", ""), (None, "tapnext", "ceiling"), (None, "position-only", "floor"))
    ]
    assert [row.unranked for row in rankings[1].rows][2:] == [
        "trained on tracks of points: a ceiling, not ranked",
        "nothing moves: the floor, not ranked",
    ]
    best = rankings[1].rows[0]
    assert best.cell.value == pytest.approx(0.71, abs=1e-6)
    assert set(best.at.cells) == {"average_pts_within_thresh", "average_jaccard", "occlusion_accuracy"}
    # nine clips differ by the same 0.1: of 512 flips two are as extreme
    assert rankings[1].rows[1].p == pytest.approx(2 / 512)
    assert not rankings[1].rows[1].tied


def test_a_table_says_what_its_rows_share(make_tracking, load):
    make_tracking("a", "made-up", 0.5)
    (ranking,), _ = rank(load(), BOARDS, lambda name: {"size": 64, "level": "easy"})
    assert ranking.group == {
        "dataset": "sprites",
        "size": "128",
        "split": "test",
        "queries": "first",
        "input class": "256",
        "clips": "all 9 clips" if ranking.group["clips"].startswith("all") else "first 9 clips",
        "frames": "17",
        "reference": "exact",
        "variant": "corrected",
    }


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"queries": "strided"}, "query_mode": "strided"},
        {"data": {"level": "hard"}},
        {"input_class": "full", "data_hash": "f" * 16},
        {"dataset": "tapvid-davis"},
        {"split": "validation"},
        {"variant": "difftrack"},
    ],
)
def test_other_data_queries_or_inputs_are_other_tables(make_tracking, load, other):
    usual = {"data_hash": "a" * 16, "data": {"queries": "first", "level": "easy"}}
    make_tracking("a", "made-up", 0.5, **usual)
    make_tracking("b", "made-up-two", 0.6, **{**usual, **other, "data": usual["data"] | other.get("data", {})})
    rankings, _ = rank(load(), BOARDS)
    assert [len(ranking.rows) for ranking in rankings] == [1, 1]
    assert rankings[0].group != rankings[1].group


@pytest.mark.parametrize("other", [{"track": {"order": "sliding"}}, {"sites": [{"layer": 3}]}])
def test_options_of_tracking_and_sites_make_rows_of_their_own(make_tracking, load, other):
    usual = {"track": {"order": "interval"}, "sites": [{"layer": 7}]}
    make_tracking("a", "made-up", 0.5, resolved=usual)
    make_tracking("b", "made-up", 0.6, resolved=usual | other)
    make_tracking("c", "made-up", 0.6, resolved=usual | other)
    (ranking,), left_out = rank(load(), BOARDS)
    assert [row.rank for row in ranking.rows] == [1, 2]
    assert len(left_out) == 1
    if "track" in other:
        assert [row.options for row in ranking.rows] == ["track.order sliding", "track.order interval"]


def test_few_clips_are_shown_without_a_rank(make_tracking, load):
    make_tracking("a", "made-up", 0.5, clips=7)
    (ranking,), _ = rank(load(), BOARDS)
    assert ranking.rows[0].unranked == "7 clips: too few to rank (this board needs 8)"


def test_other_tasks_have_no_board_here(make_tracking, load):
    run = make_tracking("a", "made-up", 0.5)
    record = run.record()
    record["row_context"]["task"] = "intervention"
    run.write_record(record, "complete")
    rankings, (left,) = rank(load(), BOARDS)
    assert rankings == []
    assert left.reason == "no board ranks intervention on the dataset sprites"


def test_cost_and_inputs_are_read_from_the_run(make_tracking, load):
    make_tracking("a", "dis", 0.5, tracker=True)
    make_tracking("b", "made-up", 0.5, cost={**COST, "device_gib": 7.5})
    make_tracking("c", "made-up-two", 0.5, cost=None)
    tracker, model, without = load()
    assert (tracker.cost.seconds, tracker.cost.gib, tracker.cost.where) == (1.25, 0.5, "process")
    assert (model.cost.gib, model.cost.where, model.cost.device) == (7.5, "device", "cpu")
    assert without.cost is None
    assert tracker.inputs == {InputFacts("first", "256")}
    assert [(run.is_tracker, run.is_baseline) for run in (tracker, model)] == [(True, False), (False, True)]


@pytest.mark.parametrize(("side", "shown"), [(8.0, ("16", "8 px")), (1.0, ("–", "any position"))])
def test_the_size_of_tokens_is_known_where_tracks_come_from_tokens(make_tracking, load, side, shown):
    columns = {"token_width": side, "token_height": side, "height": 128, "width": 128, "ceiling_kind": "free"}
    run = make_tracking("a", "made-up", 0.5, **columns)
    rows = run.read("scores").to_pylist()
    for clip in {row["clip"] for row in rows}:
        own = [row for row in rows if row["clip"] == clip]
        own.append({**own[0], "metric": "calibration_error", "ceiling_kind": "none", "floor": math.nan})
        write_shard(run.shard("scores", clip), "scores", [ScoreRow(**row) for row in own], "ef" * 32)
    ((row,),) = [ranking.rows for ranking in rank(load(), BOARDS)[0]]
    assert (token(row.token), token_note(row.token)) == shown


def test_a_single_table_names_the_options_that_are_not_the_defaults(load, tmp_path, make_run, record_of):
    for number, (level, named) in enumerate((("hard", True), ("easy", False))):
        record = record_of("made-up", 6)
        record["resolved"]["data"]["config"] = {"level": level, "size": 128, "unheard": 3}
        make_run(tmp_path / "runs", f"{number}" * 12, "made-up", clips=6, layers=2, steps=2, record=record)
        runs = [run for run in load() if run.run_id.startswith(str(number))]
        (ranking,), _ = rank(runs, BOARDS, find_defaults(installed()))
        assert ranking.group.get("level") == (level if named else None)
        assert not {"size", "unheard"} & ranking.group.keys()


def test_defaults_of_a_dataset_that_is_not_installed_are_not_known():
    defaults = find_defaults(installed())
    assert defaults("nowhere") == {}
    assert defaults("photos")["level"] == "hard"
    assert "path" not in defaults("folder")


def test_reported_numbers_stand_next_to_tracking_alone(make_tracking, make_run, tmp_path, no_plugins):
    assert len([row for table in TRACKING.reported for row in table.rows]) == 39
    values = {(t.source.split(",")[0], r.name): r for t in TRACKING.reported if "DAVIS" in t.dataset for r in t.rows}
    assert values["DiffTrack", "CogVideoX-5B"].values == {"average_pts_within_thresh": pytest.approx(0.469)}
    assert sum(values["DiffTrack", "CogVideoX-5B"].thresholds) / 5 == pytest.approx(0.469, abs=6e-4)
    make_run(tmp_path / "runs", "e" * 12, "made-up-other", clips=4, layers=2, steps=2)
    page = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).read_text("utf-8")
    assert "reported elsewhere" not in page
    make_tracking("a", "made-up", 0.5)
    page = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).read_text("utf-8")
    assert page.count('<span class="badge">reported</span>') == 39
    assert "occlusion: every point is called visible" in page


def test_the_published_mean_is_the_mean_of_the_thresholds_unless_a_note_says_so():
    rows = [row for table in TRACKING.reported for row in table.rows if row.thresholds]
    assert len(rows) == 15
    apart = [row for row in rows if abs(np.mean(row.thresholds) - row.values["average_pts_within_thresh"]) > 0.0011]
    assert [(row.name, row.notes) for row in apart] == [
        ("DINO B/16", ("the five published shares have the mean 36.9 %",)),
    ]


def test_the_page_shows_delta_aj_oa_and_cost_in_sight(make_tracking, tmp_path, no_plugins, open_page):
    make_tracking("a", "cotracker3-offline", 0.8, tracker=True)
    make_tracking("b", "made-up-with-a-long-name", 0.6)
    make_tracking("c", "dis", 0.7, tracker=True)
    make_tracking("d", "position-only", 0.2, cost=None)
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins)
    page = open_page(site, viewport={"width": 1200, "height": 900})
    for box in page.locator(".scroll").all():
        assert box.evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    table = page.locator("section.ranking")
    heads = [text.strip() for text in table.locator("thead th").all_inner_texts()]
    assert heads == ["Rank", "Model", "Probe", "Delta", "Gain", "Site", "Token", "AJ", "OA", "s per clip", "GiB"]
    assert [cell.split()[0] for cell in table.locator("tbody td.rank").all_inner_texts()] == ["1", "2", "–", "–"]
    assert "ceiling" in table.locator("tbody tr").nth(2).inner_text()
    assert "floor" in table.locator("tbody tr").nth(3).locator("th").inner_text()
    cells = table.locator("tbody tr").first.locator("td").all_inner_texts()
    assert cells[-2] == "1.25"
    assert cells[-1].split() == ["0.50", "process"]
    delta = table.get_by_role("columnheader", name="Delta")
    for _ in range(2):
        delta.get_by_role("button").click()
    names = table.locator("tbody tr th a").all_inner_texts()
    assert names[0] == "Position-Only"
    assert page.locator("section.reported tbody tr.unranked").count() == 39
    page.get_by_role("link", name="dis").first.click()
    assert page.locator("h1").inner_text() == "dis"
    assert "rank 1 of 2" in page.locator(".standings").inner_text()


def test_pages_of_clips_have_the_stored_tracks_as_shares_of_the_frame(make_tracking, load):
    make_tracking("a", "dis", 0.7, tracker=True, side=64)
    make_tracking("b", "made-up", 0.6, side=200)  # a model may read the clips at a size of its own
    make_tracking("c", "made-up-copy", 0.5, frames=3)
    (ranking,), _ = rank(load(), BOARDS)
    assert len(ranking.rows) == 3
    pages = make_clip_pages(ranking)
    assert [page.clip for page in pages] == [f"clip-{i:03d}" for i in range(MOST_CLIPS)]
    page = pages[0]
    assert page.rows == ("dis, direct", "Made-Up, direct")
    assert (page.points, page.tracks["frames"], page.tracks["ratio"], page.tracks["queries"]) == (2, 3, 1.0, [0, 1])
    quarter, half, tenth = UNIT // 4, UNIT // 2, UNIT // 10
    assert page.tracks["reference"] == {"xy": [quarter] * 4 + [None] * 2 + [half] * 6, "visible": [1, 1, 0, 1, 1, 1]}
    for row in page.tracks["rows"]:
        assert row["xy"] == [quarter + tenth, quarter] * 3 + [half + tenth, half] * 3
        assert row["visible"] == [0, 1, 1, 1, 1, 1]


def test_damaged_tracks_leave_a_row_out_of_its_page_alone(make_tracking, load, tmp_path):
    make_tracking("a", "dis", 0.7, tracker=True, side=64)
    whole = make_tracking("b", "made-up", 0.6, side=64)
    runs = load()
    whole.shard("predictions", "clip-001").write_bytes(b"x")
    (ranking,), _ = rank(runs, BOARDS)
    assert [len(page.rows) for page in make_clip_pages(ranking)] == [2, 1, 2, 2]


def test_a_page_of_a_clip_draws_the_chosen_row_and_frame(make_tracking, tmp_path, no_plugins, open_page):
    make_tracking("a", "dis", 0.7, tracker=True, side=64)
    make_tracking("b", "made-up", 0.6, side=64)
    page = open_page(build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins))
    page.get_by_role("link", name="clip-002").click()
    canvas = page.locator("canvas.tracks")
    ink = "c => c.toDataURL()"
    first = canvas.evaluate(ink)
    assert canvas.get_attribute("data-drawn") == "0:0"
    page.get_by_label("Frame").fill("2")
    assert (canvas.get_attribute("data-drawn"), page.get_by_role("status").inner_text()) == ("0:2", "frame 2 of 2")
    assert canvas.evaluate(ink) != first
    page.locator("select").select_option("Made-Up, direct")
    assert canvas.get_attribute("data-drawn") == "1:2"
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
