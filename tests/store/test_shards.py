"""Shards and run directories: atomic, self-describing, refusing what is not theirs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

import vcorr
from vcorr.contract.errors import StoreError
from vcorr.store import rundir, schema, shards
from vcorr.store.atomic_files import replace_together
from vcorr.store.fingerprint import fingerprint, hash_files
from vcorr.store.run_search import open_run


def score_row(**changes: object) -> schema.ScoreRow:
    return schema.ScoreRow(**changes)


@pytest.fixture
def run(tmp_path: Path) -> rundir.RunDirectory:
    made = rundir.RunDirectory.create(tmp_path, "a" * 64)
    made.write_record({"fingerprints": {"predict": "a" * 64}}, "started")
    return made


def test_a_shard_is_read_back_and_tells_its_layout(run: rundir.RunDirectory) -> None:
    path = run.shard("scores", "c")
    shards.write_shard(path, "scores", [score_row(clip="c", value=0.5)], "f")
    table = shards.read_shard(path, "scores")
    assert table["value"].to_pylist() == [0.5]
    assert table.schema.field("value").type == pa.float32()
    assert shards.fingerprint_of(table) == "f"
    assert table.schema.metadata[schema.VERSION_KEY] == str(schema.SCHEMA_VERSION).encode()
    assert b"fractions" in table.schema.metadata[schema.UNITS_KEY]


def test_the_contract_columns_come_first_and_in_order() -> None:
    contract = (
        "run model attention weights probe dataset split mode tracker clip layer layer_name step noise head metric "
        "variant task value floor ceiling n seed status error"
    )
    columns = contract.split()
    assert schema.SCORES.names[: len(columns)] == columns


def test_datasets_reads_scores_as_they_are(run: rundir.RunDirectory, tmp_path: Path) -> None:
    for clip in ("a", "b"):
        shards.write_shard(run.shard("scores", clip), "scores", [score_row(clip=clip, value=0.25)], "f")
    files = [str(run.shard("scores", clip)) for clip in ("a", "b")]
    loaded = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["clip"] == ["a", "b"]
    assert np.asarray(loaded["value"]).tolist() == [0.25, 0.25]


@pytest.mark.parametrize("content", [b"", b"garbage", b"ARROW1\0\0", None])
def test_a_damaged_shard_is_named_with_what_to_do(run: rundir.RunDirectory, content: bytes | None) -> None:
    path = run.shard("scores", "c")
    shards.write_shard(path, "scores", [score_row()], "f")
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(StoreError, match=r"c\.arrow is damaged.*\nRepeat the command"):
        shards.read_shard(path, "scores")


def test_whatever_is_wrong_in_a_shard_is_said_and_ends_nothing(run: rundir.RunDirectory) -> None:
    path = run.shard("predictions", "c")
    rows = [schema.PredictionRow(clip=f"c{i}", probe="qk", xy=[0.5] * 99) for i in range(9)]
    shards.write_shard(path, "predictions", rows, "f")
    whole, generator, refused = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(300):
        damaged = bytearray(whole)
        start = int(generator.integers(len(whole)))
        damaged[start : start + 8] = generator.bytes(8)
        path.write_bytes(damaged)
        try:
            shards.read_shard(path, "predictions").to_pylist()
        except StoreError as error:
            refused.append(error.message)
    assert len(refused) > 295, "the checksum covers every byte but its own name"
    assert all("c.arrow" in message for message in refused)


def test_every_flipped_bit_is_noticed(run: rundir.RunDirectory) -> None:
    path = run.shard("tracks", "c")
    shards.write_shard(path, "tracks", [], "f" * 64, clip="c", facts={"tracker": None})
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for position in generator.permutation(8 * len(whole))[:400]:
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with contextlib.suppress(StoreError):
            shards.read_shard(path, "tracks")
            # only the name of the checksum itself was hit
            assert b"vcorr.sha256" not in path.read_bytes()[len(whole) // 2 :]
    path.write_bytes(whole)
    assert shards.stamp_of(shards.read_shard(path, "tracks")) == shards.Stamp("f" * 64, "c", {"tracker": None})


def test_a_pipe_is_no_shard(run: rundir.RunDirectory) -> None:
    path = run.shard("tracks", "c")
    os.mkfifo(path)
    with pytest.raises(shards.DamagedShardError, match="no ordinary file"):
        shards.read_shard(path, "tracks")
    assert shards.read_stamp(path) is None


def test_long_facts_are_left_out_and_short_ones_stay(run: rundir.RunDirectory) -> None:
    path, long = run.shard("tracks", "c"), "x" * 40_000
    for facts, kept in (
        ({"card": long, "a": 1}, {"a": 1}),
        ({"card": "c", "resolved": long, "a": 1}, {"a": 1}),
        ({"a": long}, {}),
    ):
        shards.write_shard(path, "tracks", [], "f", clip="c", facts=facts)
        stamp = shards.read_stamp(path)
        assert stamp is not None
        assert stamp.facts == kept


@pytest.mark.parametrize("stated", ["in the metadata", "in the rows"])
@pytest.mark.parametrize(
    ("own", "other"),
    [("a", "b"), ("Bear", "bear"), ("caf\u00e9", "cafe\u0301"), ("a/b", "a%2Fb"), ("x" * 300, "x" * 301)],
)
def test_a_shard_is_refused_under_the_name_of_another_clip(
    run: rundir.RunDirectory, own: str, other: str, stated: str
) -> None:
    path, copy = run.shard("scores", own), run.shard("scores", other)
    clip = own if stated == "in the metadata" else ""
    shards.write_shard(path, "scores", [score_row(clip=own)], "f", clip=clip)
    assert path != copy
    path.rename(copy)
    with pytest.raises(shards.DamagedShardError) as refused:
        shards.read_shard(copy, "scores")
    assert f"belongs to clip {own!r}, and has the name of clip '{other[:100]}" in refused.value.message
    assert not run.holds("scores", copy.name, "f")
    copy.rename(path)
    assert run.holds("scores", path.name, "f")


def test_shards_are_replaced_together_or_not_at_all(run: rundir.RunDirectory) -> None:
    folder = run.path / "scores"
    for clip in ("a", "b", "c"):
        shards.write_shard(run.shard("scores", clip), "scores", [score_row(clip=clip, value=0)], "old")

    def replace(clips: str) -> None:
        with replace_together(folder) as staging:
            for clip in clips:
                shards.write_shard(staging / f"{clip}.arrow", "scores", [score_row(clip=clip, value=1)], "new")
            if "x" in clips:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace("abx")
    assert run.read("scores")["value"].to_pylist() == [0, 0, 0]
    replace("ab")
    assert run.read("scores")["value"].to_pylist() == [1, 1, 0]
    assert sorted(p.name for p in run.path.iterdir()) == ["predictions", "run.json", "scores", "tracks"]


def test_a_read_only_run_cannot_be_scored(run: rundir.RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with (
        pytest.raises(StoreError, match=r"scores cannot be written: Read-only file system\.\n.*copied"),
        replace_together(run.path / "scores"),
    ):
        pass


def test_a_shard_of_another_table_or_a_newer_layout_is_refused(run: rundir.RunDirectory) -> None:
    path = run.shard("scores", "c")
    shards.write_shard(path, "scores", [score_row()], "f")
    with pytest.raises(StoreError, match="not a vcorr tracks table"):
        shards.read_shard(path, "tracks")
    for version, message in (("99", "has layout version 99(.|\n)*Upgrade"), ("0", "there is no layout version 0")):
        other = schema.schema("scores").with_metadata(
            {**schema.schema("scores").metadata, schema.VERSION_KEY: version.encode()}
        )
        with pa.ipc.new_file(str(path), other) as writer:
            writer.write_table(other.empty_table())
        with pytest.raises(StoreError, match=message):
            shards.read_shard(path, "scores")


@pytest.mark.parametrize(
    ("version", "later"),
    [(1, {"licence": "", "boundary": [], "point_layers": []}), (2, {"boundary": [], "point_layers": []})],
)
def test_tracks_of_earlier_layouts_are_brought_up_to_date(
    run: rundir.RunDirectory, version: int, later: dict[str, object]
) -> None:
    path, now = run.shard("tracks", "c"), schema.schema("tracks", "f")
    later_layouts = {"query_frames", "query_mode", "input_class", "data_hash", "confidence", "still"}
    old = pa.schema([field for field in now if field.name not in {*later, *later_layouts}]).with_metadata(
        {**now.metadata, schema.VERSION_KEY: str(version).encode()}
    )
    row = schema.TrackRow(clip="c")
    empty = {field.name: [getattr(row, field.name)] for field in old}
    with pa.ipc.new_file(str(path), old) as writer:
        writer.write_table(pa.table(empty, schema=old))
    found = shards.read_shard(path, "tracks")
    assert found.schema.equals(now, check_metadata=True)
    assert {name: found[name].to_pylist() for name in later} == {name: [value] for name, value in later.items()}
    assert found["clip"].to_pylist() == ["c"]
    assert shards.fingerprint_of(found) == "f"


def test_a_full_disk_leaves_no_file_behind(run: rundir.RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = run.shard("scores", "c")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match=r"The disk is full.*\n.*--out"):
        shards.write_shard(path, "scores", [score_row()], "f")
    assert list(path.parent.iterdir()) == []


def test_a_failed_write_keeps_the_earlier_file(run: rundir.RunDirectory) -> None:
    path = run.shard("scores", "c")
    shards.write_shard(path, "scores", [score_row(clip="c", value=1.0)], "f")
    with pytest.raises(pa.ArrowInvalid):
        shards.write_shard(path, "scores", [score_row(value="not a number")], "f")
    assert shards.read_shard(path, "scores")["value"].to_pylist() == [1.0]
    assert [p.name for p in path.parent.iterdir()] == ["c.arrow"]


@pytest.mark.parametrize("clip", ["a/b", "..", ".hidden", "ünï", "x" * 300, "con:aux*?", "a b"])
def test_any_clip_id_has_a_file_of_its_own(run: rundir.RunDirectory, clip: str) -> None:
    path = run.shard("scores", clip)
    assert path.parent == run.path / "scores"
    assert not path.name.startswith(".")
    shards.write_shard(path, "scores", [score_row(clip=clip)], "f")
    assert run.read("scores")["clip"].to_pylist() == [clip]
    assert shards.shard_name(clip) != shards.shard_name(clip + "x")


def test_leftovers_of_a_killed_writer_are_swept_by_the_next_one(run: rundir.RunDirectory) -> None:
    half = run.path / "scores" / ".c.arrow.123.tmp"
    half.write_bytes(b"half")
    staging = run.path / f".scores.{os.getppid()}.tmp"  # the number of a process that runs says nothing: see the lock
    staging.mkdir()
    (staging / "c.arrow").write_bytes(b"half")
    rundir.RunDirectory.create(run.path.parent, "a" * 64)
    assert half.exists()
    assert staging.exists(), "who does not hold the lock removes nothing"
    with run.write_lock():
        assert not half.exists()
        assert not staging.exists()


def test_a_directory_of_another_spec_is_refused(tmp_path: Path, run: rundir.RunDirectory) -> None:
    with pytest.raises(StoreError, match=r"belongs to another spec.*\n.*--out"):
        rundir.RunDirectory.create(tmp_path, "a" * 63 + "b")


@pytest.mark.parametrize("prints", ['{"predict": "b"}', "{}"])
def test_a_directory_whose_record_names_no_fingerprint_is_refused(
    tmp_path: Path, run: rundir.RunDirectory, prints: str
) -> None:
    (run.path / "run.json").write_text(f'{{"fingerprints": {prints}}}')
    with pytest.raises(StoreError, match=r"belongs to another spec|fingerprints must be a mapping"):
        rundir.RunDirectory.create(tmp_path, "a" * 64)


def test_a_run_is_not_a_folder_of_runs(run: rundir.RunDirectory) -> None:
    with pytest.raises(StoreError, match="is itself a run"):
        rundir.RunDirectory.create(run.path, "c" * 64)


def test_beside_counts_up(tmp_path: Path, run: rundir.RunDirectory) -> None:
    names = [rundir.RunDirectory.create(tmp_path, "a" * 64, beside=True).run_id for _ in range(2)]
    assert names == ["a" * 12 + "-2", "a" * 12 + "-3"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"record_version": 99}', "[" * 100_000], ids=range(5))
def test_a_damaged_or_newer_record_is_named(run: rundir.RunDirectory, text: str) -> None:
    (run.path / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json"):
        open_run(run.path)


def test_opening_what_is_no_run(tmp_path: Path, run: rundir.RunDirectory) -> None:
    assert open_run(tmp_path) == run, "a folder of one run stands for it"
    rundir.RunDirectory.create(tmp_path, "b" * 64).write_record({}, "started")
    with pytest.raises(StoreError, match=f"holds these runs: {run.run_id}, {'b' * 12}"):
        open_run(tmp_path)
    with pytest.raises(StoreError, match="is not a run"):
        open_run(tmp_path / "nowhere")


def test_an_unwritable_folder(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match=r"cannot be written.*\n.*--out"):
        rundir.RunDirectory.create(blocked / "runs", "a" * 64)


def test_the_record_keeps_what_it_was_given(run: rundir.RunDirectory) -> None:
    run.write_record({"fingerprints": {"predict": "a" * 64}, "note": "ü"}, "complete")
    found = json.loads((run.path / "run.json").read_text())
    assert (found["status"], found["note"], found["run"]) == ("complete", "ü", run.run_id)


def test_fingerprints_see_every_value_and_no_order() -> None:
    base = {"a": 1, "b": [1.5, "x"], "c": {"d": None}}
    assert fingerprint(base) == fingerprint(dict(reversed(base.items())))
    for other in ({**base, "a": 2}, {**base, "b": ["x", 1.5]}, {**base, "c": {"d": 0}}, {**base, "e": 0}):
        assert fingerprint(other) != fingerprint(base)


def test_what_cannot_be_hashed_is_an_error_with_its_key() -> None:
    with pytest.raises(vcorr.VcorrError, match=r"spec\.a\.b"):
        fingerprint({"a": {"b": object()}})


def test_the_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = hash_files(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = hash_files(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, hash_files(tmp_path)}) == 3


def test_leftovers_of_the_record_and_of_videos_are_swept_and_folders_stay(run: rundir.RunDirectory) -> None:
    (run.path / "videos").mkdir()
    left = [run.path / ".run.json.7.tmp", run.path / "videos" / ".a.mkv.7.tmp"]
    for path in left:
        path.write_text("half")
    (run.path / "predictions" / ".mine.tmp").mkdir()
    with run.write_lock():
        assert not any(path.exists() for path in left)
    assert (run.path / "predictions" / ".mine.tmp").is_dir()


@pytest.mark.parametrize("beside", [False, True])
def test_a_folder_that_leads_nowhere_cannot_be_written(tmp_path: Path, beside: bool) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="cannot be written: File exists"):
        rundir.RunDirectory.create(tmp_path / "link", "f" * 64, beside=beside)


def test_a_folder_whose_name_is_not_unicode_is_refused_and_such_a_command_is_kept(run: rundir.RunDirectory) -> None:
    odd = os.fsdecode(b"odd\xff")
    with pytest.raises(StoreError, match=r"odd\\udcff/f{12}' is not UTF-8 text(.|\n)*--out DIR"):
        rundir.RunDirectory.create(run.path.parent / odd, "f" * 64)
    run.write_record({"command": ["vcorr", "run", "--config", odd, "é"]}, "partial")
    assert run.record()["command"][3:] == [odd, "é"]
