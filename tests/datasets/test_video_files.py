"""The dataset `video`."""

import pytest
from support import videos

from vcorr import Queries, TokenGrid
from vcorr.contract.errors import MissingError, UsageError
from vcorr.data import fit_notes, query_grid
from vcorr.data.dataset_options import VideoConfig
from vcorr.data.video_dataset import VideoFiles
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
        check_all(path=str(folder))
    VideoFiles(VideoConfig(path=str(folder))).check_files(["a", "b"])


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
    assert note.endswith("which makes everything 0.75 times as wide for its height.")
    fits = TokenGrid(frames=6, rows=6, cols=8, stride=(8, 8), video_frames=6, temporal_ratio=1, causal=True)
    assert fit_notes(clip, fits) == ()


def test_a_tracker_makes_its_tracks(folder):
    clip = VideoFiles(VideoConfig(path=str(folder / "b.mp4"), grid=4)).clip("b")
    tracks = Dis(DisConfig()).track(clip.video, clip.queries)
    assert tracks.xy.shape == (16, 6, 2)
