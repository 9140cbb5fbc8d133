"""Tests the stereo pair: its tracks follow the measured disparity, and a nearer surface hides points."""

import dataclasses

import numpy as np
import pyarrow.ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vcorr_tiny import stereo
from vcorr_tiny.photos import reading
from vcorr_tiny.photos.disparity import NEARER, match_points
from vcorr_tiny.plugin import vcorr_datasets
from vcorr_tiny.stereo import HEIGHT, WIDTH, Stereo, StereoConfig

from vcorr import Clip, MissingError, UsageError
from vcorr.cli import main as program
from vcorr.testing import assert_passed, check_dataset


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Stereo(StereoConfig(grid=40)).clip("motorcycle")


def colours(frame: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Returns the colours (N, 3) at raster positions (N, 2), linear between pixel centres of a row."""
    column, row = np.floor(xy[:, 0] - 0.5).astype(int), np.floor(xy[:, 1]).astype(int)
    share = (xy[:, 0] - 0.5 - column)[:, None]
    inside = column.clip(0, frame.shape[1] - 2)
    return frame[row, inside] * (1 - share) + frame[row, inside + 1] * share


def test_the_right_picture_shows_every_visible_point_where_its_track_is(clip: Clip) -> None:
    """Compares colours along the tracks with the colours at the same position, and with tracks of the wrong sign."""
    left, right = clip.video.astype(float)
    seen = clip.tracks.visible[:, 1]
    start, end = clip.tracks.xy[seen, 0], clip.tracks.xy[seen, 1]
    here = colours(left, start)
    followed, still, wrong = (
        np.abs(here - colours(right, where)).mean(-1) for where in (end, start, (2 * start - end).clip(1, WIDTH - 1))
    )
    assert np.median(followed) < 5
    assert np.median(followed) < np.median(still) / 5
    assert followed.mean() < still.mean() / 3
    assert followed.mean() < wrong.mean() / 3


def test_hidden_points_look_like_something_else(clip: Clip) -> None:
    left, right = clip.video.astype(float)
    inside = (clip.tracks.xy[:, 1] > 1).all(-1) & (clip.tracks.xy[:, 1] < [WIDTH - 1, HEIGHT - 1]).all(-1)
    seen = clip.tracks.visible[:, 1]
    error = np.abs(colours(left, clip.tracks.xy[:, 0]) - colours(right, clip.tracks.xy[:, 1])).mean(-1)
    assert (inside & ~seen).sum() > 20
    assert error[inside & ~seen].mean() > 4 * error[seen].mean()


def test_every_query_has_a_known_displacement_along_its_row(clip: Clip) -> None:
    start, end = clip.tracks.xy[:, 0], clip.tracks.xy[:, 1]
    assert 0.9 * 40**2 < len(clip.queries) < 40**2, "some points of the grid have no disparity"
    assert np.array_equal(start, clip.queries.xy)
    assert np.array_equal(start[:, 1], end[:, 1])
    assert (start[:, 0] - end[:, 0]).min() > 5, "everything is nearer than infinity"
    assert clip.tracks.visible[:, 0].all()


def find_cover_slowly(row: list[float], column: int) -> bool:
    """Asks every pixel and every pair of neighbours of a map's row whether it hides the point of ``column``."""
    target, shift = column + 0.5 - row[column], row[column]
    for other, disparity in enumerate(row):
        nearer = np.isfinite(disparity) and disparity > shift + NEARER
        if nearer and abs(other + 0.5 - disparity - target) <= 0.5:
            return True
        following = row[other + 1] if other + 1 < len(row) else np.inf
        if nearer and np.isfinite(following) and following > shift + NEARER and abs(following - disparity) <= NEARER:
            ends = sorted((other + 0.5 - disparity, other + 1.5 - following))
            if ends[0] <= target <= ends[1]:
                return True
    return False


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 1.0, 1.5, 2.25, 3.0, 4.5, np.inf]), min_size=2, max_size=12))
def test_occlusion_is_what_a_slow_search_of_the_row_finds(row: list[float]) -> None:
    points = np.array([(column + 0.5, 0.5) for column in range(len(row))], dtype=np.float32)
    found = match_points(np.array([row], dtype=np.float32), points)
    known = [column for column, disparity in enumerate(row) if np.isfinite(disparity)]
    assert found.left[:, 0].tolist() == [column + 0.5 for column in known]
    assert found.right[:, 0].tolist() == [column + 0.5 - row[column] for column in known]
    inside = [0 <= column + 0.5 - row[column] < len(row) for column in known]
    hidden = [find_cover_slowly(row, column) for column in known]
    assert found.visible.tolist() == [there and not over for there, over in zip(inside, hidden, strict=True)]


def test_a_box_hides_as_many_pixels_as_its_edge_moves() -> None:
    """Puts a box of disparity 6 before a wall of disparity 2: it covers 4 pixels of the wall, left of the box."""
    disparity = np.full((1, 40), 2, dtype=np.float32)
    disparity[0, 20:30] = 6
    points = np.array([(column + 0.5, 0.5) for column in range(40)], dtype=np.float32)
    hidden = np.flatnonzero(~match_points(disparity, points).visible)
    assert hidden.tolist() == [0, 1, 16, 17, 18, 19], "two leave the picture, four are behind the box"


def test_another_size_scales_pictures_queries_and_tracks(clip: Clip) -> None:
    small = Stereo(StereoConfig(grid=40, height=250, width=247)).clip("motorcycle")
    assert small.video.shape == (2, 250, 247, 3)
    assert np.allclose(small.tracks.xy, clip.tracks.xy * [247 / 741, 0.5], atol=1e-3)
    assert np.array_equal(small.tracks.visible, clip.tracks.visible)


def test_the_dataset_passes_the_contract_and_names_its_files() -> None:
    entry = next(entry for entry in vcorr_datasets() if entry.name == "stereo")
    assert_passed(check_dataset(entry, config=StereoConfig(), clips=1))
    assert set(Stereo(StereoConfig()).identity()["pictures"]) == set(stereo.FILES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 0}, "data.grid must be from 1"),
        ({"height": 8}, "data.height must be from 32"),
        ({"width": 9999}, "4096"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Stereo(dataclasses.replace(StereoConfig(), **options))


def test_another_clip_is_refused() -> None:
    with pytest.raises(UsageError, match="stereo has no clip 'bicycle'"):
        Stereo(StereoConfig()).clip("bicycle")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        program.main(["run", "--data", "stereo", *words])
    return int(ended.value.code or 0)


def test_a_baseline_runs_on_the_pair_and_beats_standing_still(tmp_path, capsys) -> None:
    assert run("--model", "zncc-search", "--set", "data.grid=6", "--out", str(tmp_path)) == 0
    assert "Reference tracks: the data's own." in capsys.readouterr().out
    scores = pyarrow.ipc.open_file(next(tmp_path.glob("*/scores/motorcycle.arrow"))).read_all().to_pylist()
    row = next(row for row in scores if row["metric"] == "matching_accuracy")
    assert row["value"] > 0.4 > row["floor"]


def test_a_model_that_needs_more_frames_says_so(tmp_path, capsys) -> None:
    assert run("--model", "tiny", "--probe", "qk", "--out", str(tmp_path)) == 2
    message = capsys.readouterr().err
    assert "Clip motorcycle has 2 frames" in message
    assert "needs at least 5" in message


def test_without_scikit_image_a_run_names_the_extra(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    assert run("--model", "token-patches", "--out", str(tmp_path)) == MissingError.exit_code
    assert 'pip install "vcorr-tiny[photos]"' in capsys.readouterr().err


def test_a_changed_disparity_map_is_an_error(monkeypatch, tmp_path) -> None:
    path = tmp_path / "motorcycle_disp.npz"
    np.savez(path, np.zeros((HEIGHT, WIDTH), np.float32))
    original = reading.data_file
    monkeypatch.setattr(stereo, "data_file", lambda file: path if file.endswith(".npz") else original(file))
    with pytest.raises(MissingError, match="is not the file that vcorr-tiny lists"):
        Stereo(StereoConfig()).check_files(["motorcycle"])


@pytest.mark.parametrize("content", ["no archive", "truncated", "other name", "texts", "one array"])
def test_a_damaged_disparity_map_is_one_clear_error(content: str, monkeypatch, tmp_path, capsys) -> None:
    path, original = tmp_path / "motorcycle_disp.npz", reading.data_file
    with path.open("wb") as file:
        match content:
            case "no archive":
                file.write(b"hello")
            case "truncated":
                file.write(original(path.name).read_bytes()[:100_000])
            case "other name":
                np.savez(file, other=np.zeros(3))
            case "texts":
                np.savez(file, np.array(["a"]))
            case _:
                np.save(file, np.zeros(3))
    monkeypatch.setattr(stereo, "data_file", lambda file: path if file == path.name else original(file))
    assert run("--model", "token-patches", "--out", str(tmp_path)) == MissingError.exit_code
    assert f"{path} cannot be read: " in capsys.readouterr().err


def test_the_pair_has_no_frame_rate_but_its_overlay_plays(tmp_path, capsys) -> None:
    assert run("--model", "token-patches", "--set", "data.grid=4", "--save-videos", "--out", str(tmp_path)) == 0
    assert [path.suffix for path in tmp_path.glob("*/videos/*")] == [".mp4"], capsys.readouterr().out
