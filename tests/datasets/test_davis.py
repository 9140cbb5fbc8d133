"""The dataset `davis17`: its clips and masks, and folders that are not whole."""

import numpy as np
import pytest
from PIL import Image
from support.davis import frames_and_masks, make_davis

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.dataset_options import DavisConfig
from vcorr.data.davis_dataset import Davis17


@pytest.fixture
def folder(tmp_path):
    return make_davis(tmp_path / "DAVIS")


def test_clips_and_masks_are_read_in_order(folder):
    dataset = Davis17(DavisConfig(path=str(folder), grid=3))
    assert dataset.ids() == ("bear", "goat")
    for seed, clip_id in enumerate(dataset.ids()):
        video, masks = frames_and_masks(seed)
        clip = dataset.clip(clip_id)
        assert np.abs(clip.video.astype(int) - video).mean() < 3  # JPEG
        assert (len(clip.queries), clip.fps) == (9, 24)
        assert np.array_equal(dataset.masks(clip_id), masks)


ANNOTATION, IMAGE = "Annotations/480p/bear/00002.png", "JPEGImages/480p/bear/00002.jpg"


def _other_size(path):
    Image.open(path).resize((40, 32)).save(path)


def _alpha(path):
    Image.open(path).convert("RGBA").save(path)


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        (ANNOTATION, lambda path: path.unlink(), r"00002\.png does not exist"),
        (ANNOTATION, _other_size, "40x32 pixels, the first frame of its clip 48x32"),
        (ANNOTATION, _alpha, "alpha channel"),
        (ANNOTATION, lambda path: path.write_bytes(b"none"), r"00002\.png cannot be read"),
        (IMAGE, lambda path: path.unlink(), r"no frame 00002\.jpg"),
        (IMAGE, _other_size, "40x32 pixels, the first frame of its clip 48x32"),
        (IMAGE, lambda path: path.write_bytes(path.read_bytes()[:200]), r"00002\.jpg cannot be read"),
    ],
)
def test_a_damaged_clip_is_one_error_and_the_others_are_read(folder, file, damage, said):
    damage(folder / file)
    dataset = Davis17(DavisConfig(path=str(folder)))
    read = dataset.masks if file == ANNOTATION else dataset.clip
    with pytest.raises(UsageError, match=said):
        read("bear")
    assert read("goat").shape[0] == 4 if file == ANNOTATION else read("goat").video is not None


def test_a_folder_that_is_none_says_what_is_needed(tmp_path, folder):
    with pytest.raises(MissingError, match="no folder"):
        Davis17(DavisConfig(path=str(tmp_path / "none")))
    with pytest.raises(UsageError, match="No DAVIS folder"):
        Davis17(DavisConfig())
    with pytest.raises(MissingError, match=r"train\.txt, the list of the clips, does not exist"):
        Davis17(DavisConfig(path=str(folder), split="train"))
    with pytest.raises(UsageError, match=r"Unknown clip 'bar'\. Did you mean 'bear'"):
        Davis17(DavisConfig(path=str(folder))).masks("bar")
    (folder / "ImageSets/2017/val.txt").write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        Davis17(DavisConfig(path=str(folder)))
