"""Working off a plan in other processes gives the same bytes, and one record of the whole run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import vcorr
from vcorr.runner.coordinator import Outcome, Reuse, execute
from vcorr.runner.executors.executor import find_executor
from vcorr.runner.executors.table import EXECUTORS
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.runner.worker import Report, work_off, work_off_each
from vcorr.store.rundir import RECORD, TABLES, RunDirectory, find_runs


@pytest.fixture
def found(plugins):
    return plugins()


@pytest.fixture(autouse=True)
def two(monkeypatch) -> None:
    """Adds an executor `two`, which uses two processes."""
    monkeypatch.setitem(EXECUTORS, "two", "support.executors:two_processes")  # type: ignore[arg-type]


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": "sliding-model", "probe": "qk", "steps": "0,9", **changes})


def run(found, out: Path, reuse: Reuse = Reuse.MATCHING, **changes) -> Outcome:
    return execute(make_plan(spec(**changes), found), out, reuse=reuse)


def shards_of(run: RunDirectory) -> dict[str, bytes]:
    return {
        str(path.relative_to(run.path)): path.read_bytes() for table in TABLES for path in (run.path / table).iterdir()
    }


@pytest.mark.parametrize(
    "changes",
    [{}, {"model": "token-patches", "data": "token-slide", "probe": "", "steps": None, "tracker": "dis"}],
    ids=["a model that is loaded", "a baseline"],
)
def test_two_processes_write_what_one_writes(found, tmp_path, changes) -> None:
    alone = run(found, tmp_path / "alone", **changes)
    shared = run(found, tmp_path / "shared", executor="two", **changes)
    assert shared.run.run_id == alone.run.run_id
    assert shards_of(shared.run) == shards_of(alone.run)
    assert (shared.status, shared.clips, shared.reused, shared.failed) == ("complete", 4, 0, ())
    ours, theirs = shared.run.record(), alone.run.record()
    assert ours["clips"] == {"total": 4, "done": 4, "failed": 0, "reused": 0}
    assert ours["seconds"]["per_computed_clip"] > 0
    assert ours["seconds"]["load"] is not None
    assert ours["peak_memory_gib"]["host"] > 0.05  # GiB of a worker; torch alone takes more
    differ = {"started", "updated", "seconds", "peak_memory_gib", "spec"}
    assert {k: v for k, v in ours.items() if k not in differ} == {k: v for k, v in theirs.items() if k not in differ}
    again = run(found, tmp_path / "shared", **changes)
    assert again.reused == 4


def test_what_other_processes_could_not_do_is_in_the_one_record(found, tmp_path) -> None:
    done = run(found, tmp_path, executor="two", options={"data": {"fail": "slide-1"}})
    assert (done.status, done.failed) == ("partial", ("slide-1",))
    assert done.run.record()["clips"] == {"total": 4, "done": 4, "failed": 1, "reused": 0}
    with pytest.raises(vcorr.MissingError, match="The weights are not here") as raised:
        run(found, tmp_path, executor="two", weights="missing")
    assert raised.value.hint == "Fetch them."
    assert sorted(found.record()["status"] for found in find_runs(tmp_path)) == ["partial", "partial"]


def test_work_off_writes_shards_and_no_record(found, tmp_path) -> None:
    plan = make_plan(spec(), found)
    run = RunDirectory.create(tmp_path, plan.fingerprints()["predict"])
    first = work_off(plan, run, ["slide-2", "slide-0"])
    assert (first.computed, first.reused, first.failed) == (2, 0, ())
    assert first.model_seconds > 0
    assert first.load_seconds is not None
    assert pickle.loads(pickle.dumps(first)) == first
    assert {path.stem for path in (run.path / "scores").iterdir()} == {"slide-0", "slide-2"}
    rest = work_off(plan, run, plan.selection.clips)
    assert (rest.computed, rest.reused) == (2, 2)
    assert not (run.path / RECORD).exists()
    with pytest.raises(vcorr.VcorrError, match="slide-9"):
        work_off(plan, run, ["slide-9"], compute=False)


def test_a_report_comes_for_every_clip_as_soon_as_it_is_on_disk(found, tmp_path) -> None:
    plan = make_plan(spec(options={"data": {"fail": "slide-1"}}), found)
    run = RunDirectory.create(tmp_path, plan.fingerprints()["predict"])
    seen = []
    for report in work_off_each(plan, run, plan.selection.clips):
        there = len(list((run.path / "scores").iterdir()))
        seen.append((there, report.computed, report.failed))
    assert seen == [(1, 1, ()), (2, 1, ("slide-1",)), (3, 1, ()), (4, 1, ())]


def test_reports_add_up() -> None:
    a = Report(computed=2, failed=("x",), model_seconds=3.0, load_seconds=5.0, host_peak=1.5)
    b = Report(computed=1, reused=4, model_seconds=1.0, load_seconds=2.0, device_peak=7.0, host_peak=0.5)
    both = Report(3, 4, ("x",), 4.0, 5.0, 7.0, 1.5)
    assert a + b == both
    assert sum([a, b], start=Report()) == both
    assert Report() + Report() == Report()


def test_every_executor_that_is_listed_can_be_had() -> None:
    for name in ("local", *EXECUTORS):
        assert callable(find_executor(name))
    with pytest.raises(vcorr.UsageError, match=r"Unknown executor 'Local'\. Did you mean 'local'\?"):
        find_executor("Local")
