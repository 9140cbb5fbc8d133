"""Several processes that share every pass of a model: the tables of one process, and one error if one of them fails."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support import together
from support.heard import Listening
from support.processes import PATIENCE
from support.tables import same

import vcorr
from vcorr.contract.errors import InterruptedRunError
from vcorr.runner.coordinator import Outcome, execute
from vcorr.runner.executors import team
from vcorr.runner.executors.crew import ProcessDiedError
from vcorr.runner.plan import make_plan
from vcorr.runner.repeat import words_to_repeat
from vcorr.runner.spec import RunSpec
from vcorr.store.rundir import TABLES, find_runs

SPEC = RunSpec(
    model="together",
    probe="qk,feature,attention",
    steps="9",
    parallel="ulysses:2",
    options={"probe": {"heads": "each"}, "data": {"clips": 3}},
)


@pytest.fixture
def registry(plugins):
    return plugins(together)


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """The folder in which processes leave their ids."""
    folder = tmp_path / "processes"
    folder.mkdir()
    monkeypatch.setenv(together.FOLDER, str(folder))
    return folder


def run(registry, out: Path, events=None, **changes) -> Outcome:
    return execute(make_plan(replace(SPEC, **changes), registry), out, events=events)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_so_does_one_whose_process_was_killed_to_the_tables_of_one_process(
    registry, tmp_path, processes, monkeypatch
) -> None:
    shared = tmp_path / "shared"
    with pytest.raises(InterruptedRunError, match="1 of 3 clips are finished and kept"):
        run(registry, shared, Listening(interrupt=True))
    assert_ended(processes, 2)

    monkeypatch.setenv(together.FAILING, "slide-2 1 kill")
    heard = Listening()
    with pytest.raises(ProcessDiedError) as raised:
        run(registry, shared, heard)
    assert "Process 1 of 2, on cpu, ended early (killed by SIGKILL)" in raised.value.message
    assert "The same command goes on from there" in raised.value.hint
    assert heard.ends == ["slide-0", "slide-1"], "no clip failed"
    (stopped,) = find_runs(shared)
    assert stopped.record()["status"] == "partial"
    assert_ended(processes, 4)

    monkeypatch.delenv(together.FAILING)
    heard = Listening()
    whole = run(registry, shared, heard)
    assert (whole.status, whole.reused, whole.run.run_id) == ("complete", 2, stopped.run_id)
    assert heard.steps == {"slide-2": 1}, "one process tells what happens"
    assert_ended(processes, 6)
    assert_as_in_one_process(whole, run(registry, tmp_path / "alone", parallel=None))


def assert_as_in_one_process(shared: Outcome, alone: Outcome) -> None:
    for table in TABLES:
        found, expected = (outcome.run.read(table).drop_columns("run") for outcome in (shared, alone))
        assert same(found, expected), table
    rows = shared.run.read("predictions").to_pylist()
    heads = {row["head"]: row["xy"] for row in rows if row["probe"] == "qk" and row["layer"] == 0}
    assert sorted(heads) == [-1, 0, 1]
    assert heads[0] != heads[1], "a wrong order of the heads would be seen"
    record = shared.run.record()
    assert (record["spec"]["parallel"], record["resolved"]["parallel"]) == ("ulysses:2", "ulysses:2")
    assert "--parallel ulysses:2" in " ".join(words_to_repeat(record))
    assert "parallel" not in alone.run.record()["resolved"]


class Impatient(Listening):
    """Waits for all processes at the first clip, where all of them fail, and then no longer for those that wait."""

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        self._monkeypatch = monkeypatch

    def clip_failed(self, clip_id: str, error: str) -> None:
        super().clip_failed(clip_id, error)
        self._monkeypatch.setattr(team, "SECONDS_TO_AGREE", 0.1)


def test_a_clip_fails_if_all_processes_fail_or_one_for_which_the_others_wait_and_some_errors_end_the_run(
    registry, tmp_path, processes, monkeypatch
) -> None:
    monkeypatch.setattr(team, "SECONDS_TO_AGREE", PATIENCE)
    monkeypatch.setenv(together.FAILING, "slide-0 all raise; slide-1 1 alone; slide-2 1 lack")
    heard = Impatient(monkeypatch)
    with pytest.raises(vcorr.MissingError, match=r"The shelf is empty\.\nFill it\."):
        run(registry, tmp_path / "runs", heard)
    said = "ValueError: {} (model 'together' of support.together 1, in run())"
    errors = {
        "slide-0": said.format("no such colour"),
        "slide-1": said.format("process 1 has no such colour"),
    }
    assert heard.ends == [f"{clip}: {error}" for clip, error in errors.items()]
    (stopped,) = find_runs(tmp_path / "runs")
    rows = stopped.read("predictions").to_pylist()
    assert {row["clip"]: row["error"] for row in rows if row["status"] == "failed"} == errors
    assert_ended(processes, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parallel": "ulysses"}, r"--parallel 'ulysses' names no way(.|\n)*--parallel ulysses:2"),
        ({"parallel": "ulysses:1"}, "names no way"),
        ({"parallel": "ring:2"}, "names no way"),
        ({"workers": 2}, r"compute one clip together; --workers 2 has each compute its own"),
        ({"executor": "ray"}, r"--executor ray runs elsewhere"),
        ({"task": "tracking"}, r"--parallel ulysses:2 is for vcorr run"),
        ({"parallel": "ulysses:3"}, r"has 2 heads and 320 video tokens here(.|\n)*that work: 2\."),
        ({"model": "sliding-model"}, r"share a pass of SlidingModel(.|\n)*Models that can be shared: together\."),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_is_written(registry, changes, said) -> None:
    with pytest.raises(vcorr.UsageError, match=said):
        make_plan(replace(SPEC, **changes), registry)


def assert_ended(folder: Path, count: int) -> None:
    """Asserts that so many processes have computed clips so far, and that none of them runs any more."""
    found = [int(path.name) for path in folder.iterdir()]
    assert len(found) == count
    for process in found:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
