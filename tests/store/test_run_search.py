"""Runs in folders of folders, and runs that are named by their id."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcorr.contract.errors import StoreError
from vcorr.store import run_search, rundir
from vcorr.store.run_search import locate_run, open_run
from vcorr.store.rundir import PACKED, RunDirectory


def make(folder: Path, name: str) -> RunDirectory:
    run = RunDirectory.create(folder, name * 64)
    run.write_record({}, "started")
    return run


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_are_found_down_to_a_depth_and_not_in_hidden_folders_or_in_runs() -> None:
    places = [Path("runs"), Path("runs/demo"), Path("runs/study/runs"), Path("runs/1/2/3/4"), Path("runs/.hidden")]
    made = [make(place, name).path for place, name in zip(places, "abcde", strict=True)]
    make(made[0] / "inside", "f")
    found = [run.path for run in run_search.find_all_runs(Path("runs"), depth=run_search.DEPTH)]
    assert found == made[:3]
    assert {run.path for run in run_search.find_all_runs(Path("runs"))} == set(made[:4])


@pytest.mark.parametrize("text", ["cccccccccccc", "cccc", "c", "runs/c", "runs/demo/cccc"])
def test_a_run_is_named_by_its_id_or_the_beginning_of_it(text) -> None:
    wanted, _ = make(Path("runs/demo"), "c"), make(Path("runs"), "d")
    assert open_run(Path(text)) == wanted


def test_an_id_is_looked_for_in_the_folder_before_it_and_else_in_runs() -> None:
    make(Path("runs"), "a")
    elsewhere = make(Path("other/deeper"), "b")
    assert locate_run(Path("other/bb")) == elsewhere
    with pytest.raises(StoreError, match=r"no run id in runs begins with 'bb'.*\nThe runs there: vcorr list runs$"):
        locate_run(Path("bb"))
    with pytest.raises(StoreError, match=r"vcorr list runs --results other$"):
        locate_run(Path("other/aa"))


def test_a_whole_id_wins_over_ids_that_begin_with_it_and_a_beginning_of_several_is_refused() -> None:
    first = make(Path("runs"), "a")
    beside = rundir.RunDirectory.create(Path("runs"), "a" * 64, beside=True)
    beside.write_record({}, "started")
    assert locate_run(Path("a" * 12)) == first
    with pytest.raises(StoreError, match=rf"aaaa names several runs in runs: {'a' * 12}, {'a' * 12}-2."):
        locate_run(Path("aaaa"))


def test_a_small_copy_gives_way_to_the_run_it_was_made_from_and_two_equal_ids_are_refused() -> None:
    original = make(Path("runs/demo"), "a")
    copy = Path("runs/copies", original.run_id)
    copy.mkdir(parents=True)
    (copy / PACKED).write_bytes(b"")
    assert locate_run(Path("aa")) == original
    make(Path("runs/other"), "a")
    with pytest.raises(StoreError, match=rf"runs: demo/{'a' * 12}, other/{'a' * 12}."):
        locate_run(Path("a" * 12))


def test_a_folder_stands_for_the_one_run_below_it() -> None:
    only = make(Path("runs/demo"), "a")
    assert open_run(Path("runs")) == only
    make(Path("runs/later"), "b")
    with pytest.raises(StoreError, match=rf"demo/{'a' * 12}, later/{'b' * 12}"):
        open_run(Path("runs"))


@pytest.mark.parametrize("text", ["nowhere", "no/where", "x" * 400])
def test_without_any_run_the_error_says_how_to_make_one(text) -> None:
    with pytest.raises(StoreError, match=r"is not a run: it has no run.json.\nRuns are made by: vcorr run"):
        open_run(Path(text))
