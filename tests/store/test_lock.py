"""The lock of a folder, held and asked for by real processes."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import process_environment

from vcorr.contract.errors import StoreError
from vcorr.store import lock
from vcorr.store.lock import LOCK, hold_lock

HOLD = """
import sys
from pathlib import Path
from vcorr.store.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs a process that holds the lock of `tmp_path` until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=process_environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def take(folder: Path) -> dict[str, object]:
    """Takes the lock; returns what the file says meanwhile."""
    with hold_lock(folder):
        found: dict[str, object] = json.loads((folder / LOCK).read_text())
    return found


def leave_lock(folder: Path, host: str, process: int) -> bytes:
    """Writes a lock file such as a process leaves behind, without holding the lock."""
    (folder / LOCK).write_text(json.dumps({"host": host, "process": process, "since": "2026-01-02T03:04:05+00:00"}))
    return (folder / LOCK).read_bytes()


def test_a_second_process_is_refused_and_hears_of_the_first(holder, tmp_path) -> None:
    before = (tmp_path / LOCK).read_bytes()
    said = (
        rf"{re.escape(str(tmp_path))} is being written by process {holder.pid} on host {socket.gethostname()} \(since 2"
    )
    for _ in range(2):
        with pytest.raises(StoreError, match=said) as refused, hold_lock(tmp_path):
            pass
        assert "Wait until that process has ended" in refused.value.hint
        assert (tmp_path / LOCK).read_bytes() == before, "asking changes nothing"
    holder.communicate("")
    assert not (tmp_path / LOCK).exists()
    assert take(tmp_path)["process"] == os.getpid()


def test_a_process_that_has_the_lock_and_has_not_yet_written_its_name_is_named(tmp_path, monkeypatch) -> None:
    with hold_lock(tmp_path):
        name = (tmp_path / LOCK).read_bytes()
        os.truncate(tmp_path / LOCK, 0)
        monkeypatch.setattr(lock.time, "sleep", lambda _: (tmp_path / LOCK).write_bytes(name))
        with pytest.raises(StoreError, match=f"written by process {os.getpid()} "), hold_lock(tmp_path):
            pass


def test_a_holder_that_never_writes_its_name_is_another_process(tmp_path, monkeypatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(lock.time, "sleep", pauses.append)
    with hold_lock(tmp_path):
        os.truncate(tmp_path / LOCK, 0)
        with pytest.raises(StoreError, match="is being written by another process"), hold_lock(tmp_path):
            pass
    assert sum(pauses) == pytest.approx(1), "the wait has an end"


def test_a_killed_process_is_no_obstacle(holder, tmp_path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / LOCK).read_text())["process"] == holder.pid
    assert take(tmp_path)["process"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_a_process_number_that_is_used_again_is_not_taken_for_the_holder(tmp_path) -> None:
    leave_lock(tmp_path, socket.gethostname(), os.getppid())  # that process runs, and holds nothing
    assert take(tmp_path)["process"] == os.getpid()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"host": "h"}', '{"host": "h", "process": "x", "since": ""}', "[" * 4090),
        '{"host": "h", "process": Infinity, "since": ""}',
    ],
    ids=range(7),
)
def test_a_file_that_names_nobody_is_no_obstacle(tmp_path, text) -> None:
    (tmp_path / LOCK).write_text(text)
    assert take(tmp_path)["host"] == socket.gethostname()


def test_a_lock_of_another_host_is_refused_with_the_way_to_remove_it(tmp_path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    before = leave_lock(folder, "node17", 4711)
    said = r"locked by process 4711 on host node17 \(since 2026-01-02T03:04:05\+00:00\)\. Whether .* cannot be seen"
    with pytest.raises(StoreError, match=said) as refused, hold_lock(folder):
        pass
    assert (folder / LOCK).read_bytes() == before
    command = refused.value.hint.rpartition(": ")[2]
    subprocess.run(command, shell=True, check=True)
    assert take(folder)["process"] == os.getpid()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()])
def test_whatever_ends_the_block_releases_the_lock(tmp_path, error) -> None:
    with pytest.raises(type(error)), hold_lock(tmp_path):
        raise error
    assert not (tmp_path / LOCK).exists()
    take(tmp_path)


def test_one_process_does_not_hold_a_lock_twice(tmp_path) -> None:
    with hold_lock(tmp_path), pytest.raises(StoreError, match=f"process {os.getpid()} "), hold_lock(tmp_path):
        pass


def test_a_lock_that_its_holder_deletes_meanwhile_is_taken_anew(tmp_path, monkeypatch) -> None:
    leave_lock(tmp_path, socket.gethostname(), 1)
    whole, calls = lock._lock_in_kernel, []

    def release_first(file: int) -> bool:
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()
        return whole(file)

    monkeypatch.setattr(lock, "_lock_in_kernel", release_first)
    with hold_lock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
        with pytest.raises(StoreError, match="is being written"), hold_lock(tmp_path):
            pass
    assert len(calls) == 3


def without_fcntl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)


@pytest.mark.parametrize("missing", [without_fcntl, without_locks])
def test_without_locks_in_the_kernel_the_file_is_the_lock(tmp_path, monkeypatch, missing) -> None:
    missing(monkeypatch)
    said = rf"locked by process {os.getpid()} .*cannot be seen from here: this system has no file locks"
    with hold_lock(tmp_path):
        with pytest.raises(StoreError, match=said) as refused, hold_lock(tmp_path):
            pass
        assert f"rm {tmp_path / LOCK}" in refused.value.hint
    assert not (tmp_path / LOCK).exists()
    leave_lock(tmp_path, socket.gethostname(), 4711)
    with pytest.raises(StoreError, match="process 4711"), hold_lock(tmp_path):
        pass
    assert (tmp_path / LOCK).exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path) -> None:
    with (
        pytest.raises(StoreError, match=r"nowhere cannot be written: No such file.*\n.*--out DIR"),
        hold_lock(tmp_path / "nowhere"),
    ):
        pass


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo])
def test_what_is_no_file_is_not_taken_for_a_lock(tmp_path, make) -> None:
    make(tmp_path / LOCK)
    with (
        pytest.raises(StoreError, match=r"\.lock is where the lock (.|\n)*mv \S+\.lock \S+\.lock\.old"),
        hold_lock(tmp_path),
    ):
        pytest.fail("no lock can be there")


def test_the_lock_of_another_process_stays(tmp_path) -> None:
    with hold_lock(tmp_path):
        (tmp_path / LOCK).unlink()  # by hand, say, because its holder seemed to be dead
        other = leave_lock(tmp_path, "elsewhere", 7)
    assert (tmp_path / LOCK).read_bytes() == other
