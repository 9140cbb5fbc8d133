"""Commands that read a run, on records and shards with drawn edits: each edit is reported or changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from support import odd_runs, sliding
from support.odd_runs import SAME, TOLD, Edit, Outcome
from support.scale import draw_cases

from vcorr.plugins import builtin, registry

TOLD_BY = {
    "": {"show", "show --json", "compare", "compare, the other way round", "board", "score", "run"},
    "scores": {"show", "show --json", "compare", "compare, the other way round", "board"},
    "predictions": {"score"},
    "tracks": {"score"},
}
"""The commands that read a table and must report what is wrong in it. Others replace the shard, or do not need it."""


@pytest.fixture(scope="module")
def plugins_of_tests():
    made = registry.Registry(
        [registry.PluginSource(m.__name__, m.__name__, "1", lambda m=m: m) for m in (builtin, sliding)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "installed", lambda: made)
        yield


@pytest.fixture(scope="module")
def whole(plugins_of_tests, tmp_path_factory) -> Path:
    """Returns a finished run, which no test changes."""
    return odd_runs.make_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "copy"


@pytest.fixture(scope="module")
def untouched(whole, scratch) -> dict[str, Outcome]:
    """Returns what the commands say about the run without an edit."""
    return odd_runs.try_edit(Edit("no edit", "", SAME, lambda run: None), whole, scratch)


def check(edit: Edit, found: dict[str, Outcome], untouched: dict[str, Outcome]) -> None:
    for name, outcome in found.items():
        where = f"{edit.name}, {name}: {outcome}"
        assert not outcome.crash, f"{where}\n{outcome.crash}"
        assert outcome.code in (0, 1, 2, 4), where
        assert (outcome.code == 0) or outcome.err.strip(), where
        assert "Traceback" not in outcome.out + outcome.err, where
        if edit.expected == SAME and name in ("show --json", "compare"):
            assert outcome.out == untouched[name].out, where
        if edit.expected == TOLD and name in TOLD_BY[edit.table]:
            file = edit.name.partition(":")[0].split("/")[-1]
            assert outcome.code != 0, where
            assert file in outcome.err, where


def test_the_run_without_an_edit_is_read_by_every_command(untouched) -> None:
    assert {name: (outcome.code, outcome.crash) for name, outcome in untouched.items()} == dict.fromkeys(
        untouched, (0, "")
    )


@pytest.mark.parametrize("edit", odd_runs.record_file_edits(), ids=str)
def test_a_record_that_is_no_record_is_reported(edit, whole, scratch, untouched) -> None:
    check(edit, odd_runs.try_edit(edit, whole, scratch, only=("show", "board")), untouched)


def test_an_odd_value_in_a_record_is_reported_or_changes_nothing(whole, scratch, untouched) -> None:
    @draw_cases(4)
    @given(odd_runs.record_edits(whole))
    def try_one(edit: Edit) -> None:
        check(edit, odd_runs.try_edit(edit, whole, scratch), untouched)

    try_one()


def test_a_crafted_shard_is_reported_or_changes_nothing(whole, scratch, untouched) -> None:
    @draw_cases(4)
    @given(odd_runs.shard_edits(whole))
    def try_one(edit: Edit) -> None:
        check(edit, odd_runs.try_edit(edit, whole, scratch), untouched)

    try_one()


def test_a_bomb_of_zeros_is_refused_before_it_takes_memory(whole, tmp_path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "runs" / whole.name))
    path = sorted((run / "scores").iterdir())[0]
    odd_runs.write_bomb(path)
    assert path.stat().st_size < 1_000_000
    outcome = odd_runs.invoke("show", "run", str(run))
    assert (outcome.code, outcome.crash) == (2, "")
    assert f"{path.name} is damaged and cannot be read (it declares" in outcome.err
