"""The pool of tasks: order, what waits for what, going on after failures, and going on later."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vcorr_tiny import task_pool
from vcorr_tiny.command_runs import Command, Work
from vcorr_tiny.task_pool import Task, UnfinishedError, choose, run_tasks, sort_tasks

from vcorr import StoreError, UsageError, VcorrError

FAILING, ABSENT = "fails", "absent"


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """Returns the list to which every process adds the word of its command, instead of running it."""
    found: list[str] = []

    def pretend(self, made: Command) -> int:
        (word,) = made.words[-1:]
        found.append(word)
        return {FAILING: 1, ABSENT: 4}.get(word, 0)

    monkeypatch.setattr(Work, "run_one", pretend)
    return found


def task(
    name: str, word: str = "", after: tuple[str, ...] = (), seconds: float = 1.0, *, optional: bool = False
) -> Task:
    command = Command(("run", "--model", word or name), optional=optional)
    return Task(name, lambda: command, after, seconds)


def test_the_longest_way_to_the_end_comes_first(ran, tmp_path) -> None:
    tasks = [
        task("short"),
        task("long", seconds=5),
        task("first", seconds=2),
        task("second", after=("first",), seconds=4),
    ]
    assert [each.name for each in sort_tasks(tasks)] == ["first", "long", "second", "short"]
    run_tasks(Work(tmp_path, 1), tasks)
    assert ran == ["first", "long", "second", "short"]


@given(st.lists(st.tuples(st.floats(0, 100), st.sets(st.integers(0, 11), max_size=3)), min_size=1, max_size=12))
def test_no_task_begins_before_what_it_needs(drawn) -> None:
    tasks = [
        task(str(i), after=tuple(str(j) for j in needed if j < i), seconds=seconds)
        for i, (seconds, needed) in enumerate(drawn)
    ]
    order = [each.name for each in sort_tasks(tasks)]
    assert sorted(order) == sorted(each.name for each in tasks)
    positive = {each.name for each in tasks if each.seconds > 0}
    for each in tasks:
        for name in set(each.after) & positive:
            assert order.index(name) < order.index(each.name)


def test_all_that_can_run_does_and_the_failed_ones_are_named(ran, tmp_path, capsys) -> None:
    tasks = [
        *(task(FAILING), task("needs-it", after=(FAILING,)), task("needs-that", after=("needs-it",))),
        *(task("good"), task("needs-good", after=("good",))),
    ]
    with pytest.raises(VcorrError, match="3 of 5 tasks failed: fails, needs-it, needs-that") as caught:
        run_tasks(Work(tmp_path, 1, jobs=2), tasks)
    assert "what ended well is not run again" in caught.value.hint
    assert sorted(ran) == [FAILING, "good", "needs-good"]
    assert "needs-that: not run, since needs-it did not end well" in capsys.readouterr().err


def test_what_ended_well_is_not_run_again_and_the_rest_is(ran, tmp_path) -> None:
    tasks = [task("good"), task(FAILING)]
    for _ in range(2):
        with pytest.raises(VcorrError):
            run_tasks(Work(tmp_path, 1), tasks)
    assert sorted(ran) == [FAILING, FAILING, "good"]
    run_tasks(Work(tmp_path, 1, reuse="never"), tasks[:1])
    assert ran[-1] == "good"


def test_a_task_that_asks_for_something_else_or_of_other_networks_runs_again(ran, tmp_path, monkeypatch) -> None:
    work = Work(tmp_path, 1)
    for word in ("a", "a", "b"):
        run_tasks(work, [task("one", word)])
    assert ran == ["a", "b"]
    network = Command(("run", "--model", "network"), on_device=True)
    tasks = [task("one", "b"), Task("two", lambda: network), task("three", after=("one",))]
    run_tasks(work, tasks)
    monkeypatch.setattr(task_pool, "_identify_networks", lambda: ("new",))
    run_tasks(work, tasks)
    assert sorted(ran[2:]) == ["network", "network", "three", "three"], "what runs no network and needs nothing is kept"


def test_a_damaged_journal_loses_the_damaged_line_alone(ran, tmp_path) -> None:
    run_tasks(Work(tmp_path, 1), [task("a"), task("b")])
    journal = tmp_path / task_pool.JOURNAL
    journal.write_text(journal.read_text()[:-20], encoding="utf-8")
    run_tasks(Work(tmp_path, 1), [task("a"), task("b")])
    assert ran == ["a", "b", "b"]


def test_a_model_that_is_not_in_reach_is_left_out_with_what_needs_it(ran, tmp_path, capsys) -> None:
    optional = task("xfeat", ABSENT, optional=True)
    run_tasks(Work(tmp_path, 1), [optional, task("more", after=("xfeat",))])
    assert ran == [ABSENT]
    assert "Left out, since absent is not in reach: vcorr run --model absent" in capsys.readouterr().err
    with pytest.raises(VcorrError, match="1 of 1 tasks failed"):
        run_tasks(Work(tmp_path, 1), [task("xfeat", ABSENT)])


def test_only_runs_what_begins_so_and_counts_on_what_is_stored(ran, tmp_path) -> None:
    tasks = [task("a-1"), task("a-2", after=("b",)), task("b")]
    run_tasks(Work(tmp_path, 1, only=("a-",)), tasks)
    assert sorted(ran) == ["a-1", "a-2"]
    with pytest.raises(UsageError, match="c") as caught:
        choose(tasks, ["c"])
    assert "--list" in caught.value.hint


def test_what_a_task_cannot_read_is_its_failure_alone(ran, tmp_path, capsys) -> None:
    def fail() -> Command:
        raise StoreError("No site was chosen.")

    def break_down() -> Command:
        raise ZeroDivisionError("by zero")

    with pytest.raises(VcorrError, match="2 of 3 tasks failed: one, two"):
        run_tasks(Work(tmp_path, 1), [Task("one", fail), Task("two", break_down), task("good")])
    assert ran == ["good"]
    said = capsys.readouterr().err
    assert "one: No site was chosen." in said
    assert "two: ZeroDivisionError: by zero" in said


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """Makes the command `forever` a process that ends by a signal alone; others end well at once.

    Returns the clock of the pool. It stands at 0, and at 1 once that process was asked for.
    """
    found = SimpleNamespace(now=0.0)

    def run(self, made: Command) -> int:
        if made.words[-1] != "forever":
            return 0
        found.now = 1.0
        return self.processes.run([sys.executable, "-c", "import signal; signal.pause()"], os.environ)

    monkeypatch.setattr(Work, "run_one", run)
    monkeypatch.setattr(task_pool, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


@pytest.mark.usefixtures("clock")
def test_at_the_deadline_what_runs_is_interrupted_and_nothing_else_begins(tmp_path, capsys) -> None:
    tasks = [task("forever", seconds=9), task("after-it", after=("forever",)), task("late")]
    said = "Time is up, and 3 of 3 tasks are missing: forever, (late, after-it|after-it, late)"
    with pytest.raises(UnfinishedError, match=said) as caught:
        run_tasks(Work(tmp_path, 1, deadline=0.01), tasks)
    assert caught.value.exit_code == 1
    assert "forever: interrupted" in capsys.readouterr().err


def test_an_interrupted_pool_ends_its_processes_and_goes_on_later(clock, tmp_path) -> None:
    ended: list[str] = []

    def interrupt(one: Task) -> None:
        ended.append(one.name)
        raise KeyboardInterrupt

    work, tasks = Work(tmp_path, 1, jobs=2), [task("forever", seconds=9), task("good")]
    with pytest.raises(KeyboardInterrupt):
        run_tasks(work, tasks, interrupt)
    assert work.processes.stopped
    with pytest.raises(UnfinishedError, match="1 of 1 tasks are missing: forever"):
        run_tasks(Work(tmp_path, 1, deadline=0.0), tasks[:1])
    run_tasks(Work(tmp_path, 1), tasks[1:], lambda one: ended.append(one.name))
    assert ended == ["good", "good"], "a task that ended well before counts as ended again"


def test_the_journal_says_how_long_each_took(ran, tmp_path: Path) -> None:
    run_tasks(Work(tmp_path, 1), [task("a").inside("page")])
    (line,) = map(json.loads, (tmp_path / task_pool.JOURNAL).read_text().splitlines())
    assert (line["name"], line["code"]) == ("page/a", 0)
    assert line["seconds"] >= 0
