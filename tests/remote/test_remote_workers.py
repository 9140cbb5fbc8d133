"""Runs behind a URL that several processes compute, also on machines that do not see each other's disks."""

from __future__ import annotations

import pytest
from support import mortal
from support.heard import Listening, shards_of

from vcorr.contract.errors import StoreError
from vcorr.runner.coordinator import execute
from vcorr.runner.executors import table
from vcorr.runner.executors.remote import ClipComputer, Done, Package, share_rest
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.remote.addresses import folder_of
from vcorr.store.rundir import TABLES

SPEC = {"model": "mortal", "probe": "qk", "steps": "0"}
LOCAL_JOBS = {"executor": {"cluster": "local", "gpus": "0", "jobs": "2", "cpus": "1"}}


@pytest.fixture
def registry(plugins):
    return plugins(mortal)


def tables_in(bucket) -> dict[str, bytes]:
    found = {name.partition("/")[2]: content for name, content in bucket.list().items()}
    return {name: content for name, content in found.items() if name.partition("/")[0] in TABLES}


@pytest.mark.parametrize(
    "changes",
    [{"workers": 2}, pytest.param({"executor": "submitit", "options": LOCAL_JOBS}, marks=pytest.mark.slow)],
)
def test_several_processes_leave_in_the_store_what_one_would(registry, bucket, machine, tmp_path, changes) -> None:
    alone = execute(make_plan(RunSpec(**SPEC), registry), tmp_path)
    shared = execute(make_plan(RunSpec(**SPEC, **changes), registry), folder_of(bucket.url))
    assert shared.status == "complete"
    assert tables_in(bucket) == shards_of(alone.run)
    assert not [name for name in bucket.list() if "/jobs/" in name or "/." in name]


def work_elsewhere(plan, run, *, compute, events):
    """Works as an executor: computes every clip on a machine that has no file of this one."""

    def share(package, clips):
        alien = Package(package.plan, f"/nowhere/{run.run_id}", package.path, package.lock, package.may_send)
        computer = ClipComputer(alien)
        for clip in clips:
            done = computer.compute(clip)
            assert [name.partition("/")[0] for name in done.files] == ["tracks", "predictions", "scores"]
            before = {str(path) for path in run.path.rglob("*.arrow")}
            yield done.pass_on(events, run)
            assert len({str(path) for path in run.path.rglob("*.arrow")} - before) == 3

    yield from share_rest(plan, run, events, share, may_send=True)


def test_a_machine_without_the_folder_sends_its_files(registry, bucket, machine, tmp_path, monkeypatch) -> None:
    alone = execute(make_plan(RunSpec(**SPEC), registry), tmp_path)
    entry = table.ExecutorEntry("Elsewhere.", f"{__name__}:work_elsewhere")
    monkeypatch.setattr(table, "EXECUTORS", {**table.EXECUTORS, "elsewhere": entry})
    monkeypatch.setattr("vcorr.runner.executors.executor.EXECUTORS", table.EXECUTORS)
    monkeypatch.setattr("vcorr.runner.executors.executor.resolve", lambda function, label: work_elsewhere)
    heard = Listening()
    plan = make_plan(RunSpec(**SPEC, executor="elsewhere"), registry)
    shared = execute(plan, folder_of(bucket.url), events=heard)
    assert (shared.status, sorted(heard.ends)) == ("complete", [f"slide-{n}" for n in range(4)])
    assert tables_in(bucket) == shards_of(alone.run)


def test_a_folder_of_the_same_name_on_another_machine_is_not_taken_for_the_run(registry, tmp_path) -> None:
    plan = make_plan(RunSpec(**SPEC, limit=1), registry)
    run = execute(plan, tmp_path / "here").run
    with run.write_lock():
        package = Package.of(plan, run, may_send=True)
        assert package.is_seen()
    other = tmp_path / "there" / run.run_id
    other.mkdir(parents=True)
    (other / ".lock").write_text('{"host": "another"}')
    elsewhere = Package(package.plan, str(other), package.path, package.lock, may_send=True)
    done = ClipComputer(elsewhere).compute("slide-0")
    assert isinstance(done, Done)
    assert done.files
    assert not list(other.rglob("*.arrow"))
    with pytest.raises(StoreError, match=r"does not see the folder of the run, .*there"):
        ClipComputer(Package(package.plan, str(other), package.path, package.lock))
