"""Masks in files: what is read, what is refused, and that writing gives the same again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.mask_files import MOST_LABELS, Mask, read_mask, usual_palette, write_mask

LABELS = np.array([[0, 1, 2], [0, 7, 255]], np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return path


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(1, 9), width=st.integers(1, 9))
def test_what_is_written_is_read_again(tmp_path_factory, seed, height, width):
    random = np.random.default_rng(seed)
    mask = Mask(
        random.integers(0, MOST_LABELS, (height, width), dtype=np.uint8),
        random.integers(0, 256, (256, 3), dtype=np.uint8),
    )
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    write_mask(path, mask)
    found = read_mask(path, (height, width))
    assert np.array_equal(found.labels, mask.labels)
    assert np.array_equal(found.palette, mask.palette)


def test_the_usual_palette_is_the_one_of_davis():
    palette = usual_palette()
    assert palette[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert len(np.unique(palette, axis=0)) == 256


@pytest.mark.parametrize(
    "image",
    [Image.fromarray(LABELS), Image.fromarray(np.repeat(LABELS[..., None], 3, axis=2))],
    ids=["grey", "colour with equal channels"],
)
def test_grey_values_are_labels(tmp_path, image):
    found = read_mask(save(tmp_path / "mask.png", image))
    assert np.array_equal(found.labels, LABELS)
    assert np.array_equal(found.palette, usual_palette())


def test_a_black_and_white_file_has_one_label(tmp_path):
    path = save(tmp_path / "mask.png", Image.fromarray(LABELS > 0))
    assert np.array_equal(read_mask(path).labels, (LABELS > 0).astype(np.uint8))


SMALL = np.zeros((4, 5), np.uint8)
REFUSED = {
    "alpha": (Image.fromarray(np.zeros((4, 5, 4), np.uint8)), "alpha channel"),
    "grey with alpha": (Image.fromarray(np.zeros((4, 5, 2), np.uint8), "LA"), "alpha channel"),
    "16 bits": (Image.fromarray(np.full((4, 5), 3, np.uint16)), "16 or more bits"),
    "colour": (Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)), "picture in colour"),
    "a picture": (Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)), "100 different values"),
}


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("kind", REFUSED)
def test_other_pictures_are_refused(tmp_path, kind):
    image, said = REFUSED[kind]
    with pytest.raises(UsageError, match=said) as error:
        read_mask(save(tmp_path / "mask.png", image))
    assert "mask.png" in error.value.message
    assert error.value.hint


def test_damaged_missing_and_foreign_files_are_one_error(tmp_path):
    whole = save(tmp_path / "whole.png", Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8)))
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:-900])
    with pytest.raises(UsageError, match=r"cut\.png cannot be read"):
        read_mask(cut)
    with pytest.raises(MissingError, match=r"none\.png does not exist"):
        read_mask(tmp_path / "none.png")
    jpeg = save(tmp_path / "mask.jpg", Image.fromarray(SMALL))
    with pytest.raises(UsageError, match="it is no PNG"):
        read_mask(jpeg)


def test_a_mask_of_another_size_names_both_sizes(tmp_path):
    path = save(tmp_path / "mask.png", Image.fromarray(SMALL))
    with pytest.raises(UsageError, match=r"has 5x4 pixels, its video 6x4"):
        read_mask(path, (4, 6))
