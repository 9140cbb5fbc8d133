"""DiffTrack's dataset, imported from a small folder in its layout."""

import pickle
import shlex

import numpy as np
import pytest
from support.difftrack import grid, make_set, tracks, visibility
from support.folders import make_folder

from vcorr.contract.errors import MissingError, StoreError, UsageError, VcorrError
from vcorr.data.dataset_folder import DatasetFolder
from vcorr.data.dataset_home import find_folder, imports_folder, is_within_reach, list_imported_names
from vcorr.data.dataset_options import DiffTrackConfig
from vcorr.data.difftrack_import import find_sets, import_all, import_set, read_set
from vcorr.data.stored_dataset import difftrack
from vcorr.store.lock import hold_lock
from vcorr.testing import assert_passed, check_dataset


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "home"))
    return imports_folder("difftrack")


def imported(path, home, **options):
    return list(import_all(path, home, **options))


def test_every_set_is_found_and_named(tmp_path, home):
    for model, scenes, clips in (
        ("cogvideox_t2v_2b", "fg", 3),
        ("cogvideox_t2v_2b", "bg", 2),
        ("hunyuan_t2v", "bg", 1),
    ):
        make_set(tmp_path / "source", model, scenes, clips)
    (tmp_path / "source" / "cag_prompts.txt").write_text("other prompts\n")
    found = imported(tmp_path / "source", home)
    names = ["cogvideox_t2v_2b/bg", "cogvideox_t2v_2b/fg", "hunyuan_t2v/bg"]
    assert [s.name for s in found] == names
    assert list_imported_names() == [f"difftrack:{name}" for name in names]
    assert is_within_reach("difftrack:hunyuan_t2v/bg")
    assert not is_within_reach("difftrack:hunyuan_t2v/fg")
    assert [s.name for s in find_sets(tmp_path / "source" / "cogvideox_t2v_2b")] == names[:2]
    assert [s.name for s in find_sets(tmp_path / "source" / "hunyuan_t2v" / "bg")] == names[2:]
    data = difftrack(DiffTrackConfig(path="cogvideox_t2v_2b/fg"))
    assert (data.split, data.ids()) == ("cogvideox_t2v_2b/fg", ("000", "001", "002"))
    assert_passed(check_dataset(data))


def test_tracks_images_and_settings_are_kept_exactly(tmp_path, home):
    source = make_set(tmp_path / "source", "hunyuan_t2v", "bg", 2, images=2)
    imported(tmp_path / "source", home)
    rows = DatasetFolder.open(find_folder("difftrack:hunyuan_t2v/bg")).rows()
    row = rows[1]
    assert (row.xy == np.load(source / "tracks" / "001.npy")[0].transpose(1, 0, 2)).all()
    assert (row.visible == np.load(source / "visibility" / "001.npy")[0].T).all()
    assert (row.queries == grid(10)).all()
    assert (row.frames, row.height, row.width, row.seed, row.num_steps) == (49, 480, 720, 42, 30)
    assert (row.tracker, row.tracker_version, row.tracker_licence) == ("cotracker", 0, "CC-BY-NC-4.0")
    assert (row.video, row.video_sha256) == ("", "")
    kept = find_folder("difftrack:hunyuan_t2v/bg") / row.image
    assert kept.read_bytes() == (source / "image" / "001.png").read_bytes()


@pytest.mark.parametrize(("scenes", "side"), [("fg", 20), ("bg", 10)])
def test_a_run_gets_prompts_the_paper_grid_and_the_image_but_no_tracks(tmp_path, home, scenes, side):
    make_set(tmp_path / "source", "cogvideox_i2v_2b", scenes, 1, images=1)
    imported(tmp_path / "source", home)
    clip = difftrack(DiffTrackConfig(path=f"cogvideox_i2v_2b/{scenes}")).clip("000")
    assert (clip.prompt, clip.query_side, clip.tracks, len(clip.queries)) == ("a thing, number 0", side, None, 0)
    assert clip.video.shape == (1, 60, 90, 3)


def test_importing_again_replaces_what_was_there(tmp_path, home):
    source = make_set(tmp_path / "source", clips=3)
    imported(tmp_path / "source", home)
    (source / "prompt.txt").write_text("only one\n")
    for folder, number in (("tracks", 1), ("tracks", 2), ("visibility", 1), ("visibility", 2)):
        (source / folder / f"00{number}.npy").unlink()
    imported(tmp_path / "source", home)
    data = difftrack(DiffTrackConfig(path="cogvideox_t2v_2b/fg"))
    assert [data.clip(name).prompt for name in data.ids()] == ["only one"]
    assert [p.name for p in (home / "cogvideox_t2v_2b").iterdir()] == ["fg"]


def test_an_import_killed_between_its_renames_leaves_the_old_set_to_the_next_one(tmp_path, home):
    make_set(tmp_path / "source", clips=2)
    (done,) = imported(tmp_path / "source", home)
    done.path.rename(done.path.parent / ".fg.7.0a1b2c3d.old")
    (source,) = find_sets(tmp_path / "source")
    (source.path / "tracks" / "001.npy").write_bytes(b"")
    with pytest.raises(UsageError):
        import_set(source, home)
    np.save(source.path / "tracks" / "001.npy", tracks(grid(20), 1))
    assert import_set(source, home).clips == 2
    assert [p.name for p in done.path.parent.iterdir()] == ["fg"]


def test_a_second_import_at_the_same_time_is_refused_and_removes_nothing(tmp_path, home):
    (source,) = find_sets(make_set(tmp_path / "dataset"))
    done = import_set(source, home)
    at_work = done.path.parent / f".{done.path.name}.7.0a1b2c3d.tmp"
    at_work.mkdir()
    with hold_lock(done.path.parent), pytest.raises(StoreError, match="is being written by process"):
        import_set(source, home)
    assert at_work.exists()
    import_set(source, home)
    assert not at_work.exists()


def test_a_failed_import_leaves_the_old_set_alone(tmp_path, home):
    source = make_set(tmp_path / "source")
    imported(tmp_path / "source", home)
    np.save(source / "tracks" / "001.npy", np.zeros(3))
    with pytest.raises(UsageError):
        imported(tmp_path / "source", home)
    assert len(difftrack(DiffTrackConfig(path="cogvideox_t2v_2b/fg")).ids()) == 2


def test_an_import_onto_its_own_source_is_refused(tmp_path):
    source = make_set(tmp_path / "source")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="is not empty, and not a dataset"):
        imported(tmp_path / "source", tmp_path / "source")
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_partial_takes_the_prompts_of_clips_without_files(tmp_path, home):
    source = make_set(tmp_path / "source", clips=3, images=2)
    for folder in ("tracks", "visibility"):
        (source / folder / "001.npy").unlink()
    (found,) = imported(tmp_path / "source", home, partial=True)
    assert (found.clips, found.with_tracks, found.images) == (3, 2, 2)
    rows = DatasetFolder.open(found.path).rows()
    assert [row.reason for row in rows] == ["", "the source has no tracks of it", ""]
    data = difftrack(DiffTrackConfig(path="cogvideox_t2v_2b/fg"))
    assert data.clip("001").prompt == "a thing, number 1"
    assert data.clip("001").query_side == 20
    assert data.clip("002").video is None


class Code:
    """What a pickle may hold."""


def nan(array):
    array[0, 3, 5] = np.nan
    return array


def infinite(array):
    array[0, 0, 5, 1] = np.inf
    return array


def outside(array):
    array[..., 0] += 30
    return array


def uneven(array):
    array.reshape(1, 49, 20, 20, 2)[..., 7, :, 1] += 3
    return array


TRACKS, SEEN = tracks(grid(20), 1), visibility(400)
BAD_FILES = [
    ("tracks", np.array([Code()], dtype=object), "pickled objects"),
    ("visibility", np.array([True, None], dtype=object), "pickled objects"),
    ("tracks", TRACKS[:, :40], r"\(1, 40, 400, 2\); tracks are \(1, 49, P, 2\)"),
    ("tracks", TRACKS[0], r"shape \(49, 400, 2\)"),
    ("tracks", TRACKS.astype(np.int32), "int32; tracks are float32"),
    ("tracks", TRACKS[:, :, :81], "81 points over 49|400 points over 49"),
    ("tracks", nan(TRACKS.copy()), "xy holds 1 positions that are NaN or infinite"),
    ("tracks", infinite(TRACKS.copy()), "queries holds 1 positions that are NaN or infinite"),
    ("tracks", outside(TRACKS.copy()), "20 of 400 query points lie outside the frame of 720 x 480"),
    ("tracks", TRACKS[:, :, np.r_[1, 0, 2:400]], "not a regular grid of 20 x 20"),
    ("tracks", TRACKS[:, :, ::-1], "not a regular grid of 20 x 20"),
    ("tracks", uneven(TRACKS.copy()), "not a regular grid of 20 x 20"),
    ("tracks", np.full_like(TRACKS, 5), "not a regular grid of 20 x 20"),
    ("tracks", TRACKS / np.float32([720, 480]), "not a regular grid|spacing of 0.051 x 0.0504 pixels"),
    ("visibility", SEEN.astype(np.uint8), "uint8; visibility is bool"),
    ("visibility", SEEN[:, :, :399], "399 points over 49 frames"),
    ("visibility", SEEN[:, :48], r"\(1, 48, 400\); visibility is"),
]


@pytest.mark.parametrize(("folder", "array", "message"), BAD_FILES)
def test_a_bad_file_is_refused_with_its_name_and_nothing_is_imported(tmp_path, home, folder, array, message):
    source = make_set(tmp_path / "source")
    np.save(source / folder / "001.npy", array)
    with pytest.raises(UsageError, match=message) as refused:
        imported(tmp_path / "source", home)
    assert "001.npy" in str(refused.value)
    assert list_imported_names() == []


def test_points_of_another_grid_are_refused(tmp_path):
    source = make_set(tmp_path / "source", clips=1)
    np.save(source / "tracks" / "000.npy", tracks(grid(10), 1))
    np.save(source / "visibility" / "000.npy", visibility(100))
    with pytest.raises(UsageError, match=r"000.npy has 100 points; this set's grid is 20 x 20"):
        read_set(*find_sets(source))


def test_a_pickle_is_not_executed(tmp_path, home):
    source = make_set(tmp_path / "source", clips=1)
    marker = tmp_path / "executed"

    class Execute:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    np.save(source / "tracks" / "000.npy", np.array([Execute()], dtype=object), allow_pickle=True)
    marker.unlink(missing_ok=True)
    with pytest.raises(UsageError, match="never loaded"):
        imported(tmp_path / "source", home)
    assert not marker.exists()


def test_a_file_cut_off_in_the_middle(tmp_path, home):
    path = make_set(tmp_path / "source") / "tracks" / "001.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"001.npy is not a whole .npy file"):
        imported(tmp_path / "source", home)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: (s / "prompt.txt").write_text(""), "prompt.txt is empty"),
        (lambda s: (s / "prompt.txt").write_text("a\n\nb\n"), "line 2 is blank"),
        (lambda s: (s / "prompt.txt").write_text("a\nb\nc\n"), "3 prompts in prompt.txt, but 2 files in tracks"),
        (lambda s: (s / "prompt.txt").write_text("a\n"), "1 prompts in prompt.txt, but 2 files in tracks"),
        (
            lambda s: (s / "visibility" / "001.npy").unlink(),
            r"visibility/001\.npy is missing, and .*/tracks/001\.npy is",
        ),
        (
            lambda s: (s / "tracks" / "001.npy").unlink(),
            r"tracks/001\.npy is missing, and .*/visibility/001\.npy is",
        ),
        (lambda s: (s / "tracks" / "x.npy").touch(), "x.npy: files here are called 000.npy"),
        (lambda s: (s / "image" / "001.png").unlink(), "but 1 files in image/: image/001.png is missing"),
        (lambda s: (s / "image" / "001.png").write_bytes(b"no"), "001.png cannot be read as an image"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, home, change, message):
    change(make_set(tmp_path / "source", images=2))
    with pytest.raises(VcorrError, match=message):
        imported(tmp_path / "source", home)


@pytest.mark.parametrize("folder", ["tracks", "visibility"])
def test_partial_takes_the_prompt_of_a_clip_with_half_of_its_tracks(tmp_path, home, folder):
    source = make_set(tmp_path / "source")
    (source / folder / "001.npy").unlink()
    (found,) = imported(tmp_path / "source", home, partial=True)
    assert (found.clips, found.with_tracks) == (2, 1)


def test_a_model_that_starts_from_an_image_needs_its_images(tmp_path, home):
    make_set(tmp_path / "source", "cogvideox_i2v_2b")
    with pytest.raises(UsageError, match=r"0 files in image/: image/000\.png is missing"):
        imported(tmp_path / "source", home)
    assert imported(tmp_path / "source", home, partial=True)[0].images == 0


def header(text):
    """A .npy file of version 1 with that header."""
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + b"\0" * 64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 49, 400000000000, 2), }"), "not a whole .npy"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': ("), "not a whole .npy"),
        (b"", r"is not a .npy file, but empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        (pickle.dumps({"tracks": [1]}), "pickled objects"),
        (b"PK\x03\x04", "not a .npy file, but an archive"),
        (b"x,y\n1,2\n", "not a .npy file, but something else"),
    ],
)
def test_what_is_no_array_is_named_as_what_it_is(tmp_path, home, content, message):
    path = make_set(tmp_path / "source") / "visibility" / "001.npy"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as refused:
        imported(tmp_path / "source", home)
    assert str(path) in refused.value.message
    assert list_imported_names() == []


def test_a_number_float32_cannot_hold_is_infinite(tmp_path, home):
    source = make_set(tmp_path / "source")
    huge = TRACKS.astype(np.float64)
    huge[0, 9, 5, 0] = 1e300
    np.save(source / "tracks" / "001.npy", huge)
    with pytest.raises(UsageError, match="xy holds 1 positions that are NaN or infinite"):
        imported(tmp_path / "source", home)


def test_what_a_mac_leaves_next_to_the_files_is_no_clip(tmp_path, home):
    source = make_set(tmp_path / "source", images=2)
    for folder, suffix in (("tracks", "npy"), ("visibility", "npy"), ("image", "png")):
        (source / folder / f"._001.{suffix}").write_bytes(b"\0\5\x16\7")
    assert imported(tmp_path / "source", home)[0].clips == 2


def test_an_image_of_a_size_that_is_an_attack_is_refused_in_words(tmp_path, home, monkeypatch):
    make_set(tmp_path / "source", images=2)
    for limit in ("vcorr.data.image_reader.MOST_PIXELS", "PIL.Image.MAX_IMAGE_PIXELS"):
        monkeypatch.setattr(limit, 1000)
        with pytest.raises(UsageError, match=r"000\.png declares .* pixels; images of at most .* million are read"):
            imported(tmp_path / "source", home)


def test_only_what_was_imported_is_replaced(tmp_path):
    make_set(tmp_path / "source")
    place = tmp_path / "out" / "cogvideox_t2v_2b" / "fg"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(StoreError, match="is not empty, and not a dataset"):
        imported(tmp_path / "source", tmp_path / "out")
    assert place.read_text() == "mine"
    place.unlink()
    built = make_folder(place)
    built.write_record({"kind": "built"}, "complete")
    with pytest.raises(StoreError, match="holds a dataset that was not imported"):
        imported(tmp_path / "source", tmp_path / "out")
    assert len(built.rows()) == 2


def test_an_earlier_import_with_a_damaged_record_stays_and_is_moved_away(tmp_path):
    make_set(tmp_path / "source")
    imported(tmp_path / "source", tmp_path / "out")
    place = tmp_path / "out" / "cogvideox_t2v_2b" / "fg"
    (place / "dataset.json").write_text("{")
    with pytest.raises(StoreError, match=r"dataset\.json is damaged") as refused:
        imported(tmp_path / "source", tmp_path / "out")
    words = shlex.split(refused.value.hint.split("again: ")[1])
    assert words == ["mv", str(place), f"{place}.old"]
    place.rename(words[2])
    imported(tmp_path / "source", tmp_path / "out")
    assert DatasetFolder(place).record()["kind"] == "difftrack"


def test_a_folder_of_something_else(tmp_path, home):
    with pytest.raises(UsageError, match="does not hold DiffTrack's dataset"):
        imported(tmp_path, home)
    with pytest.raises(MissingError, match="does not exist"):
        imported(tmp_path / "nowhere", home)


def test_sets_that_are_not_imported_say_how_to_get_them(tmp_path, home):
    with pytest.raises(MissingError, match="is not imported") as missing:
        find_folder("difftrack:cogvideox_t2v_2b/fg")
    assert "vcorr dataset import difftrack" in missing.value.hint
    make_set(tmp_path / "source")
    imported(tmp_path / "source", home)
    with pytest.raises(UsageError, match="Did you mean 'cogvideox_t2v_2b/fg'"):
        find_folder("difftrack:cogvideox_t2v_2b/bg")
    with pytest.raises(UsageError, match="names no set"):
        difftrack(DiffTrackConfig())
