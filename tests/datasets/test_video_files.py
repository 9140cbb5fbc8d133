"""The dataset `video`."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import videos

from vcorr import Queries, TokenGrid
from vcorr.contract.errors import MissingError, UsageError
from vcorr.data import fit_notes, query_grid
from vcorr.data.dataset_options import VideoConfig
from vcorr.data.video_dataset import VideoFiles
from vcorr.data.video_names import SUFFIXES, find_videos, name_files
from vcorr.store.fingerprint import fingerprint
from vcorr.testing import assert_passed, check_dataset
from vcorr.trackers.dis import Dis
from vcorr.trackers.tracker_options import DisConfig


@pytest.fixture
def folder(tmp_path):
    videos.write(tmp_path / "b.mp4", videos.numbered(6, 48, 64))
    videos.write(tmp_path / "a.mkv", videos.numbered(8, 32, 32))
    (tmp_path / "notes.txt").write_text("not a video")
    return tmp_path


def test_one_file(folder):
    data = VideoFiles(VideoConfig(path=str(folder / "b.mp4"), prompt="a fade"))
    assert list(data.ids()) == ["b"]
    clip = data.clip("b")
    assert clip.video.shape == (6, 48, 64, 3)
    assert clip.queries == Queries.at(query_grid(20, 48, 64))
    assert (clip.tracks, clip.fps, clip.prompt, clip.query_side) == (None, 10, "a fade", 0)
    assert list(data.notes("b")) == []


def test_a_folder_and_a_pattern(folder):
    assert list(VideoFiles(VideoConfig(path=str(folder))).ids()) == ["a", "b"]
    assert list(VideoFiles(VideoConfig(path=str(folder / "*.mkv"))).ids()) == ["a"]


def test_the_contract_of_datasets(folder):
    assert_passed(check_dataset(VideoFiles, config=VideoConfig(path=str(folder), grid=5)))


def test_ids_of_files_that_share_a_name(tmp_path):
    for name in ("x.mp4", "x.mkv", "one/y.mp4", "two/y.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        videos.write(tmp_path / name, videos.numbered(2, 32, 32))
    assert set(VideoFiles(VideoConfig(path=str(tmp_path))).ids()) == {"x.mp4", "x.mkv"}
    both = VideoFiles(VideoConfig(path=str(tmp_path / "*" / "y.mp4"))).ids()
    assert [name.rsplit("/", 2)[1:] for name in both] == [["one", "y.mp4"], ["two", "y.mp4"]]


def test_options_reach_the_reader(folder):
    config = VideoConfig(path=str(folder / "b.mp4"), frames=2, fps=5, start=0.2, max_side=32, grid=3)
    data = VideoFiles(config)
    clip = data.clip("b")
    assert videos.numbers(clip.video) == [2, 4]
    assert clip.video.shape == (2, 24, 32, 3)
    assert clip.fps == 5
    assert len(clip.queries) == 9
    assert data.notes("b") == (
        "b.mp4: read at 5 of its 10 frames a second.",
        "b.mp4: made smaller from 64x48 to 32x24 while it was read.",
    )


def test_a_file_that_changes_after_its_hash_was_taken_is_refused(folder):
    data = VideoFiles(VideoConfig(path=str(folder)))
    videos.write(folder / "b.mp4", videos.numbered(5, 48, 64))
    assert len(data.clip("b").video) == 5, "nobody has asked for the hash yet"
    data.identity()
    assert len(data.clip("b").video) == 5
    videos.write(folder / "b.mp4", videos.numbered(4, 48, 64))
    with pytest.raises(UsageError, match=r"b\.mp4 was changed after the run was planned"):
        data.clip("b")
    assert len(data.clip("a").video) == 8


def test_the_identity_depends_on_the_contents(folder, tmp_path):
    first = VideoFiles(VideoConfig(path=str(folder / "b.mp4"))).identity()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.mp4").write_bytes((folder / "b.mp4").read_bytes())
    assert VideoFiles(VideoConfig(path=str(elsewhere / "b.mp4"))).identity() == first
    videos.write(elsewhere / "b.mp4", videos.numbered(5, 48, 64))
    assert VideoFiles(VideoConfig(path=str(elsewhere / "b.mp4"))).identity() != first


def check_all(**options):
    data = VideoFiles(VideoConfig(**options))
    data.check_files(data.ids())


def test_a_bad_file_is_refused_at_once_by_name(folder):
    (folder / "c.mp4").write_bytes(b"rubbish" * 100)
    with pytest.raises(UsageError, match=r"c\.mp4 cannot be read as a video"):
        check_all(path=str(folder / "c.mp4"))


def test_a_bad_file_among_others_is_left_to_its_clip(folder):
    (folder / "a0.mp4").write_bytes(b"rubbish" * 100)
    data = VideoFiles(VideoConfig(path=str(folder)))
    data.check_files(data.ids())
    with pytest.raises(UsageError, match=r"a0\.mp4 cannot be read as a video"):
        data.clip("a0")
    assert data.clip("a").video is not None


def test_a_file_that_disappears_is_left_to_its_clip(folder):
    data = VideoFiles(VideoConfig(path=str(folder)))
    (folder / "a.mkv").unlink()
    data.check_files(data.ids())
    assert data.identity()["files"]["a"] == "unreadable"
    with pytest.raises(UsageError, match=r"a\.mkv does not exist"):
        data.clip("a")


def test_a_folder_of_bad_files_is_refused_by_the_name_of_the_first(tmp_path):
    for name in ("b.mp4", "a.mp4"):
        (tmp_path / name).write_bytes(b"rubbish" * 100)
    with pytest.raises(UsageError, match=r"a\.mp4 cannot be read as a video"):
        check_all(path=str(tmp_path))


def test_hidden_files_of_a_folder_are_passed_over_and_named(folder):
    for name in ("._a.mkv", ".b.mp4", ".DS_Store"):
        (folder / name).write_bytes(b"Mac OS X        ")
    data = VideoFiles(VideoConfig(path=str(folder)))
    assert list(data.ids()) == ["a", "b"]
    first, *others = data.notes("a")
    passed = "4 files of the folder were passed over, hidden or not a video: .DS_Store, ._a.mkv, .b.mp4 and 1 more."
    assert first == f"{folder.name}: {passed}"
    assert others == []
    assert list(data.notes("b")) == []


def test_the_note_on_passed_files_is_not_lost_with_an_unreadable_first_file(folder):
    (folder / "a0.mp4").write_bytes(b"rubbish" * 100)
    (folder / "a.mkv").unlink()
    data = VideoFiles(VideoConfig(path=str(folder)))
    with pytest.raises(UsageError, match=r"a0\.mp4 cannot be read"):
        data.notes("a0")
    said = f"{folder.name}: 1 file of the folder was passed over, hidden or not a video: notes.txt."
    assert list(data.notes("b")) == list(data.notes("b")) == [said]


def test_the_folder_one_is_in_has_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    data = VideoFiles(VideoConfig(path="."))
    assert data.notes("a")[0].startswith(f"{folder.name}: 1 file")


def test_names_that_are_not_utf8_have_ids_that_can_be_stored(folder):
    for raw in (b"caf\xe9.mp4", b"caf\xe8.mp4"):
        with open(os.path.join(os.fsencode(folder), raw), "wb") as file:
            file.write((folder / "b.mp4").read_bytes())
    data = VideoFiles(VideoConfig(path=str(folder)))
    assert list(data.ids()) == ["a", "b", r"caf\xe8", r"caf\xe9"]
    assert data.clip(r"caf\xe9").video.shape == (6, 48, 64, 3)
    assert set(fingerprint(data.identity())) <= set("0123456789abcdef")


@settings(deadline=None, max_examples=60)
@given(
    names=st.sets(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).map(os.fsencode)
        | st.binary(min_size=1, max_size=20).map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_")),
        max_size=8,
    )
)
def test_no_file_is_lost_whatever_the_names(names):
    paths = [Path(os.fsdecode(raw + suffix)) for raw in names for suffix in (b".mp4", b".MOV")]
    by_id = name_files(paths)
    assert sorted(by_id.values()) == sorted(paths)
    for clip_id in by_id:
        clip_id.encode()


@pytest.mark.parametrize("suffix", [s.upper() if n % 2 else s for n, s in enumerate(SUFFIXES)])
def test_every_suffix_of_a_folder_is_found(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    (tmp_path / "b.txt").write_bytes(b"x")
    assert [p.name for p in find_videos(str(tmp_path)).paths] == [f"a{suffix}"]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mts", "libx264"),
        (".m2ts", "libx264"),
        (".3gp", "libx264"),
        (".flv", "libx264"),
        (".ogv", "libvpx"),
        (".vob", "mpeg2video"),
        (".mxf", "mpeg2video"),
        (".y4m", "rawvideo"),
        (".wmv", "wmv2"),
    ],
)
def test_containers_of_cameras_and_discs_are_read(tmp_path, suffix, codec):
    container = {".mts": "mpegts", ".m2ts": "mpegts", ".vob": "vob"}.get(suffix)
    videos.write(tmp_path / f"a{suffix}", videos.numbered(8, 64, 64), fps=25, codec=codec, container=container)
    clip = VideoFiles(VideoConfig(path=str(tmp_path))).clip("a")
    assert clip.fps == 25
    assert videos.numbers(clip.video) == list(range(8))


@pytest.mark.parametrize("text", ["a:b.mp4", "~nobody.mp4", "[1].mp4", "x*.mp4", "a.mp4\0", "n" * 300 + ".mp4"])
def test_odd_names_are_names(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    if "\0" in text or len(text) > 255:
        with pytest.raises((UsageError, MissingError)):
            check_all(path=text)
        return
    videos.write(tmp_path / "plain.mp4", videos.numbered(3, 32, 32)).rename(text)
    assert len(VideoFiles(VideoConfig(path=text)).ids()) == 1
    check_all(path=text)


def test_a_start_after_the_end_is_refused_at_once(folder):
    with pytest.raises(UsageError, match=r"b\.mp4 has no frames after 9 s"):
        check_all(path=str(folder / "b.mp4"), start=9)


def test_nothing_there(tmp_path):
    with pytest.raises(MissingError, match=r"no\.mp4 does not exist"):
        check_all(path=str(tmp_path / "no.mp4"))
    with pytest.raises(MissingError, match="holds no videos"):
        VideoFiles(VideoConfig(path=str(tmp_path)))
    with pytest.raises(MissingError, match="No file matches"):
        VideoFiles(VideoConfig(path=str(tmp_path / "*.mp4")))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"path": ""}, "No video was named"),
        ({"frames": 1}, "at least 2"),
        ({"frames": -3}, "data.frames"),
        ({"grid": 0}, "data.grid"),
        ({"start": float("nan")}, "data.start"),
    ],
)
def test_options_out_of_range(folder, options, reason):
    with pytest.raises(UsageError, match=reason):
        VideoFiles(VideoConfig(**{"path": str(folder / "b.mp4"), **options}))


def test_an_unknown_clip(folder):
    with pytest.raises(UsageError, match="Unknown clip 'q'"):
        VideoFiles(VideoConfig(path=str(folder / "b.mp4"))).clip("q")


def test_what_the_runner_does_to_a_clip_is_described(folder):
    clip = VideoFiles(VideoConfig(path=str(folder / "b.mp4"))).clip("b")
    grid = TokenGrid(frames=2, rows=8, cols=8, stride=(8, 8), video_frames=5, temporal_ratio=4, causal=True)
    (note,) = fit_notes(clip, grid)
    assert note.startswith("b: cut to the first 5 of 6 frames and resized from 64x48 to 64x64 pixels, ")
    assert note.endswith("which makes shapes narrower: width / height is 0.75 of what it was.")
    fits = TokenGrid(frames=6, rows=6, cols=8, stride=(8, 8), video_frames=6, temporal_ratio=1, causal=True)
    assert fit_notes(clip, fits) == ()


def test_a_tracker_makes_its_tracks(folder):
    clip = VideoFiles(VideoConfig(path=str(folder / "b.mp4"), grid=4)).clip("b")
    tracks = Dis(DisConfig()).track(clip.video, clip.queries)
    assert tracks.xy.shape == (16, 6, 2)
