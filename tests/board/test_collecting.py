"""Small copies of runs: the board of the copies is the board of the runs."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from vcorr.board.collecting import collect_runs
from vcorr.board.site.site_build import build_site
from vcorr.cli import main as program
from vcorr.contract.errors import StoreError, UsageError
from vcorr.store.rundir import PACKED, RunDirectory, find_runs

METRICS = ("matching_accuracy", "matching_accuracy_moving", "pck_8", "pck_8_moving")


def run_command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        program.main(["board", "collect", *map(str, words)])
    return ended.value.code or 0


def collect(results, out, metrics=METRICS):
    return {found.run.name: found.reason for found in collect_runs(results, out, metrics)}


def test_the_board_of_copies_ranks_as_the_board_of_runs(results, tmp_path, no_plugins) -> None:
    collect(results, tmp_path / "copies")
    pages = [
        (build_site(folder, tmp_path / name, registry=no_plugins).parent / "index.html").read_text()
        for folder, name in ((results, "a"), (tmp_path / "copies", "b"))
    ]
    assert pages[0] == pages[1]
    assert "made-up-good" in pages[0]


def test_a_copy_has_the_wanted_columns_and_all_their_numbers(results, tmp_path) -> None:
    collect(results, tmp_path / "copies", ("pck_8", "pck_4"))
    for run in find_runs(tmp_path / "copies"):
        whole, copy = RunDirectory(results / run.run_id).read("scores"), run.read("scores")
        kept = [row for row in whole.to_pylist() if row["metric"] in ("pck_8", "pck_4")]
        assert copy.schema == whole.schema
        assert list(map(repr, copy.to_pylist())) == list(map(repr, kept))  # NaN is not equal to itself
        assert run.record() == RunDirectory(results / run.run_id).record()
    assert sorted(path.name for path in run.path.iterdir()) == ["run.json", PACKED]


def test_some_clips_of_a_copy_are_read_by_their_ids(results, tmp_path) -> None:
    collect(results, tmp_path / "copies")
    run = RunDirectory(tmp_path / "copies" / "dddddddddddd")
    found = [table["clip"][0].as_py() for table in run.iter_shards("scores", ["clip-003", "clip-005"])]
    assert found == ["clip-003", "clip-005"]
    assert len(list(run.iter_shards("scores"))) == 16


def test_a_copy_of_a_copy_is_the_same_and_much_smaller_than_the_run(results, tmp_path) -> None:
    collect(results, tmp_path / "a")
    collect(tmp_path / "a", tmp_path / "b")
    for run in find_runs(tmp_path / "a"):
        assert (run.path / PACKED).read_bytes() == (tmp_path / "b" / run.run_id / PACKED).read_bytes()
        parts = [path.stat().st_size for path in (results / run.run_id / "scores").iterdir()]
        assert 5 * (run.path / PACKED).stat().st_size < sum(parts)


def test_failed_clips_stay_known(tmp_path, make_run) -> None:
    make_run(tmp_path / "runs", "a" * 12, "made-up", clips=3, layers=1, steps=1, failed=1)
    collect(tmp_path / "runs", tmp_path / "copies")
    rows = RunDirectory(tmp_path / "copies" / ("a" * 12)).read("scores").to_pylist()
    assert [row["clip"] for row in rows if row["status"] == "failed"] == ["failed-000"]


def test_runs_are_found_at_any_depth_and_equal_names_are_kept_apart(tmp_path, make_baseline) -> None:
    for folder in ("x", "x/deeper", "y"):
        make_baseline(tmp_path / "runs" / folder, "d" * 12, "made-up", clips=1)
    collect(tmp_path / "runs", tmp_path / "copies")
    assert [run.run_id for run in find_runs(tmp_path / "copies")] == ["d" * 12, "d" * 12 + "-2", "d" * 12 + "-3"]


def test_copies_below_the_runs_are_not_copied_again(results, tmp_path) -> None:
    for _ in range(2):
        collect(results, results / "copies")
    assert [run.run_id for run in find_runs(results / "copies")] == [run.run_id for run in find_runs(results)]


def test_a_whole_run_of_the_same_name_is_never_replaced_by_a_copy(results, tmp_path, make_baseline, capsys) -> None:
    make_baseline(tmp_path / "others", "d" * 12, "made-up", clips=1)
    before = snapshot(tmp_path / "others")
    assert run_command("--results", results, "--out", tmp_path / "others") == 2
    assert "is a whole run, not a copy" in " ".join(capsys.readouterr().err.split())
    assert snapshot(tmp_path / "others") == before


def test_what_is_left_out_is_said_with_the_reason(results, tmp_path, make_run, capsys) -> None:
    make_run(results, "eeeeeeeeeeee", "made-up-partial", clips=1, layers=1, steps=1, status="partial")
    assert run_command("--results", results, "--out", tmp_path / "copies") == 0
    said = capsys.readouterr()
    assert re.search(r"eeeeeeeeeeee: it is partial, not complete", " ".join(said.err.split()))
    assert said.out.startswith("4 runs, ")
    assert not (tmp_path / "copies" / "eeeeeeeeeeee").exists()


def test_a_column_that_no_run_has_is_refused(results, tmp_path, capsys) -> None:
    with pytest.raises(UsageError, match="Unknown column of scores 'pck_9'"):
        list(collect_runs(results, tmp_path / "copies", METRICS, ["pck_9"]))
    assert run_command("--results", results, "--out", tmp_path / "copies", "--metrics", "pck_9") == 2
    assert run_command("--results", tmp_path / "nothing", "--out", tmp_path / "copies") == 4
    assert "no runs in" in capsys.readouterr().err


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", [".", "..", "aaaaaaaaaaaa", "aaaaaaaaaaaa/inside"])
def test_copies_never_replace_runs_or_hide_in_one(place, tmp_path, make_baseline, capsys) -> None:
    # with "..", the folder of copies already holds a whole run of that name
    runs = tmp_path / "runs"
    for folder in (runs, runs / "deeper"):
        make_baseline(folder, "a" * 12, "made-up", clips=1)
    results = runs / "deeper" if place == ".." else runs
    before = snapshot(tmp_path)
    assert run_command("--results", results, "--out", results / place) == 2
    assert "Name another folder for copies: --out DIR" in capsys.readouterr().err
    assert snapshot(tmp_path) == before


def test_links_neither_repeat_a_run_nor_run_in_circles(results, tmp_path) -> None:
    (results / "again").symlink_to(results)
    (results / "twice").symlink_to(results / "dddddddddddd")
    (results / "deeper").mkdir()
    (results / "deeper" / "up").symlink_to(tmp_path)
    collect(results, tmp_path / "copies")
    assert len(find_runs(tmp_path / "copies")) == 4


@pytest.mark.parametrize("part", ["run.json", "scores"])
def test_a_damaged_run_is_left_out_and_the_others_are_copied(part, results, tmp_path, capsys) -> None:
    broken = results / "bbbbbbbbbbbb" / part
    broken = broken if broken.is_file() else sorted(broken.iterdir())[1]
    broken.write_bytes(b"{")
    assert run_command("--results", results, "--out", tmp_path / "copies") == 1
    said = capsys.readouterr()
    assert "Left out: " in said.err
    assert "is damaged" in said.err
    assert said.out.startswith("3 runs, ")
    assert [run.run_id[0] for run in find_runs(tmp_path / "copies")] == ["a", "c", "d"]


def test_a_copy_without_its_record_is_still_found(results, tmp_path, no_plugins) -> None:
    collect(results, tmp_path / "copies")
    (tmp_path / "copies" / "dddddddddddd" / "run.json").unlink()
    left_out = []
    build_site(tmp_path / "copies", tmp_path / "site", registry=no_plugins, tell=left_out.append)
    assert [run.run_id for run in left_out] == ["dddddddddddd"]


def test_a_copy_cannot_be_scored_and_says_why(results, tmp_path, capsys) -> None:
    collect(results, tmp_path / "copies")
    with pytest.raises(SystemExit) as ended:
        program.main(["score", str(tmp_path / "copies" / "dddddddddddd")])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "is a small copy of scores, without predictions. Score the run that it was copied from" in said


def test_a_damaged_copy_is_named(results, tmp_path) -> None:
    collect(results, tmp_path / "copies")
    path = tmp_path / "copies" / "dddddddddddd" / PACKED
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{PACKED} is damaged"):
        RunDirectory(path.parent).read("scores")


def test_scores_of_two_runs_in_one_file_are_refused(results, tmp_path) -> None:
    collect(results, tmp_path / "copies")
    path = tmp_path / "copies" / "dddddddddddd" / PACKED
    other = pa.ipc.open_file(tmp_path / "copies" / "bbbbbbbbbbbb" / PACKED).read_all()
    own = pa.ipc.open_file(path).read_all()
    metadata = {key: value for key, value in own.schema.metadata.items() if key != b"vcorr.sha256"}
    with pa.ipc.new_file(path, own.schema.with_metadata(metadata)) as writer:
        tables = [table.cast(own.schema).replace_schema_metadata(metadata) for table in (own, other)]
        writer.write_table(pa.concat_tables(tables).unify_dictionaries().combine_chunks())
    with pytest.raises(StoreError, match="run"):
        RunDirectory(path.parent).read("scores")
