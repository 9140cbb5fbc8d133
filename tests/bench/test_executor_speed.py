"""`vcorr bench executor`: the same clips in one process and in two, timed after loading, with the files compared."""

from __future__ import annotations

import json

import pytest
from support import mortal

from vcorr.bench import executor_speed
from vcorr.bench.executor_speed import ExecutorSpeed, time_executors
from vcorr.cli.main import main
from vcorr.contract.errors import StoreError, UsageError
from vcorr.runner.executors.crew import Crew
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.runner.worker import work_off_each

BENCH = ["bench", "executor", "--model", "sliding-model", "--data", "token-slide", "--device", "cpu"]


@pytest.fixture
def plan(plugins):
    return make_plan(RunSpec(model="sliding-model", probe="qk", steps="0", workers=2), plugins(mortal))


class HereCrew(Crew):
    """Works in this process; how processes report a failed clip is tested in tests/runner/test_local_processes.py."""

    def work_off(self, clips):
        return work_off_each(self._plan, self._run, clips, events=self._events)


def test_two_numbers_of_processes_are_compared(plugins, capsys) -> None:
    plugins(mortal)
    with pytest.raises(SystemExit) as ended:
        main([*BENCH, "--clips", "2", "--workers", "1,2", "--json"])
    assert not ended.value.code
    one, two = json.loads(capsys.readouterr().out)
    assert (one["workers"], one["speedup"], one["same_bytes"]) == (1, 1.0, True)
    assert (two["workers"], two["same_bytes"]) == (2, True)
    assert two["speedup"] == pytest.approx(one["seconds"] / two["seconds"])
    assert min(one["seconds"], two["seconds"], one["load_seconds"], two["load_seconds"]) > 0


def test_files_that_differ_are_said(plan, tmp_path, monkeypatch) -> None:
    def pretend(plan, workers, clips, out):
        row = ExecutorSpeed("m", "cpu", "float32", workers, clips, load_seconds=1.0, seconds=4.0 / workers)
        return row, {"scores/a.arrow": b"x" if workers < 2 else b"y"}

    monkeypatch.setattr(executor_speed, "_time_one", pretend)
    said: list[str] = []
    one, two = time_executors(plan, [1, 2], 2, tmp_path, said.append)
    assert (one.same_bytes, one.error) == (True, "")
    assert (two.same_bytes, two.error, two.speedup) == (False, "The files differ from the files of the first row.", 2.0)
    assert said == ["2 clips in 1 process", "2 clips in 2 processes"]


def test_too_few_clips_or_devices_are_refused(plan, tmp_path) -> None:
    with pytest.raises(UsageError, match="3 timed clips and 2 for loading are needed; the data have 4"):
        time_executors(plan, [1, 2], 3, tmp_path, print)
    with pytest.raises(UsageError, match="3 processes were asked for, and there are devices for 2"):
        time_executors(plan, [3], 1, tmp_path, print)


def test_clips_that_fail_end_the_measurement(plugins, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(executor_speed, "Crew", HereCrew)
    options = {"data": {"fail": "slide-3"}}
    failing = make_plan(RunSpec(model="sliding-model", probe="qk", steps="0", options=options), plugins(mortal))
    with pytest.raises(StoreError, match="nothing was measured: slide-3"):
        time_executors(failing, [1], 1, tmp_path, lambda text: None)
