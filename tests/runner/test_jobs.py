"""Runs in jobs through submitit, with its local executor; and options and addresses of executors."""

from __future__ import annotations

import socket

import pytest
from support import mortal
from support.heard import shards_of

import vcorr
from vcorr.contract.errors import UsageError
from vcorr.runner.coordinator import execute
from vcorr.runner.executors.ray_options import check_address
from vcorr.runner.executors.table import EXECUTORS, read_options
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.rundir import TABLES

LOCAL = {"cluster": "local", "gpus": "0", "jobs": "2", "cpus": "1"}


@pytest.fixture
def registry(plugins):
    return plugins(mortal)


def test_jobs_write_the_bytes_of_one_process_and_a_lost_job_costs_its_clips_alone(
    registry, tmp_path, monkeypatch
) -> None:
    def run(out, **changes):
        spec = RunSpec(**{"model": "mortal", "probe": "qk", "steps": "0", **changes})
        return execute(make_plan(spec, registry), out)

    alone = run(tmp_path / "alone")
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv(mortal.FOLDER, str(folder))
    shared = run(tmp_path / "shared", executor="submitit", options={"executor": LOCAL})
    assert (shared.status, shared.failed) == ("partial", ("slide-2",))
    expected, there = shards_of(alone.run), shards_of(shared.run)
    assert {name for name in there if there[name] != expected[name]} == {f"{t}/slide-2.arrow" for t in TABLES}
    (row,) = (one for one in shared.run.read("predictions").to_pylist() if one["clip"] == "slide-2")
    assert row["error"] == "ProcessDiedError: its job was lost in every try, 2 times"
    tries = {path.name: len(path.read_text().splitlines()) for path in folder.iterdir()}
    assert tries == {"slide-0": 1, "slide-1": 2, "slide-2": 2, "slide-3": 1}


def test_options_that_an_executor_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--executor local has no options, and --set gives executor\.jobs"):
        read_options("local", {"jobs": "3"})
    with pytest.raises(UsageError, match="partitions"):
        read_options("submitit", {"partitions": "gpu"})
    with pytest.raises(UsageError, match="jobs"):
        read_options("submitit", {"jobs": "0"})
    assert read_options("submitit", {"hours": "2"}).hours == 2.0
    assert {name for name, entry in EXECUTORS.items() if entry.options is None} == {"local"}


def test_a_cluster_that_does_not_answer_is_said_at_once() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        with pytest.raises(UsageError, match=f"No Ray cluster answers at executor.address=127.0.0.1:{port}"):
            check_address(f"127.0.0.1:{port}")
        listening.listen()
        check_address(f"127.0.0.1:{port}")
    for address in ("head", ":6379", "head:port", "127.0.0.1:99999"):
        with pytest.raises(vcorr.UsageError, match=r"is not HOST:PORT|No Ray cluster answers"):
            check_address(address)
    check_address("auto")
