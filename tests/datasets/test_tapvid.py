"""TAP-Vid's files, imported from small ones in their form."""

import pickle
import re
import tracemalloc
from functools import partial

import numpy as np
import pytest
from PIL import Image
from support.tapvid import FRAMES, HEIGHT, WIDTH, compress, entry, make_files, write

from vcorr.contract.errors import InterruptedRunError, MissingError, StoreError, UsageError
from vcorr.data.dataset_folder import DatasetFolder
from vcorr.data.dataset_home import find_folder, imports_folder, list_imported_names
from vcorr.data.dataset_options import TapVidConfig
from vcorr.data.image_reader import decode_image
from vcorr.data.tapvid_dataset import Davis, Kinetics, RgbStacking, RoboTap
from vcorr.data.tapvid_import import import_tapvid
from vcorr.data.video.lossless import read_lossless
from vcorr.store.lock import hold_lock
from vcorr.testing import assert_passed, check_dataset

READERS = {"davis": Davis, "kinetics": Kinetics, "rgb-stacking": RgbStacking, "robotap": RoboTap}
IDS = {
    "davis": ("clip-0", "clip-1"),
    "kinetics": ("0000_of_0002-0000", "0001_of_0002-0000"),
    "rgb-stacking": ("0000", "0001"),
    "robotap": ("video 0", "video 1"),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "home"))
    return imports_folder("tapvid")


def resize_video(video):
    frames = [Image.fromarray(frame).resize((256, 256), Image.Resampling.LANCZOS) for frame in video]
    return np.stack([np.asarray(frame) for frame in frames])


def show_frames(name, video):
    """Returns the frames as they are in the file: JPEG changes them."""
    return np.stack([decode_image(file, "it") for file in compress(video)]) if name == "kinetics" else video


@pytest.mark.parametrize("name", READERS)
def test_every_set_is_recognised_imported_and_read_in_both_modes(tmp_path, home, name):
    done = import_tapvid(make_files(tmp_path / "source", name, 2), home)
    data = READERS[name](TapVidConfig())
    assert (done.name, done.clips, done.failed, done.path) == (data.source.dataset, 2, {}, home / name)
    assert (data.ids(), data.split, list_imported_names()) == (IDS[name], "test", [data.source.dataset])
    assert_passed(check_dataset(data))
    strided = READERS[name](TapVidConfig(queries="strided"))
    for number, clip_id in enumerate(data.ids()):
        source = entry(number)
        clip = data.clip(clip_id)
        assert (clip.video == resize_video(show_frames(name, source["video"]))).all()
        assert (clip.query_mode, clip.input_class, clip.prompt) == ("first", "256", "")
        assert clip.tracks.tracker == ("exact" if name == "rgb-stacking" else "")
        assert clip.queries.t.tolist() == [0, 0, 7, FRAMES - 2]  # the point that is never visible is dropped
        assert (clip.tracks.visible == ~source["occluded"][:4]).all()
        assert (clip.tracks.xy == np.float32(source["points"][:4].astype(float) * 256)).all()
        assert (clip.queries.xy == clip.tracks.xy[range(4), clip.queries.t]).all()
        often = strided.clip(clip_id)
        assert (often.query_mode, often.queries.t.tolist()) == ("strided", [0, 0, 5, 10, 10, 10, 10])
        assert (often.tracks.xy == clip.tracks.xy[[0, 1, 0, 0, 1, 2, 3]]).all()
    assert READERS[name](TapVidConfig(path=str(home))).identity() == data.identity()


@pytest.mark.parametrize("size", [(20, 30), (300, 40)])
def test_without_resizing_pixels_are_the_sources_and_positions_shares_of_them(tmp_path, home, size):
    height, width = size
    source = make_files(tmp_path / "source", "davis", 1, height=height, width=width)
    import_tapvid(source, home, resize="none")
    clip = Davis(TapVidConfig()).clip("clip-0")
    expected = entry(0, height=height, width=width)
    assert (clip.video == expected["video"]).all()
    assert (clip.tracks.xy == np.float32(expected["points"][:4].astype(float) * [width, height])).all()
    assert clip.input_class == ("256" if height <= 256 else "full")


def test_the_filter_and_the_hash_of_the_files_are_recorded_and_part_of_the_identity(tmp_path, home):
    source = make_files(tmp_path / "source", "davis", 1)
    import_tapvid(source, home)
    import_tapvid(source, tmp_path / "other", resize="none")
    record = DatasetFolder(home / "davis").record()
    assert record["resize"] == {"side": 256, "filter": "lanczos"}
    assert list(record["sources"]) == ["tapvid_davis.pkl"]
    assert record["sources"]["tapvid_davis.pkl"] in (home / "davis" / "README.md").read_text()
    assert record["status"] == "complete"
    ours, whole = (Davis(TapVidConfig(path=path)).identity() for path in ("", str(tmp_path / "other")))
    assert (ours["resize"], whole["resize"]) == ({"side": 256, "filter": "lanczos"}, None)
    assert ours["clips"] != whole["clips"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_gives_the_same_clips(tmp_path, home, protocol):
    import_tapvid(make_files(tmp_path / "source", "kinetics", 1, protocol), home, resize="none")
    clip = Kinetics(TapVidConfig()).clip("0000_of_0002-0000")
    assert (clip.video == show_frames("kinetics", entry()["video"])).all()
    assert (clip.tracks.visible == ~entry()["occluded"][:4]).all()


def test_jpeg_files_may_stand_in_a_list_or_an_array_and_clips_in_a_dictionary(tmp_path, home):
    files = compress(entry()["video"])
    for number, video in enumerate((files, tuple(files), np.array(files), np.array(files, object))):
        write(tmp_path / "0000_of_0001.pkl", {"a": {**entry(), "video": video}})
        import_tapvid(tmp_path / "0000_of_0001.pkl", tmp_path / str(number), resize="none")
        clip = Kinetics(TapVidConfig(path=str(tmp_path / str(number)))).clip("a")
        assert (clip.video == show_frames("kinetics", entry()["video"])).all()


def test_points_of_frames_that_the_video_does_not_have_are_left_out(tmp_path, home):
    short = entry()
    write(tmp_path / "tapvid_davis.pkl", {"a": {**short, "video": short["video"][:9]}})
    import_tapvid(tmp_path / "tapvid_davis.pkl", home)
    clip = Davis(TapVidConfig()).clip("a")
    assert clip.tracks.xy.shape == (3, 9, 2)  # the fourth point is visible in frame 10 alone
    assert (clip.tracks.visible == ~short["occluded"][:3, :9]).all()


def test_a_position_half_a_pixel_outside_is_kept_and_a_query_there_moves_to_the_border(tmp_path, home):
    source = entry()
    source["points"][0, :2] = [[-0.002, 0.5], [1.002, 0.5]]
    source["points"][0, 5] = [0.5, 1.002]
    source["points"][2, :7] = np.nan  # hidden there
    write(tmp_path / "tapvid_davis.pkl", {"a": source})
    import_tapvid(tmp_path / "tapvid_davis.pkl", home)
    clip = Davis(TapVidConfig()).clip("a")
    assert clip.queries.xy[0].tolist() == clip.tracks.xy[0, 0].tolist() == [0, 128]
    assert clip.tracks.xy[0, 1] == pytest.approx([256.512, 128])
    assert (clip.tracks.xy[2, :7] == clip.queries.xy[2]).all()
    strided = Davis(TapVidConfig(queries="strided")).clip("a")
    (again,) = np.flatnonzero((strided.queries.t == 5) & (strided.tracks.xy[:, 0] == [0, 128]).all(axis=1))
    assert strided.queries.xy[again].tolist() == strided.tracks.xy[again, 5].tolist() == [128, 256]
    assert strided.tracks.xy[0, 5] == pytest.approx([128, 256.512])  # asked for in frame 0


def change_entry(**values):
    return {**entry(), **values}


def change_place(place, value, key="points"):
    found = entry()
    found[key][place] = value
    return found


BAD = {
    "no dictionary": ([1], "it is no dictionary"),
    "no points": ({"video": entry()["video"], "occluded": entry()["occluded"]}, "no key 'points'"),
    "one frame": (change_entry(video=entry()["video"][:1]), "video has 1 frame"),
    "no frame": (change_entry(video=entry()["video"][:0]), "video has 0 frame"),
    "float frames": (change_entry(video=entry()["video"] / 255), r"video is float64 \(12, 20, 30, 3\)"),
    "grey frames": (change_entry(video=entry()["video"][..., 0]), "video is uint8"),
    "frames of one pixel": (change_entry(video=entry()["video"][:, :1]), "the least is 2x2"),
    "no frames at all": (change_entry(video=None), "video is a NoneType"),
    "not JPEG": (change_entry(video=[b"abc"] * FRAMES), "frame 0 cannot be read as an image"),
    "one frame cut off": (
        change_entry(video=[*compress(entry()["video"])[:-1], b"\xff\xd8\xff"]),
        "frame 11 cannot be read",
    ),
    "one frame no file": (change_entry(video=[*compress(entry()["video"])[:-1], 3]), "frame 11 is a int"),
    "whole numbers": (change_entry(points=np.zeros((5, FRAMES, 2), int)), r"points is int64 \(5, 12, 2\)"),
    "three numbers": (change_entry(points=np.zeros((5, FRAMES, 3), np.float32)), "it must be float32"),
    "visibility as numbers": (change_entry(occluded=np.zeros((5, FRAMES), np.uint8)), "occluded is uint8"),
    "fewer points": (change_entry(occluded=np.zeros((4, FRAMES), bool)), r"it must be bool \(5, 12\)"),
    "longer video": (change_entry(video=np.zeros((13, 4, 4, 3), np.uint8)), "points has 12 frames, and video 13"),
    "never visible": (change_entry(occluded=np.ones((5, FRAMES), bool)), "no point is visible in any frame"),
    "no point": (
        change_entry(points=np.zeros((0, 12, 2), np.float32), occluded=np.zeros((0, 12), bool)),
        "no point is visible",
    ),
    "NaN": (change_place((0, 3), np.nan), "NaN at 1 positions that are visible"),
    "infinite": (change_place((0, 3, 0), np.inf), "outside the frame, the first at x=inf"),
    "pixels": (
        change_place((0, 3), [128, 90]),
        "1 of 27 visible positions lie outside the frame, the first at x=128, y=90",
    ),
    "left of the frame": (change_place((0, 3, 0), -0.2), "outside the frame, the first at x=-0.2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_clip_that_cannot_be_used_fails_by_name_and_the_others_are_imported(tmp_path, home, name):
    value, message = BAD[name]
    source = write(tmp_path / "tapvid_davis.pkl", {"good": entry(1), "bad": value, "last": entry(2)})
    rows = []
    done = import_tapvid(source, home, resize="none", report=rows.append)
    assert list(done.failed) == ["bad"]
    assert re.search(message, done.failed["bad"])
    assert [(row.clip, row.status) for row in rows] == [("good", "ok"), ("bad", "failed"), ("last", "ok")]
    data = Davis(TapVidConfig())
    assert data.ids() == ("good", "last")
    assert "1 of 3 clips is left out" in data.notes("good")[0]
    assert DatasetFolder(home / "davis").record()["status"] == "partial"


def test_a_clip_with_an_empty_name_does_not_end_the_import(tmp_path, home):
    done = import_tapvid(write(tmp_path / "tapvid_davis.pkl", {"a": entry(), "": entry(1), "b": entry(2)}), home)
    assert (done.clips, done.failed) == (3, {})
    assert set(Davis(TapVidConfig()).ids()) == {"a", "b", "unnamed"}


def test_a_shard_needs_the_memory_of_one_clip(tmp_path, home):
    frames, side = 24, 96
    source = write(
        tmp_path / "tapvid_rgb_stacking.pkl",
        [entry(number, frames=frames, height=side, width=side) for number in range(8)],
    )
    size = frames * side * side * 3
    tracemalloc.start()
    import_tapvid(source, home, resize="none")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.stat().st_size > 7.9 * size
    assert peak < 4.5 * size  # the entry, its video, and the video that is read back as a check


def test_an_import_goes_on_where_it_was_interrupted(tmp_path, home):
    source = make_files(tmp_path / "source", "robotap", 3)
    import_tapvid_here = partial(import_tapvid, source, home, resize="none")

    def interrupt(row):
        if row.clip == "video 1":
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError, match="The same command goes on from there"):
        import_tapvid_here(report=interrupt)
    assert DatasetFolder(home / "robotap").record()["status"] == "partial"
    data = RoboTap(TapVidConfig())
    assert [note for clip in data.ids() for note in data.notes(clip)] == [
        f"{home / 'robotap'} has 2 clips so far: the command that makes it was stopped. Repeat it."
    ]
    done = import_tapvid_here()
    assert not any(RoboTap(TapVidConfig()).notes(clip) for clip in data.ids())
    assert (done.clips, done.reused) == (3, 2)
    assert import_tapvid_here().reused == 3
    assert DatasetFolder(home / "robotap").record()["status"] == "complete"


def test_a_damaged_video_or_row_is_imported_again(tmp_path, home):
    source = make_files(tmp_path / "source", "davis", 3)
    import_tapvid(source, home, resize="none")
    rows = DatasetFolder(home / "davis").rows()
    (home / "davis" / rows[0].video).write_bytes(b"")
    DatasetFolder(home / "davis").row_path("clip-1").write_bytes(b"")
    assert import_tapvid(source, home, resize="none").reused == 1
    for row in DatasetFolder(home / "davis").rows():
        assert read_lossless(home / "davis" / row.video, row.video_sha256).shape == (FRAMES, HEIGHT, WIDTH, 3)


def test_other_files_another_size_and_a_second_process_are_refused(tmp_path, home):
    source = make_files(tmp_path / "source", "davis", 1)
    import_tapvid(source, home)
    with pytest.raises(StoreError, match="belongs to another dataset"):
        import_tapvid(source, home, resize="none")
    with pytest.raises(StoreError, match="belongs to another dataset"):
        import_tapvid(make_files(tmp_path / "more", "davis", 2), home)
    with hold_lock(home / "davis"), pytest.raises(StoreError, match="is being written by process"):
        import_tapvid(source, home)


def test_a_clip_named_twice_is_an_error_that_says_what_is_kept(tmp_path, home):
    for number in range(2):
        write(tmp_path / f"robotap_split{number}.pkl", {"same": entry()})
    with pytest.raises(UsageError, match=r"names? the clip 'same' twice") as raised:
        import_tapvid(tmp_path, home)
    assert "1 clip is kept" in raised.value.hint


def test_a_file_cut_off_in_the_middle_is_refused_before_anything_is_imported(tmp_path, home):
    source = make_files(tmp_path / "source", "robotap", 2)
    whole = (source / "robotap_split1.pkl").read_bytes()
    (source / "robotap_split1.pkl").write_bytes(whole[: len(whole) // 2] + b"x")
    with pytest.raises(UsageError, match=r"robotap_split1\.pkl is damaged or cut off"):
        import_tapvid(source, home)
    assert not (home / "robotap").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04", "a zip archive"),
        (b'{"a": 1}', "JSON or other text"),
        (pickle.dumps({}), "holds no clip"),
        (pickle.dumps({"a": np.random.default_rng(0)}), "which is not loaded"),
    ],
)
def test_what_is_no_file_of_a_set_is_one_error(tmp_path, home, content, message):
    (tmp_path / "tapvid_davis.pkl").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        import_tapvid(tmp_path / "tapvid_davis.pkl", home)
    assert not (home / "davis").exists()


@pytest.mark.parametrize(
    ("names", "missing"), [(["0000_of_0003"], 2), (["0000_of_0002", "0001_of_0002"], 0), (["a"], 0)]
)
def test_files_of_a_set_that_are_not_there_are_counted(tmp_path, home, names, missing):
    for name in names:
        write(tmp_path / "in" / f"{name}.pkl", {name: {**entry(), "video": compress(entry()["video"])}})
    assert import_tapvid(tmp_path / "in", home, resize="none").missing_files == missing


def test_which_set_it_is(tmp_path, home):
    source = write(tmp_path / "some.pkl", {"a": entry()})
    with pytest.raises(UsageError, match="does not say which set it is") as raised:
        import_tapvid(source, home)
    assert "--name davis or --name robotap" in raised.value.hint
    for name, folder in (("robotap", "robotap"), ("tapvid-davis", "davis")):
        assert import_tapvid(source, home, name=name, resize="none").path == home / folder
    with pytest.raises(UsageError, match="kinetics has another form"):
        import_tapvid(source, home, name="kinetics")
    with pytest.raises(UsageError, match="davs"):
        import_tapvid(source, home, name="davs")
    (tmp_path / "robotap").mkdir()
    named = write(tmp_path / "robotap" / "split0.pkl", {"a": entry()})
    assert import_tapvid(named, tmp_path / "by folder", resize="none").name == "robotap"


def test_a_folder_without_files_and_no_folder(tmp_path, home):
    (tmp_path / "kinetics").mkdir()
    (tmp_path / "kinetics" / "tapvid_kinetics.csv").write_text("")
    with pytest.raises(UsageError, match=r"holds no \.pkl file") as raised:
        import_tapvid(tmp_path / "kinetics", home)
    assert "generate_tapvid.py" in raised.value.hint
    with pytest.raises(MissingError, match="does not exist"):
        import_tapvid(tmp_path / "none", home)


def test_a_set_that_is_not_imported_says_how_to_import_it(tmp_path, home):
    with pytest.raises(MissingError, match="tapvid-davis is not imported") as missing:
        Davis(TapVidConfig())
    assert "vcorr dataset import tapvid PATH --name davis" in missing.value.hint
    with pytest.raises(MissingError, match="tapvid-davis is not imported"):
        find_folder("tapvid-davis")
    source = make_files(tmp_path / "source", "davis", 1)
    for path in (source, source.parent):
        with pytest.raises(UsageError, match="published files") as raised:
            Davis(TapVidConfig(path=str(path)))
        assert f"vcorr dataset import tapvid {path} --name davis" in raised.value.hint
    import_tapvid(source, home)
    with pytest.raises(UsageError, match="does not hold robotap, but tapvid-davis"):
        RoboTap(TapVidConfig(path=str(home / "davis")))
    with pytest.raises(MissingError, match="holds no imported set"):
        Davis(TapVidConfig(path=str(tmp_path)))
    assert find_folder("tapvid-davis") == home / "davis"
