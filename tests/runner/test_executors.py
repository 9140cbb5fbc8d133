"""Working off clips of a plan: shards, reports, and the names of executors."""

from __future__ import annotations

import pickle
import sys

import pytest

import vcorr
from vcorr.runner.executors.executor import find_executor
from vcorr.runner.executors.table import EXECUTORS
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.runner.worker import Report, work_off, work_off_each
from vcorr.store.rundir import RECORD, RunDirectory


@pytest.fixture
def registry(plugins):
    return plugins()


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": "sliding-model", "probe": "qk", "steps": "0,9", **changes})


def test_work_off_writes_shards_and_no_record(registry, tmp_path) -> None:
    plan = make_plan(spec(), registry)
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


def test_a_report_comes_for_every_clip_as_soon_as_it_is_on_disk(registry, tmp_path) -> None:
    plan = make_plan(spec(options={"data": {"fail": "slide-1"}}), registry)
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


def test_every_executor_that_is_listed_can_be_had(monkeypatch) -> None:
    for name in ("local", "submitit"):
        assert callable(find_executor(name))
    with pytest.raises(vcorr.UsageError, match=r"Unknown executor 'Local'\. Did you mean 'local'\?"):
        find_executor("Local")
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "vcorr.runner.executors.ray_actors", raising=False)
    with pytest.raises(vcorr.MissingError, match=r"executor 'ray' needs the package ray(.|\n)*vcorr\[ray\]"):
        find_executor("ray")
    assert set(EXECUTORS) == {"local", "ray", "submitit"}
