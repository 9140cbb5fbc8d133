"""vcorr propagate and vcorr summarize: from words on the command line to the files that are written."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from support import sliding, videos
from support.davis import frames_and_masks

from vcorr.data.mask_files import Mask, read_mask, usual_palette, write_mask
from vcorr.data.video import read_video
from vcorr.metrics.mask_scores import region_similarity

FILES = ["areas.csv", "masks", "masks.json", "overlay.mp4"]
LABELS = np.array([0, 200, 3], np.uint8)
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)


@pytest.fixture
def clip(tmp_path):
    """Writes a video of two squares, one of which moves right, with masks of its frames 0 and 2; returns all masks."""
    video, masks = frames_and_masks(height=48, width=64)
    videos.write(tmp_path / "clip.mkv", video, codec="ffv1", pixels="bgr0")
    for frame in (0, 2):
        write_mask(tmp_path / f"mask{frame}.png", Mask(LABELS[masks[frame]], PALETTE))
    return LABELS[masks]


def read_masks(folder):
    return np.stack([read_mask(path).labels for path in sorted((folder / "masks").iterdir())])


@pytest.mark.parametrize("frame", [0, 2])
def test_masks_of_every_frame_are_written_with_labels_and_palette(vcorr, clip, tmp_path, frame):
    done = vcorr("propagate", "clip.mkv", "--mask", f"mask{frame}.png", "--frame", str(frame), "--tracker", "dis")
    assert (done.code, done.err) == (0, "")
    folder = tmp_path / "propagated" / "clip"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert str(folder.relative_to(tmp_path)) in done.out
    found = read_masks(folder)
    assert found.shape == clip.shape
    assert np.array_equal(found[frame], clip[frame])
    assert set(np.unique(found)) == set(LABELS)
    for label in LABELS[1:]:
        assert min(region_similarity(a == label, b == label) for a, b in zip(found, clip, strict=True)) > 0.7
    assert np.array_equal(read_mask(folder / "masks" / "00001.png").palette, PALETTE)
    assert len(read_video(folder / "overlay.mp4").frames) == len(clip)
    with open(folder / "areas.csv") as file:
        areas = {(int(r["label"]), int(r["frame"])): int(r["pixels"]) for r in csv.DictReader(file)}
    assert areas == {(label, t): (found[t] == label).sum() for label in LABELS[1:] for t in range(len(clip))}
    record = json.loads((folder / "masks.json").read_text())
    assert (record["model"], record["frame"]) == ("dis", frame)


def test_a_model_is_read_at_the_site_that_was_asked_for(vcorr, clip, tmp_path):
    arguments = ("--mask", "mask0.png", "--model", "sliding-model", "--steps", "last", "--top-k", "1", "--radius", "3")
    done = vcorr("propagate", "clip.mkv", *arguments, "--layers", "1", "--json")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert (said["probe"], said["layers"], said["step"], said["top_k"]) == ("qk", "1", 9, 1)
    assert np.array_equal(read_masks(tmp_path / "propagated" / "clip")[0], clip[0])


@pytest.mark.parametrize(
    "words", [("track", "--grid", "2"), ("propagate", "--mask", "mask0.png"), ("summarize", "-k", "2", "--grid", "2")]
)
def test_what_random_weights_found_is_marked(vcorr, clip, monkeypatch, words):
    monkeypatch.setattr(sliding.SlidingModel, "weights_id", lambda self, weights: "random:0", raising=False)
    site = ("--model", "sliding-model", "--layers", "0", "--steps", "last")
    done = vcorr(words[0], "clip.mkv", *words[1:], *site)
    assert (done.code, done.err) == (0, "")
    assert "Random weights: what was found says nothing about the released model." in done.out


def test_a_site_that_sees_nothing_move_leaves_the_mask_where_it_is(vcorr, tmp_path):
    """Reads the layer of the test's model whose attention stays at its place, with a mask of whole tokens."""
    videos.write(tmp_path / "clip.mkv", frames_and_masks(height=48, width=64)[0], codec="ffv1", pixels="bgr0")
    mask = np.zeros((48, 64), np.uint8)
    mask[8:24, 16:40] = 1
    write_mask(tmp_path / "mask.png", Mask(mask, usual_palette()))
    done = vcorr(
        "propagate", "clip.mkv", "--mask", "mask.png", "--model", "sliding-model", "--layers", "1", "--top-k", "1"
    )
    assert done.code == 0
    found = read_masks(tmp_path / "propagated" / "clip")
    assert all(region_similarity(one > 0, mask > 0) > 0.9 for one in found)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("clip.mkv", "--tracker", "dis"), 2, "No mask was named."),
        (("--mask", "mask0.png", "--tracker", "dis"), 2, "A mask was named, and no video."),
        (("--tracker", "dis"), 2, "Neither a video nor data was named."),
        (("clip.mkv", "--mask", "mask0.png"), 2, "Neither a model nor a tracker was named."),
        (("clip.mkv", "--mask", "mask0.png", "--tracker", "dis", "--data", "x"), 2, "--data is for measuring"),
        (("clip.mkv", "--mask", "mask0.png", "--tracker", "dis", "--frame", "9"), 2, "frames 0 to 3"),
        (("clip.mkv", "--mask", "alpha.png", "--tracker", "dis"), 2, "alpha channel"),
        (("clip.mkv", "--mask", "small.png", "--tracker", "dis"), 2, "has 32x32 pixels, its video 64x48"),
        (("clip.mkv", "--mask", "empty.png", "--tracker", "dis"), 2, "has no object"),
        (("clip.mkv", "--mask", "none.png", "--tracker", "dis"), 4, "none.png does not exist"),
        (("clip.mkv", "--mask", "mask0.png", "--model", "token-patches", "--top-k", "0"), 2, "top_k"),
        (("clip.mkv", "--mask", "mask0.png", "--tracker", "dis", "--probe", "qk"), 2, "--probe does not apply"),
        (("clip.mkv", "--mask", "mask0.png", "--model", "zero-motion", "--probe", "qk"), 2, "--probe does not apply"),
        (
            ("clip.mkv", "--mask", "mask0.png", "--tracker", "dis", "--context", "3"),
            2,
            "propagate.context does not apply",
        ),
        (("clip.mkv", "--mask", "mask0.png", "--model", "zero-motion", "--top-k", "3"), 2, "propagate.top_k does not"),
        (("clip.mkv", "--mask", "mask0.png", "--tracker", "dis", "--set", "data.frames=2"), 2, "data.frames does not"),
        (("clip.mkv", "--mask", "mask0.png", "--tracker", "dis", "--dry-run"), 2, "--dry-run is for measuring"),
        (
            ("--data", "token-slide", "--model", "sliding-model", "--layers", "0", "--frame", "1"),
            2,
            "--frame is for a mask",
        ),
    ],
)
def test_bad_input_is_one_error_and_writes_nothing(vcorr, clip, tmp_path, arguments, code, said):
    Image.new("RGBA", (64, 48)).save(tmp_path / "alpha.png")
    Image.new("L", (32, 32), 1).save(tmp_path / "small.png")
    Image.new("L", (64, 48)).save(tmp_path / "empty.png")
    done = vcorr("propagate", *arguments)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "propagated").exists()


@pytest.fixture
def cuts(tmp_path):
    """Writes a video of three still pictures that are shown for different times; returns the pictures."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    videos.write(tmp_path / "cuts.mkv", np.repeat(pictures, [6, 2, 8], axis=0), codec="ffv1", pixels="bgr0")
    return pictures


def test_key_frames_are_written_in_time_with_a_contact_sheet(vcorr, cuts, tmp_path):
    done = vcorr("summarize", "cuts.mkv", "-k", "3", "--tracker", "dis", "--grid", "4")
    assert (done.code, done.err) == (0, "")
    folder = tmp_path / "key-frames" / "cuts"
    pictures = sorted(path.name for path in folder.glob("0*.png"))
    kept = [int(name.removesuffix(".png")) for name in pictures]
    assert kept[0] == 0
    assert kept[1] in (6, 7)
    assert kept[2] >= 8
    for name, picture in zip(pictures, cuts, strict=True):
        assert np.array_equal(np.asarray(Image.open(folder / name)), picture)
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width == 3 * 320
    record = json.loads((folder / "key-frames.json").read_text())
    assert sorted(record["key_frames"]) == kept
    assert record["coverage"]["least"] > record["even_coverage"]["least"]
    assert "evenly spaced" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("cuts.mkv", "-k", "99", "--compare", "99"), 2, "the video has 16 frames"),
        (("cuts.mkv", "-k", "9", "--compare", "4"), 2, "only 4 frames are compared"),
        (("cuts.mkv", "-k", "0"), 2, "-k 0"),
        (("cuts.mkv", "--grid", "0"), 2, "A grid has at least 1 point"),
        (("cuts.mkv", "--grid", "9999"), 2, "A grid has at most"),
        (("cuts.mkv", "--steps", "3"), 2, "--steps does not apply: tracker 'lk'"),
        (("cuts.mkv", "--set", "data.frames=3"), 2, "--set data.frames does not apply"),
        (("none.mkv",), 4, "none.mkv"),
    ],
)
def test_key_frames_that_cannot_be_chosen_are_one_error(vcorr, cuts, tmp_path, arguments, code, said):
    done = vcorr("summarize", *arguments, "--tracker", "lk")
    assert done.code == code
    assert said in done.err
    assert not (tmp_path / "key-frames").exists()


def test_a_model_chooses_key_frames_by_its_way_back(vcorr, cuts, tmp_path):
    arguments = ("-k", "3", "--model", "sliding-model", "--layers", "0", "--compare", "6", "--grid", "2", "--json")
    done = vcorr("summarize", "cuts.mkv", *arguments)
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert said["compared"] == 6
    picture = np.repeat([0, 1, 2], [6, 2, 8])
    assert sorted(picture[said["key_frames"]]) == [0, 1, 2]
