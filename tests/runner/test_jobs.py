"""Runs in jobs through submitit, with its local executor; and options and addresses of executors."""

from __future__ import annotations

import shutil
import socket
import sys
from types import SimpleNamespace

import pytest
import submitit
from support import mortal
from support.heard import shards_of

from vcorr.contract.errors import MissingError, UsageError
from vcorr.runner.coordinator import execute
from vcorr.runner.executors import jobs
from vcorr.runner.executors.table import EXECUTORS, find_lack, read_options
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.rundir import TABLES

LOCAL = {"cluster": "local", "gpus": "0", "jobs": "2", "cpus": "1"}


@pytest.fixture
def registry(plugins):
    return plugins(mortal)


def test_jobs_write_the_bytes_of_one_process_and_a_clip_that_loses_its_jobs_costs_no_other(
    registry, tmp_path, monkeypatch
) -> None:
    def run(out, **changes):
        spec = RunSpec(**{"model": "mortal", "probe": "qk", "steps": "0", **changes})
        return execute(make_plan(spec, registry), out)

    five = {"data": {"clips": 5}}
    alone = run(tmp_path / "alone", options=five)
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv(mortal.FOLDER, str(folder))
    monkeypatch.setenv(mortal.ALWAYS, "slide-2")
    # else submitit waits for the result of a lost job, as if it came late over a network
    monkeypatch.setattr(submitit.core.core.Job, "_results_timeout_s", 0)
    shared = run(tmp_path / "shared", executor="submitit", options={**five, "executor": LOCAL})
    assert (shared.status, shared.failed) == ("partial", ("slide-2",))
    expected, there = shards_of(alone.run), shards_of(shared.run)
    assert {name for name in there if there[name] != expected[name]} == {f"{t}/slide-2.arrow" for t in TABLES}
    (row,) = (one for one in shared.run.read("predictions").to_pylist() if one["clip"] == "slide-2")
    assert row["error"] == "ProcessDiedError: its job was lost in every try, 2 times"
    tries = {path.name: len(path.read_text().splitlines()) for path in folder.iterdir()}
    assert tries == {**dict.fromkeys(["slide-0", "slide-1", "slide-3", "slide-4"], 1), "slide-2": 2}


def test_jobs_that_get_nowhere_come_to_an_end(registry, tmp_path, monkeypatch) -> None:
    class Lost:
        job_id, paths = "1", SimpleNamespace(stderr="log")

        def done(self) -> bool:
            return True

        def result(self) -> None:
            raise submitit.core.utils.UncompletedJobError

    class Losing:
        def submit(self, work, package, clips):
            submitted.append(clips)
            return Lost()

    submitted: list[list[str]] = []
    monkeypatch.setattr(jobs, "_make_executor", lambda folder, options: Losing())
    monkeypatch.setattr(jobs, "_PAUSE", {"local": 0.0})
    spec = RunSpec(model="mortal", probe="qk", steps="0", executor="submitit", workers=1, options={"executor": LOCAL})
    outcome = execute(make_plan(spec, registry), tmp_path)
    assert (outcome.status, sorted(outcome.failed)) == ("failed", [f"slide-{n}" for n in range(4)])
    assert [len(clips) for clips in submitted] == [4, 4, 3, 3], "the first clip has two tries, and then all have failed"


def test_options_that_an_executor_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--executor local has no options, and --set gives executor\.jobs"):
        read_options("local", {"jobs": "3"})
    with pytest.raises(UsageError, match="partitions"):
        read_options("submitit", {"partitions": "gpu"})
    with pytest.raises(UsageError, match=r"^executor\.jobs: expected"):
        read_options("submitit", {"jobs": "0"})
    with pytest.raises(UsageError, match=r"^executor\.memory: expected a whole number"):
        read_options("submitit", {"memory": "1.5"})
    assert read_options("submitit", {"hours": "2"}).hours == 2.0
    assert {name for name, entry in EXECUTORS.items() if entry.options is None} == {"local"}


def lack_of(name: str, **options: str) -> str:
    lack = find_lack(name, options)
    return "" if lack is None else str(lack)


def test_a_cluster_that_does_not_answer_is_said_at_once(monkeypatch, tmp_path) -> None:
    (tmp_path / "ray.py").write_text("")  # as if it were installed
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert lack_of("ray") == lack_of("ray", address="auto") == ""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert f"No Ray cluster answers at executor.address={address}" in lack_of("ray", address=address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert f"No Ray cluster answers at RAY_ADDRESS={address}" in lack_of("ray")
        listening.listen()
        assert lack_of("ray") == lack_of("ray", address=address) == ""
    for address in ("head", ":6379", "head:port"):
        with pytest.raises(UsageError, match="is not HOST:PORT"):
            find_lack("ray", {"address": address})
    for host in ("127.0.0.1:99999", f"{'a' * 70}:1"):
        assert "No Ray cluster answers" in lack_of("ray", address=host)


def test_a_folder_with_the_name_of_a_package_is_not_the_package(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "ray").mkdir()
    assert "needs the package ray, which is not installed" in lack_of("ray")


@pytest.mark.parametrize(
    ("executor", "options", "error", "said"),
    [
        ("ray", {}, MissingError, r"executor 'ray' needs the package ray(.|\n)*pip install 'vcorr\[ray\]'"),
        ("submitit", LOCAL, MissingError, r"needs the package submitit(.|\n)*pip install 'vcorr\[slurm\]'"),
        ("submitit", {}, MissingError, r"no command srun(.|\n)*--set executor\.cluster=local"),
    ],
)
def test_what_an_executor_lacks_is_said_when_the_run_is_planned(
    registry, monkeypatch, executor, options, error, said
) -> None:
    if "package" in said:
        monkeypatch.setitem(sys.modules, executor, None)  # as if it were not installed
    monkeypatch.setattr(shutil, "which", lambda command: None)
    spec = RunSpec(model="mortal", probe="qk", steps="0", executor=executor, options={"executor": options})
    with pytest.raises(error, match=said):
        make_plan(spec, registry)
    (gap,) = make_plan(spec, registry, dry=True).missing
    assert gap.kind == "executor"
