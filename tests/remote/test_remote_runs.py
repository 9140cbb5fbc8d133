"""Runs whose results are behind a URL: made, killed, continued on another machine, and written by one at a time."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import ClassVar

import pytest
from conftest import process_environment
from support.heard import Listening, shards_of
from support.pages import ROOT
from support.processes import PATIENCE

from vcorr.contract.errors import MissingError, StoreError, UsageError
from vcorr.runner.coordinator import Reuse, execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.lock import LOCK
from vcorr.store.remote.addresses import folder_of, url_of
from vcorr.store.remote.filesystems import check_protocol
from vcorr.store.run_search import open_run
from vcorr.store.rundir import RECORD, TABLES

SPEC = {"model": "sliding-model", "probe": "qk", "steps": "0,9"}


@pytest.fixture
def plan(plugins):
    """A run of four clips."""
    return make_plan(RunSpec(**SPEC), plugins())


@pytest.fixture
def small(plugins):
    """The first two clips of it."""
    return make_plan(RunSpec(**SPEC, limit=2), plugins())


def tables_in(bucket) -> dict[str, bytes]:
    """Returns the shards in a bucket with one run, by table and name."""
    found = {name.partition("/")[2]: content for name, content in bucket.list().items()}
    return {name: content for name, content in found.items() if name.partition("/")[0] in TABLES}


class Counting(Listening):
    """Keeps which clips were computed."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[str] = []

    def clip_started(self, clip_id: str) -> None:
        self.computed.append(clip_id)


def test_the_tables_in_the_store_are_those_of_a_local_run_byte_for_byte(small, bucket, machine, tmp_path) -> None:
    local = execute(small, tmp_path / "runs")
    outcome = execute(small, folder_of(bucket.url))
    assert tables_in(bucket) == shards_of(local.run)
    record = json.loads(bucket.list()[f"{local.run.run_id}/{RECORD}"])
    assert record["status"] == "complete"
    assert outcome.to_dict()["path"] == f"{bucket.url}/{local.run.run_id}"
    assert not [name for name in bucket.list() if "/." in name], "no lock and no file of the working copy is left"


def test_another_machine_goes_on_and_a_finished_run_is_computed_nowhere_again(plan, small, bucket, machine) -> None:
    execute(small, folder_of(bucket.url))
    machine("second")
    heard = Counting()
    outcome = execute(plan, folder_of(bucket.url), events=heard)
    assert (outcome.reused, heard.computed) == (2, ["slide-2", "slide-3"])
    machine("third")
    before = bucket.list()
    assert execute(plan, folder_of(bucket.url), reuse=Reuse.ONLY).reused == 4
    after = bucket.list()
    assert {name for name in before if before[name] != after[name]} <= {f"{outcome.run.run_id}/{RECORD}"}


KILLED = """
import os, signal, sys
from support import sliding
from support.heard import Listening
from vcorr.plugins import builtin, registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.remote.addresses import folder_of

class Dying(Listening):
    def clip_started(self, clip_id):
        if clip_id == "slide-2":
            os.kill(os.getpid(), signal.SIGKILL)

sources = [
    registry.PluginSource(registry.BUILTIN, "vcorr", "0", lambda: builtin),
    registry.PluginSource(sliding.__name__, sliding.__name__, "1", lambda: sliding),
]
plan = make_plan(RunSpec(model="sliding-model", probe="qk", steps="0,9"), registry.Registry(sources))
execute(plan, folder_of(sys.argv[1]), events=Dying())
"""


@pytest.fixture
def kill_in_the_middle(bucket, machine) -> None:
    """A run of which two clips were finished when its process was killed, and whose lock is left behind."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED, bucket.url],
        env=process_environment(ROOT / "tests"),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert process.returncode == -9, process.stderr
    names = sorted(name.partition("/")[2] for name in bucket.list())
    assert names == [LOCK, *(f"{table}/slide-{n}.arrow" for table in ("predictions",) for n in (0, 1)), RECORD] + [
        f"{table}/slide-{n}.arrow" for table in ("scores", "tracks") for n in (0, 1)
    ]


def test_a_killed_run_goes_on_at_once_on_its_own_machine(plan, bucket, kill_in_the_middle, tmp_path) -> None:
    heard = Counting()
    assert execute(plan, folder_of(bucket.url), events=heard).status == "complete"
    assert heard.computed == ["slide-2", "slide-3"]
    assert tables_in(bucket) == shards_of(execute(plan, tmp_path / "runs").run)


def test_another_machine_is_given_the_command_that_deletes_the_lock_of_a_killed_run(
    plan, bucket, machine, kill_in_the_middle, tmp_path
) -> None:
    machine("second")
    before = bucket.list()
    with pytest.raises(StoreError, match=r"is locked by process \d+ on host .*Whether that process still") as found:
        execute(plan, folder_of(bucket.url))
    assert bucket.list() == before
    command = found.value.hint.partition("repeat the command: ")[2]
    words = shlex.split(command)
    assert words[0] == "python"
    subprocess.run([sys.executable, *words[1:]], check=True, timeout=PATIENCE)
    heard = Counting()
    assert execute(plan, folder_of(bucket.url), events=heard).status == "complete"
    assert heard.computed == ["slide-2", "slide-3"]
    assert tables_in(bucket) == shards_of(execute(plan, tmp_path / "runs").run)


def test_a_second_writer_is_refused_and_changes_nothing(plan, bucket, machine) -> None:
    class Meanwhile(Listening):
        def clip_done(self, clip_id: str, *, reused: bool) -> None:
            if clip_id == "slide-1":
                machine("second")
                before = bucket.list()
                with pytest.raises(StoreError, match="is locked by process"):
                    execute(plan, folder_of(bucket.url))
                assert bucket.list() == before
                machine("first")
                seen.append(before)

    seen: list[dict[str, bytes]] = []
    assert execute(plan, folder_of(bucket.url), events=Meanwhile()).status == "complete"
    assert len(seen) == 1
    assert not [name for name in bucket.list() if name.endswith(LOCK)]


@pytest.mark.parametrize("where", ["first", "second"])
@pytest.mark.parametrize("table", TABLES)
def test_a_part_that_is_missing_in_the_store_is_made_again(small, bucket, machine, where, table) -> None:
    run_id = execute(small, folder_of(bucket.url)).run.run_id
    whole = tables_in(bucket)
    bucket.files.rm_file(bucket.path(f"{run_id}/{table}/slide-1.arrow"))
    machine(where)
    heard = Counting()
    assert execute(small, folder_of(bucket.url), events=heard).status == "complete"
    assert heard.computed == (["slide-1"] if table == "predictions" else [])
    assert tables_in(bucket) == whole


def test_a_changed_part_of_the_store_takes_the_place_of_the_one_here(small, bucket, machine) -> None:
    run_id = execute(small, folder_of(bucket.url)).run.run_id
    whole = tables_in(bucket)
    damaged = bucket.path(f"{run_id}/predictions/slide-1.arrow")
    bucket.files.pipe_file(damaged, b"no table")
    heard = Counting()
    assert execute(small, folder_of(bucket.url), events=heard).status == "complete"
    assert heard.computed == ["slide-1"]
    assert tables_in(bucket) == whole


def test_a_run_that_was_deleted_in_the_store_is_computed_anew(small, bucket, machine) -> None:
    execute(small, folder_of(bucket.url))
    whole = tables_in(bucket)
    bucket.files.rm(f"{bucket.name}/runs", recursive=True)
    assert execute(small, folder_of(bucket.url)).reused == 0
    assert tables_in(bucket) == whole


def test_reuse_never_makes_a_run_next_to_those_of_the_store(small, bucket, machine) -> None:
    first = execute(small, folder_of(bucket.url)).run.run_id
    machine("second")
    second = execute(small, folder_of(bucket.url), reuse=Reuse.NEVER).run.run_id
    assert second == f"{first}-2"
    assert {name.partition("/")[0] for name in bucket.list()} == {first, second}


def test_a_failed_upload_keeps_the_clip_and_the_same_command_uploads_it(plan, bucket, machine, monkeypatch) -> None:
    import s3fs

    put = s3fs.S3FileSystem.put_file

    def refuse(self, local, remote, **options):
        if "slide-2" in remote:
            raise PermissionError("Access Denied")
        return put(self, local, remote, **options)

    class Filesystem(s3fs.S3FileSystem):
        put_file = refuse

    import fsspec

    fsspec.register_implementation("s3", Filesystem, clobber=True)
    try:
        with pytest.raises(StoreError) as found:
            execute(plan, folder_of(bucket.url))
    finally:
        fsspec.register_implementation("s3", s3fs.S3FileSystem, clobber=True)
    (folder,) = folder_of(bucket.url).iterdir()
    assert "refuses this: Access Denied" in found.value.message
    assert f"Nothing is lost: what was computed is in {folder}" in found.value.hint
    assert f"3 of 4 clips are finished and kept in {folder}. The same command goes on" in found.value.hint
    assert not [name for name in bucket.list() if "slide-2" in name or name.endswith(LOCK)]
    heard = Counting()
    assert execute(plan, folder_of(bucket.url), events=heard).status == "complete"
    assert heard.computed == ["slide-3"]
    assert {name for name in tables_in(bucket) if "slide-2" in name} == {f"{table}/slide-2.arrow" for table in TABLES}


def test_an_interrupted_run_is_partial_in_the_store_and_its_lock_is_gone(plan, bucket, machine) -> None:
    with pytest.raises(KeyboardInterrupt) as found:
        execute(plan, folder_of(bucket.url), events=Listening(interrupt=True))
    (run_id,) = {name.partition("/")[0] for name in bucket.list()}
    assert f"1 of 4 clips are finished and kept in {bucket.url}/{run_id}." in found.value.message
    assert json.loads(bucket.list()[f"{run_id}/{RECORD}"])["status"] == "partial"
    assert set(bucket.list()) == {f"{run_id}/{RECORD}", *(f"{run_id}/{table}/slide-0.arrow" for table in TABLES)}


def test_a_bucket_that_does_not_exist_is_one_error(small, bucket, machine) -> None:
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/runs/\w+ cannot be written: .*bucket does not exist"):
        execute(small, folder_of("s3://no-such-bucket/runs"))


def test_a_store_that_does_not_answer_is_one_error(small, bucket, machine, monkeypatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with pytest.raises(StoreError, match=r"s3://bucket-\d+/runs cannot be used: Could not connect"):
        execute(small, folder_of(bucket.url))
    s3fs.S3FileSystem.clear_instance_cache()


def test_stores_without_a_conditional_write_are_refused(small, machine, monkeypatch) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Careless(MemoryFileSystem):
        protocol = "careless"
        store: ClassVar[dict] = {}
        pseudo_dirs: ClassVar[list] = [""]

        def pipe_file(self, path, value, mode="overwrite", **options):
            super().pipe_file(path, value)

    class Plain(Careless):
        protocol = "plain"
        pipe_file = fsspec.AbstractFileSystem.pipe_file

    for kind, said in ((Careless, "it ignores the condition"), (Plain, "has no conditional write")):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
        with pytest.raises(StoreError, match=f"cannot be locked: .*{said}"):
            execute(small, folder_of(f"{kind.protocol}://here/runs"))
        assert not Careless.store


def test_a_url_of_a_file_is_a_path(small, tmp_path) -> None:
    outcome = execute(small, folder_of(f"file://{tmp_path}/runs"))
    assert outcome.run.path.parent == tmp_path / "runs"
    assert url_of(outcome.run.path) is None


def test_a_missing_package_is_named_with_what_to_type(monkeypatch, machine) -> None:
    from fsspec.registry import _registry

    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    for protocol in ("s3", "s3a"):
        monkeypatch.delitem(_registry, protocol, raising=False)
    with pytest.raises(MissingError, match=r"s3:// needs the package s3fs.*\n.*pip install 'vcorr\[s3\]'"):
        check_protocol("s3://bucket/runs")
    with pytest.raises(UsageError, match="knows no protocol 'nowhere'"):
        check_protocol("nowhere://bucket/runs")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "names no bucket"),
        ("s3:///runs", "names no bucket"),
        ("ftp://user:word@host/runs", "holds a password"),
        ("zip://a::s3://bucket/b.zip", "chained"),
        ("s3://bucket/../runs", "'.' or '..'"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(url, said) -> None:
    with pytest.raises(UsageError, match=said) as found:
        folder_of(url)
    assert "word" not in found.value.message.partition("password")[0]


@pytest.mark.parametrize(
    "url", ["s3://bucket/runs", "gs://b/a b/c%20d", "s3://bucket/.hidden", "hf://datasets/me/runs", "s3://b/ü/?x=1"]
)
def test_folders_and_urls_are_one_to_one(url, machine) -> None:
    disk = machine("here")
    folder = folder_of(url)
    assert folder.is_relative_to(disk)
    assert url_of(folder) == url
    assert url_of(folder / "run") == f"{url}/run"
    assert url_of(disk) is url_of(disk / "runs") is None


def test_names_in_the_store_cannot_leave_the_folder_of_the_run(small, bucket, machine) -> None:
    run_id = execute(small, folder_of(bucket.url)).run.run_id
    for name in ("../outside.arrow", "scores/../../outside.arrow", ".remote.json"):
        bucket.files.pipe_file(bucket.path(f"{run_id}/{name}"), b"x")
    disk = machine("second")
    run = open_run(folder_of(f"{bucket.url}/{run_id}"))
    assert run.read("scores").num_rows
    execute(small, folder_of(bucket.url))
    assert not list(disk.rglob("outside*"))
