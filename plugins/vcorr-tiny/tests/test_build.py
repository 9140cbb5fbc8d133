"""Builds a dataset from the embedded model, offline, and runs the model on it, through the command line."""

import json

import numpy as np
import pytest

from vcorr.cli import main as program
from vcorr.data.dataset_folder import DatasetFolder
from vcorr.data.video import read_lossless
from vcorr.store.run_search import open_run

SMALL = ("--set", "model.height=64", "--set", "model.width=64", "--set", "model.frames=9")


def vcorr(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        program.main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert not ended.value.code, captured.err
    return json.loads(captured.out)


def test_build_and_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a red disk\na blue square\n")
    build = ("dataset", "build", "--model", "tiny", "--prompts", "prompts.txt", "--out", "made", *SMALL)
    build += ("--set", "num_steps=3", "--set", "cfg=1", "--min-moving", "0", "--min-visible", "0")
    made = vcorr(capsys, *build)
    assert [clip["status"] for clip in made["clips"]] == ["ok", "ok"]
    rows = DatasetFolder.open(tmp_path / "made").rows()
    videos = [read_lossless(tmp_path / "made" / row.video, row.video_sha256) for row in rows]
    assert [video.shape for video in videos] == [(9, 64, 64, 3)] * 2
    assert not np.array_equal(*videos)
    assert {(row.tracker, row.weights.split(":")[0]) for row in rows} == {("dis", "embedded")}
    assert vcorr(capsys, *build)["reused"] == 2

    run = ("run", "--model", "tiny", "--probe", "qk", "--steps", "last", "--layers", "5", "--data", "made", *SMALL)
    found = vcorr(capsys, *run)
    assert (found["status"], found["clips"]) == ("complete", 2)
    tracks = open_run(tmp_path / found["path"]).read("tracks").to_pylist()
    for row, track in zip(rows, tracks, strict=True):
        assert (track["xy"], track["tracker"]) == (row.xy.ravel().tolist(), "dis")
        assert track["licence"] == row.tracker_licence == "Apache-2.0 (OpenCV)"
