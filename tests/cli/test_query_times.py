"""Queries in several frames of a clip, from the folder of a dataset to the rows of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import sliding
from support.folders import make_folder

from vcorr.contract.records import Tracks
from vcorr.data.clip_table import COLUMNS, read_rows
from vcorr.data.dataset_folder import DatasetFolder
from vcorr.data.dataset_options import FolderConfig
from vcorr.data.stored_dataset import StoredDataset
from vcorr.store.rundir import RunDirectory
from vcorr.trackers.dis import Dis

FRAMES = np.int32([0, 2, 4, 2])
QUERIES = np.float32([[4.5, 4.5], [20, 30], [60.25, 8], [36, 50]])


@pytest.fixture
def timed(tmp_path: Path) -> Path:
    """Two clips whose queries are in frames 0, 2 and 4 of 5."""
    steps = np.arange(sliding.FRAMES)[None, :] - FRAMES[:, None]
    xy = QUERIES[:, None] + steps[..., None].astype(np.float32) * np.float32([sliding.SHIFT, 0])
    visible = (xy[..., 0] >= 0) & (xy[..., 0] < sliding.SIDE)
    make_folder(tmp_path / "timed", queries=QUERIES, query_frames=FRAMES, xy=xy, visible=visible, query_mode="first")
    return tmp_path / "timed"


def run(vcorr, timed: Path, *arguments: str) -> RunDirectory:
    model = () if "--model" in arguments else ("--model", "sliding-model", "--probe", "qk,attention")
    ended = vcorr("run", *model, "--data", str(timed), "--out", "runs", *arguments)
    assert ended.code == 0, ended.err
    return RunDirectory(Path(ended.out.splitlines()[-1].removeprefix("Results: ")))


def test_a_folder_keeps_the_frames_of_its_queries(timed) -> None:
    clip = StoredDataset(FolderConfig(path=str(timed))).clip("clip-0")
    assert clip.queries.t.tolist() == FRAMES.tolist()
    assert np.array_equal(clip.queries.xy, QUERIES)
    assert clip.query_mode == "first"


def test_a_model_that_sees_everything_answers_before_and_after_the_query(vcorr, timed) -> None:
    found = run(vcorr, timed, "--steps", "last")
    scores = [r for r in found.read("scores").to_pylist() if r["metric"] == "matching_accuracy" and r["layer"] == 0]
    assert [r["value"] for r in scores] == [1.0, 1.0]
    assert {(r["query_frame"], r["query_mode"], r["ceiling"]) for r in scores} == {(-1, "first", 1.0)}
    for row in found.read("predictions").to_pylist():
        assert row["query_frames"] == FRAMES.tolist()
        if row["kind"] == "positions":
            xy = np.float32(row["xy"]).reshape(4, sliding.FRAMES, 2)
            assert np.array_equal(xy[np.arange(4), FRAMES], QUERIES)
    for row in found.read("tracks").to_pylist():
        assert (row["query_frames"], row["query_mode"]) == (FRAMES.tolist(), "first")
        assert np.array_equal(np.float32(row["queries"]).reshape(4, 2), QUERIES)


def test_pairs_are_counted_from_the_frame_of_the_query(vcorr, timed) -> None:
    rows = run(vcorr, timed, "--steps", "last").read("scores").to_pylist()
    steps = np.arange(sliding.FRAMES)[None, :] - FRAMES[:, None]
    x = QUERIES[:, :1] + steps * sliding.SHIFT
    pairs = ((x >= 0) & (x < sliding.SIDE) & (steps != 0)).sum()
    assert {r["n"] for r in rows if r["metric"] == "matching_accuracy"} == {pairs}


def test_a_tracker_of_the_run_starts_at_the_query(vcorr, timed) -> None:
    found = run(vcorr, timed, "--steps", "last", "--set", "tracker=dis")
    for row in found.read("tracks").to_pylist():
        xy = np.float32(row["xy"]).reshape(4, sliding.FRAMES, 2)
        assert row["tracker"] == "dis"
        assert np.array_equal(xy[np.arange(4), FRAMES], QUERIES)


def test_a_tracker_that_takes_every_query_for_one_of_frame_0_is_named(vcorr, timed, monkeypatch) -> None:
    def first_frame_alone(self, video, queries):
        steps = np.arange(len(video), dtype=np.float32)[None, :, None]
        xy = queries.xy[:, None] + steps * np.float32([sliding.SHIFT, 0])
        return Tracks(xy, np.ones(xy.shape[:2], bool), "first")

    monkeypatch.setattr(Dis, "track", first_frame_alone)
    data = ("--data", str(timed), "--steps", "last", "--set", "tracker=dis")
    ended = vcorr("run", "--model", "sliding-model", "--probe", "qk", *data)
    assert ended.code == 3
    assert "its track 2 is 32 pixels away from it in frame 4" in ended.err


def test_a_baseline_answers_them_as_well(vcorr, timed) -> None:
    found = run(vcorr, timed, "--model", "token-patches")
    rows = [r for r in found.read("scores").to_pylist() if r["metric"] == "matching_accuracy"]
    assert [(r["value"], r["probe"]) for r in rows] == [(1.0, "direct")] * 2


def test_overlays_are_drawn(vcorr, timed) -> None:
    found = run(vcorr, timed, "--steps", "last", "--save-videos")
    assert len(list(found.path.glob("videos/*.mp4"))) == 2


def test_a_query_in_a_frame_that_the_model_does_not_read_is_an_error(vcorr, timed, monkeypatch) -> None:
    grid = sliding.SlidingModel.grid

    def short(self, clip, site):
        cut = grid(self, clip, site)
        return type(cut)(frames=3, rows=cut.rows, cols=cut.cols, stride=cut.stride)

    monkeypatch.setattr(sliding.SlidingModel, "grid", short)
    ended = vcorr("run", "--model", "sliding-model", "--probe", "qk", "--data", str(timed), "--out", "runs")
    rows = RunDirectory(next((Path("runs")).iterdir())).read("scores").to_pylist()
    assert ended.code == 1
    alone = vcorr(
        "run", "--model", "sliding-model", "--probe", "qk", "--data", str(timed), "--limit", "1", "--out", "no"
    )
    assert (alone.code, Path("no").exists()) == (2, False)
    assert "1 of 4 queries are in later ones, the first in frame 4" in alone.err
    assert all("the model reads the first 3 frames, and 1 of 4 queries" in row["error"] for row in rows)


def test_the_hash_of_the_data_tells_the_frames_apart(vcorr, timed, tmp_path) -> None:
    def hashes(folder: Path) -> set[str]:
        return set(run(vcorr, folder, "--steps", "last").read("scores")["data_hash"].to_pylist())

    xy = np.repeat(QUERIES[:, None], sliding.FRAMES, axis=1)
    same = {"queries": QUERIES, "xy": xy, "visible": np.ones((4, sliding.FRAMES), bool)}
    make_folder(tmp_path / "zero", query_frames=np.int32([0] * 4), **same)
    make_folder(tmp_path / "four", query_frames=np.int32([4] * 4), **same)
    assert not hashes(tmp_path / "zero") & hashes(tmp_path / "four")


def test_a_table_of_the_layout_before_has_its_queries_in_frame_0(tmp_path) -> None:
    folder = make_folder(tmp_path / "old", clips=1)
    path = folder.row_path("clip-0")
    (now,) = read_rows(path)
    table = pq.read_table(path)
    later = ("query_frames", "query_mode", "input_class")
    metadata = {**table.schema.metadata, b"vcorr.schema_version": b"2"}
    pq.write_table(table.drop_columns(later).replace_schema_metadata(metadata), path)
    (old,) = read_rows(path)
    assert old.query_frames.tolist() == [0] * 3
    assert (old.query_mode, old.input_class) == ("frame", "")
    # its tracks were hashed without the frames, and are still the stored tracks
    assert old.tracks_hash() == now.tracks_hash()
    assert old.identity() == now.identity()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("query_frames", [0, 2, 5, 2], "query_frames names frame 5; the clip has 5"),
        ("query_frames", [0, -1, 4, 2], "query_frames names frame -1"),
        ("query_frames", [0, 2, 4], "query_frames holds 3 values"),
        ("query_mode", "often", "query_mode is 'often'; it must be one of"),
        ("input_class", "512", "input_class is '512'; it must be one of"),
    ],
)
def test_what_contradicts_itself_is_refused(vcorr, timed, column, value, message) -> None:
    path = DatasetFolder.open(timed).row_path("clip-0")
    table = pq.read_table(path)
    index = table.column_names.index(column)
    changed = table.set_column(index, column, pa.array([value], COLUMNS.field(column).type))
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    ended = vcorr("dataset", "show", str(timed), "--json")
    text = json.dumps(ended.out) + ended.err
    assert ended.code != 0
    assert message in text
