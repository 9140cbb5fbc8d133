"""Files and folders that are written whole or not at all, whoever is killed while writing them."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import process_environment

from vcorr.contract.errors import StoreError
from vcorr.store import atomic_files
from vcorr.store.atomic_files import (
    atomic_file,
    remove_temporaries,
    replace_folder,
    set_aside,
    write_text,
)

WRITER = """
import sys, pathlib
from vcorr.store.atomic_files import atomic_file, replace_folder
with {function}(pathlib.Path(sys.argv[1])) as temporary:
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def writing(function: str, target: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing a file or folder until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER.format(function=function), str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=process_environment(),
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_and_its_name_are_on_the_disk_before_the_name_is_used(tmp_path, monkeypatch) -> None:
    done: list[tuple[str, str]] = []

    def seen(name: str) -> None:
        call = getattr(os, name)

        def note(*arguments, **options):
            first = arguments[0]
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.fspath(first)
            done.append((name, "temporary" if path.endswith(".tmp") else Path(path).name))
            return call(*arguments, **options)

        monkeypatch.setattr(os, name, note)

    seen("fsync")
    seen("replace")
    write_text(tmp_path / "a.txt", "whole")
    assert done == [("fsync", "temporary"), ("replace", "temporary"), ("fsync", tmp_path.name)]


def test_a_folder_is_on_the_disk_with_all_its_files(tmp_path, monkeypatch) -> None:
    synced: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.readlink(f"/proc/self/fd/{file}")), sync(file)))
    with replace_folder(tmp_path / "site") as draft:
        (draft / "pages").mkdir()
        (draft / "pages" / "one.html").write_text("1")
        (draft / "index.html").write_text("0")
    inside = {Path(path).relative_to(draft).as_posix() for path in synced if Path(path).is_relative_to(draft)}
    assert inside == {".", "pages", "pages/one.html", "index.html"}
    assert str(tmp_path) in synced


@pytest.mark.parametrize("function", ["atomic_file", "replace_folder"])
def test_what_a_live_process_writes_stays_and_what_a_dead_one_wrote_goes(tmp_path, function) -> None:
    target = tmp_path / "target"
    with writing(function, target) as process:
        (begun,) = names(tmp_path)
        remove_temporaries(tmp_path)
        atomic_files.remove_drafts(target)
        assert names(tmp_path) == [begun]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert names(tmp_path) == [begun]
    remove_temporaries(tmp_path)
    atomic_files.remove_drafts(target)
    assert names(tmp_path) == []


def test_only_temporary_files_are_removed(tmp_path) -> None:
    kept = [".lock", ".notes.tmp", "a.7.tmp", ".a.7.0a1b2c3d.txt", ".b.x.tmp"]
    for name in (*kept, ".a.arrow.7.tmp", ".a.arrow.7.0a1b2c3d.tmp"):
        (tmp_path / name).write_text("")
    (tmp_path / ".link.7.tmp").symlink_to(tmp_path / "nowhere")
    remove_temporaries(tmp_path)
    assert names(tmp_path) == sorted(kept)


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_replaces_the_earlier_one_as_a_whole(tmp_path, monkeypatch, exchanges) -> None:
    if not exchanges:
        monkeypatch.setattr(atomic_files, "_exchange", lambda *_: False)
    for text in ("old", "new"):
        with replace_folder(tmp_path / "site") as draft:
            (draft / f"{text}.html").write_text(text)
    assert names(tmp_path) == ["site"]
    assert names(tmp_path / "site") == ["new.html"]
    with contextlib.suppress(KeyboardInterrupt), replace_folder(tmp_path / "site") as draft:
        (draft / "newer.html").write_text("")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["site"]
    assert names(tmp_path / "site") == ["new.html"]


def test_a_folder_that_must_be_new_replaces_none(tmp_path) -> None:
    def write(text: str) -> None:
        with replace_folder(tmp_path / "plugin", existing=False) as draft:
            (draft / text).write_text(text)

    write("first")
    with pytest.raises(StoreError, match="plugin cannot be written"):
        write("second")
    assert names(tmp_path / "plugin") == ["first"]
    assert names(tmp_path) == ["plugin"]


def test_a_folder_lost_between_two_renames_is_brought_back(tmp_path) -> None:
    old, half = tmp_path / ".site.7.0a1b2c3d.old", tmp_path / ".site.7.0a1b2c3d.tmp"
    for folder in (old, half):
        folder.mkdir()
        (folder / f"{folder.suffix}.html").write_text("")
    with pytest.raises(ZeroDivisionError), replace_folder(tmp_path / "site"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["site"]
    assert names(tmp_path / "site") == [".old.html"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_an_error_of_the_disk_is_one_message_and_the_old_file_stays(tmp_path, monkeypatch, number, call) -> None:
    path = tmp_path / "run.json"
    write_text(path, "old")

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(StoreError) as caught:
            write_text(path, "new")
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert caught.value.message.startswith("The disk is full" if full else f"{path} cannot be written: ")
    assert "--out DIR" in caught.value.hint
    assert path.read_text() == "old"
    assert names(tmp_path) == ["run.json"]


def test_a_system_that_cannot_flush_folders_or_lock_files_still_writes(tmp_path, monkeypatch) -> None:
    import fcntl

    sync, kinds = os.fsync, []

    def files_only(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):
            kinds.append("folder")
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(file)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(os, "fsync", files_only)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with replace_folder(tmp_path / "site") as draft, atomic_file(draft / "a") as temporary:
        Path(temporary).write_text("a")
    assert names(tmp_path / "site") == ["a"]
    assert kinds
    (tmp_path / ".a.7.tmp").write_text("")
    (tmp_path / ".site.7.tmp").mkdir()
    remove_temporaries(tmp_path)
    atomic_files.remove_drafts(tmp_path / "site")
    assert names(tmp_path) == [".site.7.tmp", "site"], "nobody knows whether the folder is being written"


def test_what_is_set_aside_never_replaces_anything(tmp_path) -> None:
    for content in ("1", "2", "3"):
        (tmp_path / "run.json").write_text(content)
        set_aside(tmp_path / "run.json")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "run.json.damaged": "1",
        "run.json.damaged-2": "2",
        "run.json.damaged-3": "3",
    }
