"""Draws faults of files, processes and disks. The same command then gives the tables of a run without faults.

A fault is a kill at a write, an error of the disk at a write, or damage to files of a finished run.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import process_environment
from hypothesis import given
from hypothesis import strategies as st
from support.scale import draw_cases
from support.tables import same

from vcorr.store.rundir import RECORD, TABLES, RunDirectory, find_runs

KILL = 0
"""Number that stands for a kill in the place of an error number."""
NUMBERS = (errno.ENOSPC, errno.EIO, errno.EROFS)
RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "last")
COMMANDS = {
    "renoise": (*RUN, "--set", "data.clips=3"),
    "generate": (*RUN, "--set", "data.clips=2", "--mode", "generate", "--set", "tracker=knowing"),
}
OTHER_METRIC = ("--set", "metrics=pck")
FRACTION = st.floats(0, 1, exclude_max=True)


@dataclass(frozen=True)
class Ended:
    """How a command ended. count: number of its writes."""

    code: int
    out: str
    err: str
    count: int


class Programs:
    """Runs commands in processes of their own, with faults."""

    def __init__(self, home: Path) -> None:
        environment = process_environment()
        tests = str(Path(__file__).parents[1])
        environment["PYTHONPATH"] = os.pathsep.join([tests, environment.get("PYTHONPATH", "")])
        self._home, self._numbers = home, count()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "support.faulty", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def close(self) -> None:
        """Ends the server."""
        with self._server as server:
            assert server.stdin is not None
            server.stdin.close()

    def folder(self) -> Path:
        """Returns a new folder."""
        made = self._home / f"case-{next(self._numbers)}"
        made.mkdir()
        return made

    def run(self, folder: Path, *command: str, at: int = 0, number: int = KILL) -> Ended:
        """Runs a command in a folder. It fails at the write `at`, from 1; 0 for none."""
        (ended,) = self.together({"folder": str(folder), "command": command, "at": at, "number": number})
        return ended

    def together(self, *requests: dict[str, Any]) -> list[Ended]:
        """Runs several commands at the same time."""
        server = self._server
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(requests) + "\n")
        server.stdin.flush()
        return [Ended(**ended) for ended in json.loads(server.stdout.readline())]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Returns a server for all cases."""
    made = Programs(tmp_path_factory.mktemp("faults"))
    yield made
    made.close()


@dataclass(frozen=True)
class Clean:
    """A run without faults. folder: where the command ran. writes: how many writes it made."""

    folder: Path
    run: RunDirectory
    tables: dict[str, pa.Table]
    writes: int


@pytest.fixture(scope="module")
def clean(programs: Programs) -> Callable[..., Clean]:
    """Returns the run of a command without faults."""

    @cache
    def make(*command: str) -> Clean:
        folder = programs.folder()
        ended = programs.run(folder, *command)
        assert ended.code == 0, ended.err
        (run,) = find_runs(folder / "runs")
        return Clean(folder, run, tables(run), ended.count)

    return make


def tables(run: RunDirectory) -> dict[str, pa.Table]:
    return {name: run.read(name) for name in TABLES}


def check_whole(folder: Path, expected: Clean, *, aside: bool = False) -> None:
    """Checks that a folder holds the run as it is without faults, and no other files. aside: damaged files may stay."""
    (run,) = find_runs(folder / "runs")
    assert run.run_id == expected.run.run_id
    assert all(same(table, expected.tables[name]) for name, table in tables(run).items())
    assert run.record()["status"] == "complete"
    found = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if ".damaged" not in str(path)}
    assert found == {path.relative_to(expected.run.path).as_posix() for path in expected.run.path.rglob("*")}
    assert aside or not list(run.path.rglob("*.damaged*"))


def check_message(ended: Ended, number: int) -> None:
    assert "Traceback" not in ended.err
    assert ended.err.count("Error:") == (ended.code != 0)
    if ended.code and number == errno.ENOSPC:
        assert "The disk is full" in ended.err
    elif ended.code:
        assert os.strerror(number) in " ".join(ended.err.split())


def put_in(state: str, folder: Path, whole: Clean, other: Clean) -> None:
    """Fills a folder: nothing, a run with another metric, or a run that lost files of a clip."""
    if state == "nothing":
        return
    shutil.copytree((other if state == "another metric" else whole).run.path.parent, folder / "runs")
    if state == "lost files":
        (run,) = find_runs(folder / "runs")
        run.shard_paths("predictions")[0].unlink()
        run.shard_paths("tracks")[-1].unlink()


@draw_cases(3)
@given(
    command=st.sampled_from(sorted(COMMANDS)),
    state=st.sampled_from(["nothing", "another metric", "lost files"]),
    number=st.sampled_from([KILL, KILL, KILL, *NUMBERS]),
    where=st.lists(FRACTION, min_size=1, max_size=2),
)
def test_a_run_that_was_stopped_at_any_write_goes_on(programs, clean, command, state, number, where) -> None:
    words = COMMANDS[command]
    whole = clean(*words)
    folder = programs.folder()
    put_in(state, folder, whole, clean(*words, *OTHER_METRIC))
    for fraction in where:
        ended = programs.run(folder, *words, at=1 + int(fraction * whole.writes), number=number)
        assert ended.code in ((-9, 0) if number == KILL else (2, 0)), ended.err
        if number != KILL:
            check_message(ended, number)
        for run in find_runs(folder / "runs"):  # whatever is there is whole, at every instant
            tables(run)
    ended = programs.run(folder, *words)
    assert (ended.code, ended.err.count("Error")) == (0, 0), ended.err
    check_whole(folder, whole)
    shutil.rmtree(folder)


@draw_cases(2)
@given(number=st.sampled_from([KILL, *NUMBERS]), fraction=FRACTION)
def test_scores_are_the_old_ones_or_the_new_ones(programs, clean, number, fraction) -> None:
    words = COMMANDS["renoise"]
    whole, other = clean(*words), clean(*words, *OTHER_METRIC)
    folder = programs.folder()
    put_in("finished", folder, whole, other)
    command = ("score", f"runs/{whole.run.run_id}", *OTHER_METRIC)
    writes = programs.run(folder, *command).count
    shutil.rmtree(folder / "runs")
    put_in("finished", folder, whole, other)
    ended = programs.run(folder, *command, at=1 + int(fraction * writes), number=number)
    assert ended.code in ((-9, 0) if number == KILL else (2, 0)), ended.err
    (run,) = find_runs(folder / "runs")
    for name in run.shard_paths("scores"):
        assert name.stat().st_size
    assert programs.run(folder, *command).code == 0
    check_whole(folder, other)
    shutil.rmtree(folder)


@draw_cases(2)
@given(number=st.sampled_from([KILL, *NUMBERS]), fraction=FRACTION)
def test_a_board_is_the_old_one_or_the_new_one(programs, clean, number, fraction) -> None:
    whole = clean(*COMMANDS["renoise"])
    folder = programs.folder()
    command = ("board", "build", "--results", str(whole.run.path.parent), "--out", "site")
    first = programs.run(folder, *command)
    assert first.code == 0, first.err
    before = pages(folder)
    (folder / "site" / "index.html").write_text("the old board")
    ended = programs.run(folder, *command, at=1 + int(fraction * first.count), number=number)
    assert ended.code in ((-9, 0) if number == KILL else (2, 0)), ended.err
    assert pages(folder) in (before, before | {"index.html": b"the old board"})
    assert programs.run(folder, *command).code == 0
    assert pages(folder) == before
    assert [path.name for path in folder.iterdir()] == ["site"]
    shutil.rmtree(folder)


def pages(folder: Path) -> dict[str, bytes]:
    site = folder / "site"
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}


def lose(path: Path, _: float) -> None:
    path.unlink()


def empty(path: Path, _: float) -> None:
    path.write_bytes(b"")


def cut(path: Path, fraction: float) -> None:
    os.truncate(path, int(fraction * path.stat().st_size))


def flip(path: Path, fraction: float) -> None:
    content = bytearray(path.read_bytes())
    bit = int(fraction * 8 * len(content))
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)


def overwrite(path: Path, fraction: float) -> None:
    """Writes zeros over the rest of a file, as some file systems do after a power cut."""
    size = path.stat().st_size
    cut(path, fraction)
    os.truncate(path, size)


def make_folder(path: Path, _: float) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def make_link(path: Path, _: float) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def make_pipe(path: Path, _: float) -> None:
    path.unlink()
    os.mkfifo(path)


def swap(path: Path, fraction: float) -> None:
    """Exchanges a file with another file of its run."""
    files = sorted(other for other in path.parents[0].rglob("*") if other.is_file() and other != path)
    if files:
        other = files[int(fraction * len(files))]
        content = path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)


DAMAGES = (lose, empty, cut, flip, overwrite, make_folder, make_link, make_pipe, swap)


@draw_cases(6)
@given(
    command=st.sampled_from(sorted(COMMANDS)),
    damages=st.lists(st.tuples(FRACTION, st.sampled_from(DAMAGES), FRACTION), min_size=1, max_size=3),
)
def test_a_finished_run_with_damaged_files_is_put_right(programs, clean, command, damages) -> None:
    words = COMMANDS[command]
    whole = clean(*words)
    folder = programs.folder()
    put_in("finished", folder, whole, whole)
    (run,) = find_runs(folder / "runs")
    for which, damage, where in damages:
        files = sorted(path for path in run.path.rglob("*") if path.is_file())
        damage(files[int(which * len(files))], where)
    for command_ in (("show", "run", f"runs/{run.run_id}"), words):
        ended = programs.run(folder, *command_)
        assert "Traceback" not in ended.err, ended.err
        assert ended.code in (0, 2), ended.err
    if ended.code == 2:  # a bit of run.json was flipped so that it is still JSON; the message says what to type
        assert RECORD in ended.err
        (move,) = [line for line in ended.err.splitlines() if "mv " in line]
        subprocess.run(shlex.split(move[move.index("mv ") :]), cwd=folder, check=True)
        ended = programs.run(folder, *words)
    assert ended.code == 0, ended.err
    check_whole(folder, whole, aside=True)
    shutil.rmtree(folder)


@draw_cases(1)
@given(command=st.sampled_from(sorted(COMMANDS)), processes=st.integers(2, 4))
def test_of_processes_at_once_one_writes_and_the_others_say_so(programs, clean, command, processes) -> None:
    words = COMMANDS[command]
    folder = programs.folder()
    ended = programs.together(*[{"folder": str(folder), "command": words}] * processes)
    assert {one.code for one in ended} <= {0, 2}, [one.err for one in ended]
    assert any(one.code == 0 for one in ended)
    assert all("is being written by process" in " ".join(one.err.split()) for one in ended if one.code)
    check_whole(folder, clean(*words))
    shutil.rmtree(folder)
