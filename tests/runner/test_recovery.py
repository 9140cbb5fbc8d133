"""A run whose files were lost or damaged: the same command puts it right, and computes only what is missing."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from support.tables import same

from vcorr.analysis.comparison import compare_runs
from vcorr.analysis.overview import overview
from vcorr.board.site.site_build import build_site
from vcorr.contract.errors import StoreError, UsageError
from vcorr.runner.coordinator import Reuse, execute
from vcorr.runner.events import Silent
from vcorr.runner.plan import make_plan
from vcorr.runner.repeat import words_to_repeat
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import RunSpec
from vcorr.store import shards
from vcorr.store.record import DamagedRecordError
from vcorr.store.recovery import heal_record
from vcorr.store.run_search import open_run
from vcorr.store.rundir import RECORD, TABLES, RunDirectory, find_runs
from vcorr.store.schema import TableName


@pytest.fixture
def found(plugins):
    return plugins()


class Notes(Silent):
    """Keeps the notes of a run, and the clips that the model was run on."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.computed: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def clip_started(self, clip_id: str) -> None:
        self.computed.append(clip_id)


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": "sliding-model", "probe": "qk", "steps": "last", **changes})


def run(found, out, reuse=Reuse.MATCHING, **changes) -> tuple[RunDirectory, Notes]:
    notes = Notes()
    return execute(make_plan(spec(**changes), found), out, reuse=reuse, events=notes).run, notes


def tables(run: RunDirectory) -> dict[str, pa.Table]:
    return {name: run.read(name) for name in TABLES}


def check_whole(run: RunDirectory, before: dict[str, pa.Table]) -> None:
    assert all(same(table, before[name]) for name, table in tables(run).items())
    assert not list(run.path.rglob(".*"))


def lose(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def make_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


DAMAGES = (lose, empty, cut, make_folder, make_link)


@pytest.mark.parametrize("reuse", [Reuse.MATCHING, Reuse.ONLY])
def test_a_run_keeps_the_time_of_its_first_start(found, tmp_path, reuse) -> None:
    first, _ = run(found, tmp_path)
    started, path = "2026-01-02T03:04:05+00:00", first.path / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": started, "updated": started}))
    again, _ = run(found, tmp_path, reuse=reuse)
    assert again.path == first.path
    assert again.record()["started"] == started
    assert again.record()["updated"] > started
    beside, _ = run(found, tmp_path, reuse=Reuse.NEVER)
    assert beside.record()["started"] > started


def test_the_record_is_as_before_when_it_is_written_again_from_the_tables(found, tmp_path) -> None:
    first, _ = run(found, tmp_path, metrics="pck", options={"metric": {"thresholds": [3.0]}}, tracker="dis")
    before = first.record()
    (first.path / RECORD).unlink()
    assert "It is written again from the tables" in heal_record(first)
    after = first.record()
    unknown = {
        "command",
        "started",
        "updated",
        "git",
        "seconds",
        "peak_memory_gib",
        "kernels",
        "clips",
        "clip_notes",
        "rebuilt",
        "spec",
        "notes",
        "first_clip",
    }
    assert {k: v for k, v in after.items() if k not in unknown} == {k: v for k, v in before.items() if k not in unknown}
    assert after["clips"] == {"total": 4, "done": 4, "failed": 0, "reused": 4}
    assert words_to_repeat(after) == words_to_repeat(before), "the command is made of the spec"
    assert heal_record(first) == "", "it is whole now"


@pytest.mark.parametrize("damage", [*DAMAGES, lambda path: path.write_text("[]")])
def test_the_same_command_writes_a_damaged_record_again_and_computes_nothing(
    found, tmp_path, damage: Callable[[Path], None]
) -> None:
    first, _ = run(found, tmp_path)
    before, record = tables(first), first.record()
    damage(first.path / RECORD)
    kept = os.path.lexists(first.path / RECORD) and (
        not (first.path / RECORD).is_file() or (first.path / RECORD).stat().st_size
    )
    with pytest.raises(DamagedRecordError, match="Repeat the command that made it"):
        open_run(first.path)
    again, notes = run(found, tmp_path)
    assert again.path == first.path
    assert notes.computed == []
    assert [note for note in notes.notes if RECORD in note and "4 finished clips are kept" in note]
    assert (first.path / f"{RECORD}.damaged").exists() == bool(kept and damage is not make_link)
    assert again.record().keys() == record.keys()
    assert again.record()["status"] == "complete"
    check_whole(again, before)


def test_the_command_in_the_message_writes_the_record_and_keeps_the_scores(found, tmp_path) -> None:
    first, _ = run(found, tmp_path, metrics="pck", options={"metric": {"thresholds": [3.0]}}, variant="corrected")
    before = tables(first)
    cut(first.path / RECORD)
    with pytest.raises(DamagedRecordError) as refused:
        open_run(first.path)
    words = shlex.split(refused.value.hint.split("from the tables: ")[1])
    assert words[:3] == ["vcorr", "score", str(first.path)]
    heal_record(first)
    options = {"metric": {"thresholds": [3.0]}}
    assert f"metric.thresholds={json.dumps(options['metric']['thresholds'])}" in words
    assert rescore(first, found, RunSpec(metrics="pck", options=options)).clips == 4
    check_whole(first, before)


def test_a_record_of_shards_that_do_not_say_enough_needs_the_command(found, tmp_path) -> None:
    first, _ = run(found, tmp_path)
    for name in TABLES:
        for path in first.shard_paths(name):
            table = shards.read_shard(path, name)
            with pa.ipc.new_file(str(path), table.schema.with_metadata(old(table, name))) as writer:
                writer.write_table(table.replace_schema_metadata(old(table, name)))
    before = tables(first)
    lose(first.path / RECORD)
    with pytest.raises(DamagedRecordError) as refused:
        open_run(first.path)
    assert "vcorr score" not in refused.value.hint
    with pytest.raises(StoreError, match=r"do not say how they were made(.|\n)*Repeat the command"):
        heal_record(first)
    again, notes = run(found, tmp_path)
    assert notes.computed == []
    check_whole(again, before)


def old(table: pa.Table, name: TableName) -> dict[bytes, bytes]:
    """Returns the metadata that an older vcorr would have written."""
    from vcorr.store.schema import schema

    return dict(schema(name, shards.fingerprint_of(table)).metadata)


def test_a_damaged_record_next_to_tables_of_another_spec_is_refused(found, tmp_path) -> None:
    first, _ = run(found, tmp_path / "a")
    other, _ = run(found, tmp_path / "b", seed=1)
    before = tables(other)
    shutil.rmtree(first.path)
    shutil.move(other.path, first.path)
    empty(first.path / RECORD)
    with pytest.raises(StoreError, match="belongs to another spec"):
        run(found, tmp_path / "a")
    assert all(same(table, before[name]) for name, table in tables(first).items())


def test_a_record_that_disagrees_with_its_own_tables_is_refused_with_what_to_type(found, tmp_path) -> None:
    first, _ = run(found, tmp_path)
    before = tables(first)
    record = first.record()
    record["fingerprints"]["predict"] = "0" * 64
    (first.path / RECORD).write_text(json.dumps(record))
    with pytest.raises(StoreError, match="belongs to another spec") as refused:
        run(found, tmp_path)
    _, source, target = shlex.split(refused.value.hint.split("repeat: ")[1])
    Path(source).rename(target)
    again, notes = run(found, tmp_path)
    assert notes.computed == []
    check_whole(again, before)


def test_a_record_of_a_newer_version_and_one_that_may_not_be_read_stay(found, tmp_path, monkeypatch) -> None:
    first, _ = run(found, tmp_path)
    whole = (first.path / RECORD).read_text()
    (first.path / RECORD).write_text(json.dumps({**first.record(), "record_version": 99}))
    with pytest.raises(StoreError, match="newer vcorr"):
        run(found, tmp_path)
    (first.path / RECORD).write_text(whole)

    read = Path.read_text

    def refuse(path: Path, *arguments, **options) -> str:
        if path.name == RECORD:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(StoreError, match=r"cannot be read: Permission denied(.|\n)*chmod"):
        run(found, tmp_path)
    assert [path.name for path in first.path.glob("run.json*")] == [RECORD]


def test_a_run_that_lost_its_record_is_still_found(found, tmp_path) -> None:
    first, _ = run(found, tmp_path)
    lose(first.path / RECORD)
    assert find_runs(tmp_path) == [first]
    assert find_runs(first.path) == [first]
    with pytest.raises(DamagedRecordError, match=r"has no run\.json"):
        open_run(tmp_path)
    with pytest.raises(StoreError, match="is itself a run"):
        run(found, first.path)


@pytest.mark.parametrize("damage", [*DAMAGES, flip])
@pytest.mark.parametrize("table", ["predictions", "tracks", "scores"])
def test_a_damaged_shard_is_made_again_and_nothing_else(found, tmp_path, damage, table) -> None:
    first, _ = run(found, tmp_path)
    before = tables(first)
    others = {path: path.stat().st_mtime_ns for name in TABLES for path in first.shard_paths(name)}
    path = first.shard(table, "slide-2")
    damage(path)
    again, notes = run(found, tmp_path)
    assert notes.computed == (["slide-2"] if table == "predictions" else [])
    check_whole(again, before)
    same_clip = {first.shard(name, "slide-2") for name in TABLES}
    assert all(path.stat().st_mtime_ns == time for path, time in others.items() if path not in same_clip)


@pytest.mark.parametrize("table", ["predictions", "tracks", "scores"])
def test_a_shard_under_the_name_of_another_clip_is_made_again(found, tmp_path, table) -> None:
    first, _ = run(found, tmp_path)
    before = tables(first)
    shutil.copy(first.shard(table, "slide-0"), first.shard(table, "slide-1"))
    with pytest.raises(StoreError, match="belongs to clip 'slide-0', and has the name of clip 'slide-1'"):
        first.read(table)
    again, notes = run(found, tmp_path)
    assert notes.computed == (["slide-1"] if table == "predictions" else [])
    check_whole(again, before)


@pytest.mark.parametrize("table", ["predictions", "tracks", "scores"])
def test_a_shard_of_a_newer_layout_is_never_replaced(found, tmp_path, monkeypatch, table) -> None:
    first, _ = run(found, tmp_path)
    with monkeypatch.context() as later:
        later.setattr("vcorr.store.schema.SCHEMA_VERSION", 99)
        path = first.shard(table, "slide-1")
        shards.write_shard(path, table, [], "f", clip="slide-1")
    content = path.read_bytes()
    with pytest.raises(StoreError, match=r"has layout version 99(.|\n)*Upgrade"):
        run(found, tmp_path)
    assert path.read_bytes() == content


def test_clips_whose_names_are_one_on_this_file_system_are_refused(found, tmp_path) -> None:
    first, _ = run(found, tmp_path)
    first.check_names(["Bear", "bear"])
    (first.path / "PREDICTIONS").symlink_to("predictions")  # as on a file system that folds case
    first.check_names(["Bear", "lion"])
    with pytest.raises(UsageError, match="'Bear' and 'bear' would share their files"):
        first.check_names(["lion", "Bear", "bear"])


def forbid_writing(monkeypatch: pytest.MonkeyPatch, below: Path, number: int) -> None:
    """Makes a folder read-only for this process, which may be root, for whom permissions are no obstacle."""

    def refuse(name: str) -> None:
        call = getattr(os, name)

        def check(path, *arguments, **options):
            writes = name != "open" or (arguments and arguments[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes and isinstance(path, (str, os.PathLike)) and Path(path).is_relative_to(below):
                raise OSError(number, os.strerror(number), os.fspath(path))
            return call(path, *arguments, **options)

        monkeypatch.setattr(os, name, check)

    for name in ("open", "mkdir", "unlink", "replace", "rename"):
        refuse(name)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_an_archive_is_read_without_writing_anything(found, tmp_path, monkeypatch, number) -> None:
    first, _ = run(found, tmp_path / "archive")
    (first.path / "tracks" / ".t.arrow.7.0a1b2c3d.tmp").write_text("left by a killed process")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*")}
    forbid_writing(monkeypatch, tmp_path / "archive", number)
    notes = Notes()
    plan = make_plan(spec(), found)
    outcome = execute(plan, tmp_path / "archive", reuse=Reuse.ONLY, events=notes)
    assert (outcome.status, outcome.reused) == ("complete", 4)
    assert [note for note in notes.notes if "cannot be written. Its results are read as they are" in note]
    assert overview(open_run(tmp_path / "archive")).facts.clips == plan.selection.clips
    compare_runs(first, first)
    build_site(tmp_path / "archive", tmp_path / "site", registry=found)
    assert (tmp_path / "site" / "index.html").exists()
    with pytest.raises(StoreError, match="cannot be written"):
        execute(plan, tmp_path / "archive")
    with pytest.raises(StoreError, match="cannot be written"):
        rescore(first, found, RunSpec())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*")} == before


def test_an_archive_with_a_clip_that_is_not_whole_is_refused(found, tmp_path, monkeypatch) -> None:
    first, _ = run(found, tmp_path / "archive")
    lose(first.shard("scores", "slide-2"))
    forbid_writing(monkeypatch, tmp_path / "archive", errno.EROFS)
    with pytest.raises(StoreError, match=r"slide-2\.arrow cannot be written: Read-only(.|\n)*copied"):
        run(found, tmp_path / "archive", Reuse.ONLY)
