"""Image files: the formats that are meant, upright, and never larger than is reasonable."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import videos
from support.scale import draw_cases

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.dataset_folder import file_hash
from vcorr.data.image_reader import FORMATS, read_image

PICTURE = videos.noise(1, 24, 40)[0]
UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[::-1],
}
"""What each EXIF orientation does to the stored picture."""


def png(width, height):
    """Returns a PNG that declares a size and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def saved(form, **options):
    content = io.BytesIO()
    Image.fromarray(PICTURE).save(content, form, **options)
    return content.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_that_is_meant_is_read(tmp_path, form):
    path = tmp_path / "a.png"  # the content counts, not the suffix
    path.write_bytes(saved(form, **({"lossless": True} if form == "WEBP" else {})))
    found = read_image(path)
    assert (found.shape, found.dtype) == (PICTURE.shape, np.uint8)
    assert np.abs(found.astype(int) - PICTURE).mean() < (60 if form == "JPEG" else 1)


@pytest.mark.parametrize("form", ["EPS", "GIF", "PPM", "PDF", "ICO"])
def test_other_formats_are_refused(tmp_path, form):
    (tmp_path / "a.png").write_bytes(saved(form))
    with pytest.raises(UsageError, match="it is none of these: PNG, JPEG, WEBP, BMP, TIFF"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", sorted(UPRIGHT))
def test_images_are_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.png").write_bytes(saved("PNG", exif=exif))
    assert np.array_equal(read_image(tmp_path / "a.png"), UPRIGHT[orientation](PICTURE))


@pytest.mark.parametrize(("width", "height"), [(60000, 60000), (8193, 8192), (12000, 12000), (2**31 - 1, 1)])
def test_a_declared_size_is_refused_before_memory_is_taken(tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(png(width, height))
    with pytest.raises(UsageError, match=rf"a\.png declares ({width}x{height}|far too many) pixels"):
        read_image(tmp_path / "a.png")


def test_16_bits_are_reduced_and_not_cut_off(tmp_path):
    grey = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 1], grey >> 8)
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UsageError, match="32 bits per pixel"):
        read_image(tmp_path / "a.tiff")


def test_several_pictures_are_refused(tmp_path):
    frames = [Image.fromarray(frame) for frame in videos.noise(3, 8, 8)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(UsageError, match="holds 3 pictures, and one is needed"):
        read_image(tmp_path / "a.webp")


def test_a_pipe_or_a_folder_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(UsageError, match=f"{name} cannot be read as an image: it is no ordinary file"):
            read_image(tmp_path / name)
    with pytest.raises(MissingError, match="it is a pipe or a device"):
        file_hash(tmp_path / "pipe.png")


def test_nothing_there(tmp_path):
    with pytest.raises(MissingError, match="does not exist"):
        read_image(tmp_path / "a.png")


@draw_cases(60)
@given(
    form=st.sampled_from(FORMATS),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=20)), max_size=4),
    share=st.floats(0, 1),
)
def test_a_damaged_image_is_read_or_refused_with_one_message(tmp_path_factory, form, damage, share):
    content = bytearray(saved(form))
    for place, written in damage:
        at = int(place * len(content))
        content[at : at + len(written)] = written
    path = tmp_path_factory.getbasetemp() / "drawn.png"
    path.write_bytes(bytes(content[: int(share * len(content))]))
    said = ""
    try:
        assert read_image(path).ndim == 3
    except UsageError as error:
        said = error.message
    assert not said or ("drawn.png" in said and "\n" not in said)
