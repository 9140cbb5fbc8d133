"""Readers of results behind a URL: they download what they need, and see what a local folder would show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.program import vcorr
from support.tables import same

import vcorr as package
from vcorr.contract.errors import StoreError
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.remote.addresses import folder_of
from vcorr.store.rundir import RECORD, find_runs

__all__ = ["vcorr"]

SHOW, SCORE = ("show", "run", "{}"), ("score", "{}", "--json")
COMPARE = ("compare", "{}", "{}", "--site-a", "0:0", "--site-b", "0:9")


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    """A folder for runs that all tests of this file read."""
    return tmp_path_factory.mktemp("once") / "runs"


@pytest.fixture
def runs(vcorr, plugins, bucket, machine, once, tmp_path) -> list[str]:
    """The ids of two runs, which are in the bucket and in the folder `runs`; no machine has read them yet."""
    names = once.with_name("names.json")
    if not names.exists():
        registry = plugins()
        specs = [RunSpec(model="sliding-model", probe="qk", steps=steps, limit=3) for steps in ("0", "9")]
        names.write_text(json.dumps([execute(make_plan(spec, registry), once).run.run_id for spec in specs]))
    shutil.copytree(once, tmp_path / "runs")
    bucket.files.put(f"{once}/", f"{bucket.name}/runs/", recursive=True)
    machine("reader")
    found: list[str] = json.loads(names.read_text())
    return found


def kept(disk) -> set[str]:
    """Returns the names of the folders with downloaded files, and of the record, over all runs."""
    return {path.parent.name if path.suffix == ".arrow" else path.name for path in disk.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", [SHOW, COMPARE, SCORE])
def test_commands_say_the_same_of_a_url_as_of_a_folder(vcorr, runs, bucket, machine, command) -> None:
    def say(where: str) -> str:
        names = iter(runs)
        ended = vcorr(*(word.format(f"{where}/{next(names)}") if "{}" in word else word for word in command))
        assert ended.code == 0, ended.err
        return ended.out.replace(where, "WHERE")

    near, far = say("runs"), say(bucket.url)
    if command[0] == "show":  # when it was made, and how long that took, differ
        near, far = (text[text.index("probe ") :] for text in (near, far))
    assert far.split() == near.split()
    assert command != SHOW or "predictions" not in kept(machine("reader")), "showing a run takes its scores alone"


def test_runs_are_listed_from_their_records_alone(vcorr, runs, bucket, machine) -> None:
    listed = json.loads(vcorr("list", "runs", "--results", bucket.url, "--json").out)
    assert [(row["run"], row["status"], row["path"]) for row in listed] == [
        (run_id, "complete", f"{bucket.url}/{run_id}") for run_id in sorted(runs)
    ]
    assert kept(machine("reader")) == {RECORD, ".remote.json", ".remote.lock"}
    bucket.files.rm(bucket.path(runs[0]), recursive=True)
    assert [row["run"] for row in package.runs(bucket.url).to_pylist()] == [runs[1]]
    bucket.files.rm(f"{bucket.name}/runs", recursive=True)
    assert f"No runs in {bucket.url}." in vcorr("list", "runs", "--results", bucket.url).out


def test_a_run_is_loaded_from_its_url_and_each_table_when_it_is_first_read(runs, bucket, machine, tmp_path) -> None:
    disk = machine("reader")
    far, near = package.load(f"{bucket.url}/{runs[0]}"), package.load(tmp_path / "runs" / runs[0])
    assert kept(disk) == {RECORD, ".remote.json", ".remote.lock"}
    assert same(far.scores(), near.scores())
    assert "predictions" not in kept(disk)
    assert same(far.predictions(), near.predictions())
    assert far.clips == near.clips
    assert repr(far) == f"vcorr.load('{bucket.url}/{runs[0]}')"


def test_a_table_is_downloaded_once_and_again_when_it_has_changed(runs, bucket, monkeypatch) -> None:
    import s3fs

    downloaded: list[str] = []
    get = s3fs.S3FileSystem.get_file

    class Watched(s3fs.S3FileSystem):
        def get_file(self, remote, local, **options):
            downloaded.append(remote.rpartition("/")[2])
            return get(self, remote, local, **options)

    import fsspec

    fsspec.register_implementation("s3", Watched, clobber=True)
    try:
        url = f"{bucket.url}/{runs[0]}"
        package.load(url).scores()
        assert sorted(downloaded) == [RECORD, "slide-0.arrow", "slide-1.arrow", "slide-2.arrow"]
        package.load(url).scores()
        assert len(downloaded) == 4
        other = bucket.files.cat_file(bucket.path(f"{runs[0]}/scores/slide-1.arrow"))
        bucket.files.pipe_file(bucket.path(f"{runs[0]}/scores/slide-1.arrow"), other[:-1] + b"?")
        with pytest.raises(StoreError, match=r"slide-1\.arrow is damaged"):
            package.load(url).scores()
        assert downloaded[4:] == ["slide-1.arrow"]
    finally:
        fsspec.register_implementation("s3", s3fs.S3FileSystem, clobber=True)


def test_a_run_without_a_record_is_found_and_scored_again(vcorr, runs, bucket) -> None:
    bucket.files.rm_file(bucket.path(f"{runs[0]}/{RECORD}"))
    assert len(find_runs(folder_of(bucket.url))) == 2
    ended = vcorr("score", f"{bucket.url}/{runs[0]}")
    assert ended.code == 0, ended.err
    assert f"Results: {bucket.url}/{runs[0]}" in ended.out
    assert json.loads(bucket.list()[f"{runs[0]}/{RECORD}"])["status"] == "complete"


def test_new_scores_arrive_in_the_store(vcorr, runs, bucket, machine) -> None:
    before = bucket.list()
    ended = vcorr("score", f"{bucket.url}/{runs[0]}", "--set", "metrics=pck", "--set", "metric.thresholds=[2]")
    assert ended.code == 0, ended.err
    changed = {name.partition("/")[2] for name, content in bucket.list().items() if before.get(name) != content}
    assert changed == {RECORD, *(f"scores/slide-{n}.arrow" for n in range(3))}
    assert json.loads(bucket.list()[f"{runs[0]}/{RECORD}"])["rescored"][2] == f"{bucket.url}/{runs[0]}"
    machine("another")
    assert set(package.load(f"{bucket.url}/{runs[0]}").scores()["metric"].to_pylist()) >= {"pck_2"}


def test_a_board_is_built_from_a_url(vcorr, runs, bucket, tmp_path) -> None:
    ended = vcorr("board", "build", "--results", bucket.url, "--out", "site")
    assert ended.code == 0, ended.err
    assert vcorr("board", "build", "--results", "runs", "--out", "near").code == 0
    tables = [sorted((tmp_path / site / "data").iterdir()) for site in ("site", "near")]
    assert [path.name for path in tables[0]] == [path.name for path in tables[1]]
    assert [path.read_bytes() for path in tables[0]] == [path.read_bytes() for path in tables[1]]


def test_a_run_is_named_by_the_url_and_the_beginning_of_its_id(vcorr, runs, bucket) -> None:
    assert package.load(f"{bucket.url}/{runs[1][:6]}").run_id == runs[1]
    assert package.load(f"s3://{bucket.name}/{runs[1]}").run_id == runs[1], "also below the folder"
    ended = vcorr("show", "run", f"{bucket.url}/x{runs[1]}")
    assert (ended.code, f"no run id in {bucket.url} begins with" in ended.err) == (2, True)
    assert f"vcorr list runs --results {bucket.url}" in ended.err


def test_what_is_no_run_is_said_with_the_url(vcorr, runs, bucket) -> None:
    ended = vcorr("show", "run", bucket.url)
    assert (ended.code, f"{bucket.url} is not a run" in ended.err) == (2, True)
    assert f"It holds these runs: {', '.join(sorted(runs))}." in ended.err
    ended = vcorr("show", "run", f"{bucket.url}/nothing")
    assert (ended.code, f"{bucket.url}/nothing is not a run" in ended.err) == (2, True)
    ended = vcorr("run", "--model", "sliding-model", "--probe", "qk", "--out", f"{bucket.url}/{runs[0]}")
    assert (ended.code, f"Use --out {bucket.url} (the folder above it)" in ended.err) == (2, True)


def test_pages_and_other_files_are_not_written_to_a_url(vcorr, runs, bucket, tmp_path) -> None:
    ended = vcorr("board", "build", "--results", "runs", "--out", bucket.url)
    assert (ended.code, "--out is a URL, and this command writes to a folder" in ended.err) == (2, True)
    ended = vcorr("track", "clip.mp4", "--grid", "2", "--tracker", "dis", "--out", bucket.url)
    assert (ended.code, "--out" in ended.err) == (2, True)
    assert not list(tmp_path.glob("s3:*"))


def test_a_run_command_takes_a_url_and_names_it(vcorr, bucket, machine) -> None:
    words = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "0", "--limit", "2", "--out", bucket.url)
    ended = vcorr(*words)
    assert ended.code == 0, ended.err
    (run_id,) = {name.partition("/")[0] for name in bucket.list()}
    assert f"Results: {bucket.url}/{run_id}" in ended.out
    assert json.loads(vcorr(*words, "--json").out)["reused"] == 2
    before = bucket.list()
    bucket.files.rm_file(bucket.path(f"{run_id}/predictions/slide-1.arrow"))
    again = json.loads(vcorr(*words, "--json").out)  # planned by the record here, and computed
    assert (again["status"], again["reused"], again["path"]) == ("complete", 1, f"{bucket.url}/{run_id}")
    assert {name for name in before if before[name] != bucket.list()[name]} == {f"{run_id}/{RECORD}"}


def test_a_sweep_takes_a_url_and_its_board(vcorr, bucket, machine, tmp_path) -> None:
    (tmp_path / "sweep.yaml").write_text("model: sliding-model\nprobe: qk\nlimit: 2\nmatrix:\n  steps: ['0', '9']\n")
    ended = vcorr("sweep", "sweep.yaml", "--out", bucket.url, "--board", "site")
    assert ended.code == 0, ended.err
    assert f"Results: {bucket.url}" in ended.out
    assert len({name.partition("/")[0] for name in bucket.list()}) == 2
    assert len([name for name in bucket.list() if "/scores/" in name]) == 4
    assert (tmp_path / "site" / "index.html").is_file()


def test_a_missing_package_ends_a_command_before_it_begins(vcorr, bucket, machine, monkeypatch) -> None:
    import sys

    words = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "0", "--limit", "2", "--out", bucket.url)
    from fsspec.registry import _registry

    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    for protocol in ("s3", "s3a"):
        monkeypatch.delitem(_registry, protocol, raising=False)
    ended = vcorr(*words)
    assert (ended.code, "pip install 'vcorr[s3]'" in ended.err) == (4, True)
