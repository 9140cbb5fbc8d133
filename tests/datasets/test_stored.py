"""Dataset folders: what is written is read, what does not hold together is refused with its reason."""

import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import sliding
from support.folders import QUERIES, check_all, make_folder, open_folder, row, with_video

from vcorr.contract.errors import MissingError, StoreError, UsageError
from vcorr.data import dataset_folder as folder_module
from vcorr.data.clip_row import ClipRow
from vcorr.data.clip_table import COLUMNS, read_rows, write_row
from vcorr.data.dataset_folder import DatasetFolder
from vcorr.data.video.lossless import encode, read_lossless, write_lossless
from vcorr.testing import assert_passed, check_dataset


def test_clips_come_back_with_video_and_tracks(tmp_path):
    made = make_folder(tmp_path / "small")
    data = open_folder(tmp_path / "small")
    assert (data.split, data.ids()) == ("small", ("clip-0", "clip-1"))
    clip, kept = data.clip("clip-1"), made.rows()[1]
    assert (clip.video == sliding.slide(1)[0]).all()
    assert (clip.queries.xy == QUERIES).all()
    assert (clip.tracks.xy == kept.xy).all()
    assert (clip.tracks.visible == kept.visible).all()
    assert (clip.tracks.tracker, clip.tracks.licence, clip.prompt) == ("exact", "CC0-1.0", "a sliding picture")
    assert_passed(check_dataset(data))
    with pytest.raises(UsageError, match="Did you mean 'clip-1'"):
        data.clip("clip-11")


@settings(max_examples=30, deadline=None)
@given(data=st.data(), points=st.integers(1, 5), frames=st.integers(1, 6))
def test_any_valid_row_comes_back_as_it_was(tmp_path_factory, data, points, frames):
    coordinate = st.floats(-1e4, 1e4, width=32)
    xy = np.float32(data.draw(st.lists(coordinate, min_size=points * frames * 2, max_size=points * frames * 2)))
    xy = xy.reshape(points, frames, 2)
    inside = np.abs(xy[:, 0]) % 64
    visible = np.array(data.draw(st.lists(st.booleans(), min_size=points * frames, max_size=points * frames)))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    given_row = row(
        prompt="p" + data.draw(text),
        reason=data.draw(text),
        seed=data.draw(st.integers(-(2**63), 2**63 - 1)),
        frames=frames,
        queries=inside,
        query_frames=np.int32(data.draw(st.lists(st.integers(0, frames - 1), min_size=points, max_size=points))),
        xy=xy,
        visible=visible.reshape(points, frames),
        point_layers=np.int32(data.draw(st.sampled_from([[], [-1] * points, list(range(points))]))),
    )
    path = tmp_path_factory.mktemp("rows") / "row.parquet"
    write_row(path, given_row)
    (found,) = read_rows(path)
    for field in dataclasses.fields(ClipRow):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(given_row, field.name), strict=True)
    assert found.identity() == given_row.identity()


@pytest.mark.parametrize("place", ["", "data", "videos", "layers"])
def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path, place):
    made = make_folder(tmp_path / "small")
    left = made.path / place / ".clip-0.mkv.1.0123abcd.tmp"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half a file")
    with made.write_lock():
        assert not left.exists()


def test_the_datasets_library_loads_the_folder(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    made = make_folder(tmp_path / "small", clips=3)
    found = datasets.load_dataset(str(made.path), split="test", cache_dir=str(tmp_path / "cache"))
    assert found.column_names == COLUMNS.names
    assert found["clip"][:] == ["clip-0", "clip-1", "clip-2"]
    kept = made.rows()[1]
    assert np.float32(found[1]["xy"]).tolist() == kept.xy.ravel().tolist()
    assert found[1]["visible"] == kept.visible.ravel().tolist()


def test_the_card_is_one_the_hub_reads(tmp_path):
    from huggingface_hub import DatasetCard

    made = make_folder(tmp_path / "small")
    found = DatasetCard.load(made.path / "README.md")
    assert found.data.to_dict()["configs"] == [
        {"config_name": "default", "data_files": [{"split": "test", "path": "data/*.parquet"}]}
    ]
    assert found.data.pretty_name == "small"
    for said in ("clips: 2 ok; 2 with a video", "5 frames of 64 x 64", "tracker: exact, licence CC0-1.0", "random:0"):
        assert said in found.text
    assert [name for name in COLUMNS.names if f"- `{name}` (" not in found.text] == []


def test_one_file_may_hold_many_clips(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    made = make_folder(tmp_path / "small", clips=3)
    before = open_folder(made.path).identity()
    whole = datasets.load_dataset(str(made.path), split="test", cache_dir=str(tmp_path / "cache"))
    for path in (made.path / "data").iterdir():
        path.unlink()
    whole.to_parquet(str(made.path / "data" / "test.parquet"))
    data = open_folder(made.path)
    assert data.identity() == before
    clip = data.clip("clip-2")
    assert (clip.video == sliding.slide(2)[0]).all()
    assert all(array.flags.writeable for array in (clip.queries.xy, clip.tracks.xy, clip.tracks.visible))


def test_a_folder_that_was_moved_and_copied_is_the_same_data(tmp_path):
    made = make_folder(tmp_path / "small")
    before = open_folder(made.path).identity()
    shutil.copytree(made.path, tmp_path / "copy")
    assert open_folder(tmp_path / "copy").identity() == before
    first = made.rows()[0]
    made.write(dataclasses.replace(first, xy=first.xy + np.float32(1)))
    assert open_folder(made.path).identity() != before


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "x"},
        {"query_side": 2},
        {"fps": 3.0},
        {"visible": np.zeros((3, 5), bool)},
        {"point_layers": np.int32([0, 1, 0])},
    ],
)
def test_whatever_a_run_reads_is_part_of_the_identity(change):
    assert dataclasses.replace(row(), **change).identity() != row().identity()


def test_a_video_that_is_not_the_one_of_the_tracks_is_refused(tmp_path):
    made = make_folder(tmp_path / "small")
    write_lossless(made.path / "videos/clip-1.mkv", sliding.slide(9)[0], 8)
    with pytest.raises(StoreError, match="tracks were made on another video") as refused:
        check_all(made.path)
    with pytest.raises(StoreError, match="not hold the video that was written"):
        open_folder(made.path).clip("clip-1")
    assert "Clip clip-1" in str(refused.value)
    assert "videos/clip-1.mkv" in str(refused.value)


def test_one_changed_pixel_is_another_video(tmp_path):
    made = make_folder(tmp_path / "small")
    video = read_lossless(made.path / "videos/clip-0.mkv").copy()
    video[2, 3, 4, 0] ^= 1
    write_lossless(made.path / "videos/clip-0.mkv", video, 8)
    with pytest.raises(StoreError, match="Clip clip-0"):
        check_all(made.path)


def test_the_same_frames_in_another_file_are_the_same_video(tmp_path):
    made = make_folder(tmp_path / "small")
    path, before = made.path / "videos/clip-0.mkv", (made.path / "videos/clip-0.mkv").read_bytes()
    options = {"level": "3", "slices": "9", "slicecrc": "1"}
    encode(str(path), sliding.slide(0)[0], 8, codec="ffv1", pixels="bgr0", container="matroska", options=options)
    assert path.read_bytes() != before
    check_all(made.path)
    assert (open_folder(made.path).clip("clip-0").video == sliding.slide(0)[0]).all()


def test_a_damaged_or_missing_video(tmp_path):
    made = make_folder(tmp_path / "small")
    path = made.path / "videos/clip-1.mkv"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"Clip clip-1: .*clip-1\.mkv"):
        check_all(made.path)
    path.unlink()
    with pytest.raises(MissingError, match=r"Clip clip-1: its video .*clip-1\.mkv is missing"):
        check_all(made.path)


def test_only_the_files_of_the_clips_that_are_used_are_read(tmp_path, monkeypatch):
    made = make_folder(tmp_path / "small", clips=3)
    whole, read = folder_module.file_hash, []
    monkeypatch.setattr(folder_module, "file_hash", lambda path: read.append(path.name) or whole(path))
    data = open_folder(made.path)
    identity = data.identity()
    assert read == []
    (made.path / "videos/clip-2.mkv").unlink()
    data.check_files(["clip-1"])
    assert read == ["clip-1.mkv"]
    assert open_folder(made.path).identity() == identity


def test_tracks_without_their_video_are_no_reference(tmp_path):
    folder = make_folder(tmp_path / "small", clips=1)
    folder.write(row("clip-0"))
    clip = open_folder(folder.path).clip("clip-0")
    assert (clip.video, clip.tracks, len(clip.queries)) == (None, None, 0)


def test_rejected_and_failed_clips_are_kept_but_not_used(tmp_path):
    folder = make_folder(tmp_path / "small")
    folder.write(with_video(folder, row("clip-2", status="rejected", reason="nothing moves")))
    folder.write(
        ClipRow(dataset="small", split="test", clip="clip-3", prompt="", model="m", status="failed", reason="e")
    )
    assert open_folder(folder.path).ids() == ("clip-0", "clip-1")
    (note,) = open_folder(folder.path).notes("clip-0")
    assert note.startswith("small: 2 of 4 clips are left out, rejected or failed: vcorr dataset show ")
    assert not open_folder(folder.path).notes("clip-1")
    assert [r.status for r in folder.rows()] == ["ok", "ok", "rejected", "failed"]
    for number in (0, 1):
        folder.row_path(f"clip-{number}").unlink()
    with pytest.raises(UsageError, match="no clip that can be used"):
        open_folder(folder.path)


NAN = row().xy.copy()
NAN[1, 2] = np.nan
NO_TRACKS = {"queries": QUERIES[:0], "xy": row().xy[:0], "visible": row().visible[:0]}
FAR = QUERIES.copy()
FAR[2, 1] = 64.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 6}, "xy has 5 frames, but the clip has 6"),
        ({"xy": row().xy[:, :4]}, r"visible has shape \(3, 5\), but xy has \(3, 4, 2\)"),
        ({"xy": row().xy[:2]}, r"xy has shape \(2, 5, 2\); 3 query points"),
        ({"visible": np.ones((3, 5), np.uint8)}, "visible is of type uint8"),
        ({"xy": NAN}, "xy holds 1 positions that are NaN or infinite"),
        ({"xy": np.where(np.isnan(NAN), np.inf, NAN)}, "xy holds 1 positions that are NaN or infinite"),
        (
            {"queries": FAR},
            r"1 of 3 query points lie outside the frame of 64 x 64 pixels, the first at \(x=60.25, y=64.5\)",
        ),
        ({"query_side": 2}, "query_side is 2, but there are 3 query points"),
        ({"status": "fine"}, "status is 'fine'"),
        ({"prompt": " "}, "prompt is empty, and there is no video either"),
        (
            {"video": "v.mkv", "frames": 1, "xy": row().xy[:, :1], "visible": row().visible[:, :1]},
            "frames is 1; a video",
        ),
        ({"video": "../../secret.mkv"}, "must be a path inside the dataset's folder"),
        ({"video": "..\\secret.mkv"}, "must be a path inside the dataset's folder"),
        ({"image": "/etc/passwd"}, "must be a path inside the dataset's folder"),
        ({"query_side": -3}, "query_side is -3; it must be at least 0"),
        ({"video": "v.mkv", "fps": 0.0}, "fps is 0.0; a video has a positive number"),
        ({"video": "v.mkv", "fps": float("nan")}, "fps is nan; a video has a positive number"),
        ({"video": "v.mkv", **NO_TRACKS}, "points is 0; a video in this format needs its tracks"),
        ({"layers": "../../secret.mkv"}, "layers is '../../secret.mkv'; it must be a path inside"),
        ({"layers": "layers/c.mkv"}, "layers is 'layers/c.mkv', but there is no video"),
        ({"point_layers": np.int32([0, 1])}, r"point_layers is int32 of shape \(2,\); 3 query points need as many"),
        ({"point_layers": np.float32([0, 1, 0])}, "point_layers is float32 of shape"),
        ({"point_layers": np.int32([0, -2, 1])}, "point_layers is -2 for a point; the least is -1"),
    ],
)
def test_a_row_that_contradicts_itself_is_not_written(tmp_path, change, message):
    with pytest.raises(UsageError, match=message) as refused:
        write_row(tmp_path / "row.parquet", row("clip-7", **change))
    assert "clip clip-7" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def changed(path, **columns):
    """Rewrites a row's file as somebody else's program might have."""
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"xy": pa.array([[1.0] * 28], pa.list_(pa.float32()))}, r"xy holds 28 values; .* need 30, \(3, 5, 2\)"),
        ({"xy": pa.array([[float("inf")] * 30], pa.list_(pa.float32()))}, "xy holds 15 positions that are NaN"),
        ({"xy": pa.array([[None] * 30], pa.list_(pa.float32()))}, "xy has an empty value"),
        ({"visible": pa.array([[1] * 15], pa.list_(pa.uint8()))}, r"'visible' is of type list<\w+: uint8>"),
        ({"visible": pa.array([[True] * 14], pa.list_(pa.bool_()))}, "visible holds 14 values"),
        ({"queries": pa.array([[99.0] * 6], pa.list_(pa.float32()))}, "3 of 3 query points lie outside"),
        ({"frames": pa.array(["5"], pa.string())}, "'frames' is of type string; it must be int32"),
        ({"prompt": pa.array([None], pa.string())}, "prompt is empty"),
        ({"xy": pa.array([None], pa.list_(pa.float32()))}, "xy is empty"),
        ({"points": pa.array([-1], pa.int32())}, "points is -1; it must be at least 0"),
        ({"frames": pa.array([-5], pa.int32())}, "frames is -5; it must be at least 0"),
        ({"clip": pa.array([""])}, "clip is empty; every clip needs an id"),
    ],
)
def test_a_file_of_somebody_else_is_checked_as_well(tmp_path, columns, message):
    made = make_folder(tmp_path / "small")
    changed(made.row_path("clip-1"), **columns)
    with pytest.raises(UsageError, match=message) as refused:
        open_folder(made.path)
    assert "clip-1.parquet" in str(refused.value)


SAME_VALUES = {
    "texts in dictionaries": lambda t: [
        (n, t[n].dictionary_encode()) for n in t.column_names if t[n].type == pa.string()
    ],
    "wide texts": lambda t: [(n, t[n].cast(pa.large_string())) for n in t.column_names if t[n].type == pa.string()],
    "64 bits": lambda t: [
        *((n, t[n].cast(pa.int64())) for n in t.column_names if t[n].type == pa.int32()),
        *((n, t[n].cast(pa.float64())) for n in t.column_names if t[n].type == pa.float32()),
        *((n, t[n].cast(pa.list_(pa.float64()))) for n in ("xy", "queries")),
        ("query_frames", t["query_frames"].cast(pa.list_(pa.int64()))),
    ],
    "lists of a fixed size": lambda t: [
        (n, pa.array(t[n].to_pylist(), pa.list_(t[n].type.value_type, len(t[n][0]))))
        for n in ("xy", "queries", "visible")
    ],
    "columns of nulls": lambda t: [(n, pa.nulls(1)) for n in ("reason", "image", "image_sha256")],
    "missing texts": lambda t: [(n, pa.array([None], pa.string())) for n in ("reason", "image", "image_sha256")],
    "a missing share": lambda t: [("moving_share", pa.array([None], pa.float32()))],
}


@pytest.mark.parametrize("kind", SAME_VALUES)
def test_types_that_hold_the_same_values_are_read(tmp_path, kind):
    made = make_folder(tmp_path / "small")
    path = made.row_path("clip-1")
    table = pq.read_table(path)
    for name in ("reason", "image", "image_sha256"):
        assert table[name].to_pylist() == [""], "the columns that are missing below say nothing"
    before = open_folder(made.path)
    columns = dict(SAME_VALUES[kind](table))
    assert columns
    changed(path, **columns)
    after = open_folder(made.path)
    assert after.identity() == before.identity()
    first, second = (found.clip("clip-1") for found in (before, after))
    assert np.array_equal(first.tracks.xy, second.tracks.xy)
    assert first.tracks.xy.dtype == second.tracks.xy.dtype == np.float32
    assert first.queries == second.queries


def test_a_table_that_declares_far_more_than_it_holds_is_refused_before_it_is_read(tmp_path, monkeypatch):
    made = make_folder(tmp_path / "small")
    path = made.row_path("clip-1")
    changed(path, visible=pa.array([np.zeros(150_000_000, bool)], pa.list_(pa.bool_())))
    assert path.stat().st_size < 1_000_000
    read = pq.ParquetFile.read

    def read_small(self):
        assert self.metadata.row_group(0).total_byte_size < 500_000
        return read(self)

    monkeypatch.setattr(pq.ParquetFile, "read", read_small)
    with pytest.raises(StoreError, match=r"clip-1\.parquet is damaged .*declare 1200000\d+ bytes of memory"):
        open_folder(made.path)


@pytest.mark.parametrize("twice", [True, False])
def test_a_column_that_is_there_twice_or_not_at_all_is_named(tmp_path, twice):
    made = make_folder(tmp_path / "small")
    path = made.row_path("clip-1")
    table = pq.read_table(path)
    pq.write_table(table.append_column("prompt", table["prompt"]) if twice else table.drop_columns(["prompt"]), path)
    with pytest.raises(UsageError, match=r"clip-1\.parquet (has more than once|lacks) the column 'prompt'"):
        open_folder(made.path)


def shifted(lists):
    """A list column with its first value changed."""
    first, *others = lists[0].as_py()
    return pa.array([[not first if isinstance(first, bool) else first + 0.25, *others]], lists.type)


@pytest.mark.parametrize("column", ["queries", "xy", "visible"])
def test_other_tracks_than_those_that_were_kept_are_refused(tmp_path, column):
    made = make_folder(tmp_path / "small")
    path = made.row_path("clip-1")
    changed(path, **{column: shifted(pq.read_table(path)[column])})
    with pytest.raises(StoreError, match=r"its tracks are not the tracks stored with its video .*hash") as refused:
        open_folder(made.path)
    assert "clip-1.parquet: clip clip-1" in refused.value.message


def test_tracks_of_one_video_are_not_taken_for_another(tmp_path):
    """A row whose video was exchanged together with both hashes of it."""
    made = make_folder(tmp_path / "small")
    other = made.rows()[0]
    names = {name: pa.array([getattr(other, name)]) for name in ("video", "video_sha256", "file_sha256")}
    changed(made.row_path("clip-1"), **names)
    with pytest.raises(StoreError, match="not the tracks stored"):
        open_folder(made.path)


def test_tracks_that_nobody_vouches_for_are_taken_as_they_are(tmp_path):
    """Files of layout version 1, and of somebody who leaves the hash out."""
    made = make_folder(tmp_path / "small")
    first, second = (made.row_path(f"clip-{n}") for n in range(2))
    pq.write_table(pq.read_table(first).drop(["tracks_sha256"]).replace_schema_metadata(None), first)
    changed(second, xy=shifted(pq.read_table(second)["xy"]), tracks_sha256=pa.array([""]))
    assert open_folder(made.path).ids() == ("clip-0", "clip-1")
    current = pq.read_table(second)
    pq.write_table(current.drop(["tracks_sha256"]), second)
    with pytest.raises(UsageError, match="lacks the column 'tracks_sha256'"):
        open_folder(made.path)


def test_one_flipped_bit_anywhere_in_the_values_is_noticed(tmp_path):
    made = make_folder(tmp_path / "small")
    path, before = made.row_path("clip-1"), made.rows()[1].identity()
    whole = path.read_bytes()
    values = pq.ParquetFile(path).metadata.row_group(0)
    columns = [values.column(i) for i in range(values.num_columns)]
    end = max(c.data_page_offset + c.total_compressed_size for c in columns)
    for place in range(4, end, 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = made.rows()[1].identity()
        except (StoreError, UsageError):
            continue
        assert found == before


def test_a_video_of_another_size_than_its_row_says(tmp_path):
    made = make_folder(tmp_path / "small", height=128, width=256)
    with pytest.raises(UsageError, match=r"its row declares 5 frames of 128x256 pixels, .* has 5 frames of 64x64"):
        open_folder(made.path).clip("clip-0")


def test_hidden_files_are_no_clips(tmp_path):
    made = make_folder(tmp_path / "small")
    (made.path / "data" / "._clip-0.parquet").write_bytes(b"\0\5\x16\7")
    assert open_folder(made.path).ids() == ("clip-0", "clip-1")


def test_a_clip_that_is_there_twice_is_named(tmp_path):
    made = make_folder(tmp_path / "small")
    shutil.copy(made.row_path("clip-1"), made.path / "data" / "copy.parquet")
    with pytest.raises(UsageError, match="names the clip 'clip-1' twice"):
        open_folder(made.path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is damaged"), ("[]", "does not say how"), ('{"record_version": "x"}', "does not say how")],
)
def test_a_record_that_cannot_be_read_is_reported(tmp_path, text, message):
    made = make_folder(tmp_path / "small")
    (made.path / "dataset.json").write_text(text)
    with pytest.raises(StoreError, match=rf"dataset\.json {message}"):
        made.record()


def test_files_that_are_no_table_of_ours(tmp_path):
    made = make_folder(tmp_path / "small")
    path = made.row_path("clip-1")
    empty = pq.read_table(path).slice(0, 0)
    pq.write_table(empty, path)
    with pytest.raises(UsageError, match=r"clip-1\.parquet holds no clip"):
        open_folder(made.path)
    odd = pq.read_table(made.row_path("clip-0")).replace_schema_metadata({"vcorr.schema_version": "new"})
    pq.write_table(odd, path)
    with pytest.raises(StoreError, match="layout version 'new', which is no number"):
        open_folder(made.path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match=r"clip-1\.parquet is a folder"):
        open_folder(made.path)
    path.rmdir()
    shutil.copy(made.row_path("clip-0"), path)
    pq.write_table(pq.read_table(path).drop(["visible"]), path)
    with pytest.raises(UsageError, match="lacks the column 'visible'"):
        open_folder(made.path)
    newer = pq.read_table(made.row_path("clip-0")).replace_schema_metadata({"vcorr.schema_version": "99"})
    pq.write_table(newer, path)
    with pytest.raises(StoreError, match="layout version 99"):
        open_folder(made.path)
    path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"clip-1\.parquet is damaged"):
        open_folder(made.path)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(UsageError, match="--data video:"):
        open_folder(tmp_path)
    with pytest.raises(MissingError, match="neither a folder nor the name"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="No dataset folder"):
        open_folder("")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is not empty, and not a dataset"):
        DatasetFolder.create(tmp_path, "f" * 64)


def test_clips_of_two_datasets_in_one_folder(tmp_path):
    folder = make_folder(tmp_path / "small")
    folder.write(with_video(folder, row("clip-2", dataset="other")))
    with pytest.raises(UsageError, match="do not agree on 'dataset': 'other', 'small'"):
        open_folder(folder.path)
