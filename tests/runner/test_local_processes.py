"""Several processes on one machine: the same bytes as one, whoever dies, and nobody left at the end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support import mortal
from support.heard import Listening, shards_of
from support.processes import PATIENCE

import vcorr
from vcorr.contract.errors import InterruptedRunError
from vcorr.contract.part_calls import PartName
from vcorr.runner.coordinator import Outcome, Reuse, execute
from vcorr.runner.events import Silent
from vcorr.runner.executors import member as member_module
from vcorr.runner.executors import member_program
from vcorr.runner.executors.crew import Crew, ProcessDiedError
from vcorr.runner.executors.member import SECONDS_TO_END, find_card
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.rundir import TABLES, RunDirectory, find_runs


@pytest.fixture
def registry(plugins):
    return plugins(mortal)


def run(registry, out: Path, events=None, reuse: Reuse = Reuse.MATCHING, **changes) -> Outcome:
    spec = RunSpec(**{"model": "mortal", "probe": "qk", "steps": "0,9", **changes})
    return execute(make_plan(spec, registry), out, events=events, reuse=reuse)


def notes_in(folder: Path) -> dict[str, list[list[int]]]:
    """Returns process, process group and threads of every try, by clip."""
    return {
        path.name: [[int(word) for word in line.split()] for line in path.read_text().splitlines()]
        for path in folder.iterdir()
    }


def test_processes_that_die_cost_their_clip_alone_and_the_bytes_are_those_of_one_process(
    registry, tmp_path, monkeypatch, capfd
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    alone = run(registry, tmp_path / "alone", options={"data": {"clips": 5}})
    capfd.readouterr()
    monkeypatch.setenv(mortal.FOLDER, str(folder))
    heard = Listening()
    shared = run(registry, tmp_path / "shared", heard, workers=2, options={"data": {"clips": 5}})
    assert (shared.status, shared.clips, shared.reused, shared.failed) == ("partial", 5, 0, ("slide-2",))
    tries = notes_in(folder)
    assert {clip: len(each) for clip, each in tries.items()} == {
        **dict.fromkeys(["slide-0", "slide-3", "slide-4"], 1),
        **dict.fromkeys(["slide-1", "slide-2"], 2),
    }
    assert {group == os.getpgid(0) for each in tries.values() for _, group, _ in each} == {False}
    expected, there = shards_of(alone.run), shards_of(shared.run)
    assert there.keys() == expected.keys()
    assert {name for name in there if there[name] != expected[name]} == {f"{t}/slide-2.arrow" for t in TABLES}
    (row,) = (one for one in shared.run.read("predictions").to_pylist() if one["clip"] == "slide-2")
    said = "ProcessDiedError: the process ended early in every try, 2 times (killed by SIGKILL)"
    assert (row["status"], row["error"]) == ("failed", said)
    assert [end for end in heard.ends if ":" in end] == [f"slide-2: {said}"]
    assert sorted(end for end in heard.ends if ":" not in end) == ["slide-0", "slide-1", "slide-3", "slide-4"]
    died = "The process on cpu ended early (killed by SIGKILL). Clip {} is tried again."
    assert sorted(note for note in heard.notes if "early" in note) == [died.format(f"slide-{n}") for n in (1, 2)]
    assert set(heard.steps.values()) == {2}
    printed = capfd.readouterr()
    assert (printed.out, printed.err.splitlines()) == ("", ["loading a mortal"]), "said once, by whom ever"
    record = shared.run.record()
    assert record["clips"] == {"total": 5, "done": 5, "failed": 1, "reused": 0}
    assert record["seconds"]["per_computed_clip"] > 0
    assert record["seconds"]["load"] is not None
    assert record["peak_memory_gib"]["host"] > 0.05  # GiB of a process; torch alone takes more

    monkeypatch.delenv(mortal.FOLDER)
    again = run(registry, tmp_path / "shared", workers=2, options={"data": {"clips": 5}})
    assert (again.status, again.reused) == ("complete", 4)
    assert shards_of(again.run) == expected


def test_an_interrupt_leaves_no_process_and_nothing_half_written(registry, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv(mortal.FOLDER, str(folder))
    options = {"data": {"clips": 5, "fail": "slide-1"}}
    with pytest.raises(InterruptedRunError, match=r"\d of 5 clips are finished and kept in") as raised:
        run(registry, tmp_path / "runs", Listening(interrupt=True), workers=2, options=options)
    (stopped,) = find_runs(tmp_path / "runs")
    assert stopped.record()["status"] == "partial"
    kept = [path for path in (stopped.path / "predictions").iterdir() if path.stem != "slide-1"]
    assert raised.value.message.startswith(f"{len(kept)} of 5")
    for process in {process for each in notes_in(folder).values() for process, *_ in each}:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert not [path for path in stopped.path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"weights": "missing"}, vcorr.MissingError, r"The weights are not here\.\nFetch them\."),
        (
            {"model": "stillborn"},
            ProcessDiedError,
            r"ended before its first clip \(killed by SIGKILL\)(.|\n)*--workers 1",
        ),
        ({"model": "filler"}, vcorr.StoreError, r"The disk is full(.|\n)*0 of 4 clips are finished and kept"),
    ],
)
def test_what_ends_one_process_is_one_error_of_the_run(registry, tmp_path, capfd, changes, error, said) -> None:
    with pytest.raises(error, match=said):
        run(registry, tmp_path, workers=2, **changes)
    assert "Traceback" not in capfd.readouterr().err
    (stopped,) = find_runs(tmp_path)
    assert stopped.record()["status"] == "partial"


ORPHAN = """
import signal, time
from vcorr.runner.executors.member import Member
from vcorr.runner.executors.messages import Order

class Sleeps:
    def __reduce__(self):
        return time.sleep, (3600,)

import pickle
member = Member(Order(pickle.dumps(Sleeps()), "", 1, "cpu"), "clip")
print(member._process.pid, flush=True)
signal.pause()
"""


def test_a_process_at_work_ends_with_the_run_that_started_it(start_program) -> None:
    starter = start_program([sys.executable, "-c", ORPHAN])
    assert starter.stdout is not None
    orphan = int(starter.stdout.readline())
    os.kill(orphan, 0)
    starter.send_signal(signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while Path(f"/proc/{orphan}").exists() and time.monotonic() < until:
        os.sched_yield()
    assert not Path(f"/proc/{orphan}").exists()


@pytest.mark.parametrize(
    ("number", "visible", "card"), [(1, None, "1"), (0, "3, 5", "3"), (1, "3, 5", "5"), (1, "GPU-a,GPU-b", "GPU-b")]
)
def test_a_process_sees_the_card_that_the_run_counts_as_its_device(number, visible, card) -> None:
    assert find_card(number, visible) == card


def test_a_run_that_cannot_be_pickled_is_refused(registry, tmp_path) -> None:
    plan = replace(make_plan(RunSpec(model="mortal", probe="qk", steps="0", workers=2), registry), notes=(lambda: "",))
    with pytest.raises(vcorr.UsageError, match=r"cannot be handed to other processes(.|\n)*--workers 1"):
        Crew(plan, RunDirectory(tmp_path), Silent(), ["cpu", "cpu"])


def interrupt(connection) -> None:
    raise KeyboardInterrupt


def ask_to_end_inside_a_part(connection) -> None:
    with PartName("model 'mortal'", "test").calling("run()"):
        member_program._stop(signal.SIGTERM, None)


@pytest.mark.parametrize(("work", "code"), [(interrupt, 130), (ask_to_end_inside_a_part, 143)])
def test_a_process_that_is_stopped_ends_without_a_traceback_and_fails_no_clip(monkeypatch, work, code) -> None:
    monkeypatch.setattr(member_program, "_work", work)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    ours, theirs = socket.socketpair()
    with ours, pytest.raises(SystemExit) as ended:
        member_program.main(theirs.detach())
    assert ended.value.code == code  # as shells know an interrupt, and a process that was asked to end


def test_processes_that_do_not_end_are_waited_for_together(registry, tmp_path, monkeypatch) -> None:
    class Stubborn:
        def ask_to_end(self) -> None:
            asked.append(self)

        def end(self, seconds: float) -> None:
            assert len(asked) == 3
            waits.append(seconds)
            now[0] += seconds

    asked, waits, now = [], [], [7.0]
    monkeypatch.setattr(member_module.time, "monotonic", lambda: now[0])
    plan = make_plan(RunSpec(model="mortal", probe="qk", steps="0", workers=3), registry)
    with Crew(plan, RunDirectory(tmp_path), Silent(), ["cpu"] * 3) as crew:
        crew._members.extend(Stubborn() for _ in range(3))
    assert waits == [SECONDS_TO_END, 0.0, 0.0]
