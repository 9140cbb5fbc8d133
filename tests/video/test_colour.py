"""Colours: every matrix and range of every kind of pixel, compared with the equations of the standards."""

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import videos

from vcorr.contract.errors import UsageError
from vcorr.data.video import read_video
from vcorr.data.video.colour import describe_colour, to_rgb

WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Weights of red and blue in the luma of BT.709, FCC, BT.601 (two numbers) and BT.2020, by AVColorSpace."""
LIMITED, FULL, UNSPECIFIED = 1, 2, 0
PIXELS = {  # bits, columns and rows per chroma sample
    "yuv420p": (8, 2, 2),
    "yuv422p": (8, 2, 1),
    "yuv444p": (8, 1, 1),
    "yuvj420p": (8, 2, 2),
    "yuv420p10le": (10, 2, 2),
    "yuv422p10le": (10, 2, 1),
    "yuv444p12le": (12, 1, 1),
}
SIDE, PATCH = 64, 8


def equations(y, u, v, bits, matrix, full):
    """Returns RGB in 0 to 255 of Y, Cb and Cr, as in ITU-R BT.601, BT.709 and BT.2020."""
    step = 1 << (bits - 8)
    if full:
        y, u, v = y / (256 * step - 1), (u - 128 * step) / (256 * step - 1), (v - 128 * step) / (256 * step - 1)
    else:
        y, u, v = (y - 16 * step) / (219 * step), (u - 128 * step) / (224 * step), (v - 128 * step) / (224 * step)
    red, blue = WEIGHTS[matrix]
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], axis=-1) * 255, 0, 255)


def patches(pixels, seed):
    """Returns a frame of uniform patches, so that the resolution of the chroma does not matter, and their Y, Cb, Cr."""
    bits, columns, rows = PIXELS[pixels]
    step, count = 1 << (bits - 8), SIDE // PATCH
    values = np.random.default_rng(seed).integers(16 * step, 236 * step, (3, count, count))
    frame = av.VideoFrame(SIDE, SIDE, pixels)
    for plane, value, (x, y) in zip(frame.planes, values, [(1, 1), (columns, rows), (columns, rows)], strict=True):
        image = value.repeat(PATCH // y, axis=0).repeat(PATCH // x, axis=1).astype("<u2" if bits > 8 else "u1")
        padded = np.zeros((plane.height, plane.line_size), dtype=np.uint8)
        raw = image.view(np.uint8).reshape(len(image), -1)
        padded[:, : raw.shape[1]] = raw
        plane.update(padded.tobytes())
    return frame, values, bits


@given(
    pixels=st.sampled_from(sorted(PIXELS)),
    matrix=st.sampled_from(sorted(WEIGHTS)),
    span=st.sampled_from([LIMITED, FULL, UNSPECIFIED]),
    seed=st.integers(0, 1 << 16),
)
def test_colours_are_those_of_the_standards(pixels, matrix, span, seed):
    frame, values, bits = patches(pixels, seed)
    frame.colorspace, frame.color_range = matrix, span
    expected = equations(*values, bits, matrix, full=span == FULL or pixels == "yuvj420p")
    error = np.abs(to_rgb(frame, "a.mp4")[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH] - expected)
    # FFmpeg computes in integers: another matrix or range would be off by 4 to 7 in the mean
    assert error.mean() < 2
    assert error.max() < 6


@pytest.mark.parametrize("untagged", [0, 2, 3])
def test_a_frame_without_a_matrix_is_bt601(untagged):
    frame, values, bits = patches("yuv444p", 3)
    frame.colorspace = untagged
    error = np.abs(to_rgb(frame, "a.mp4")[4::8, 4::8] - equations(*values, bits, 5, full=False))
    assert error.mean() < 0.5


@pytest.mark.parametrize(
    ("number", "name"), [(8, "YCgCo"), (10, "constant luminance"), (14, "ICtCp"), (12, "number 12")]
)
def test_a_matrix_that_cannot_be_converted_is_refused(number, name):
    frame, _, _ = patches("yuv444p", 3)
    frame.colorspace = number
    with pytest.raises(UsageError, match=rf"a\.mp4 stores its colours with the matrix .*{name}"):
        to_rgb(frame, "a.mp4")


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("span", [LIMITED, FULL])
def test_tags_of_a_file_reach_the_conversion(tmp_path, matrix, span):
    frame, values, bits = patches("yuv444p", 5)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, span
        frame.colorspace, frame.color_range = matrix, span
        for index in range(3):
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    read = read_video(path)
    error = np.abs(read.frames[1][4::8, 4::8] - equations(*values, bits, matrix, full=span == FULL))
    assert error.mean() < 1
    assert read.notes == ()


@pytest.mark.parametrize("pixels", ["rgb24", "bgr0", "gbrp", "gray", "rgba"])
def test_colours_that_are_no_yuv_stay(pixels):
    image = np.repeat(videos.noise(1, 32, 32)[0][..., :1], 3, axis=-1)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
    assert np.abs(to_rgb(frame, "a").astype(int) - image).max() <= 1


@pytest.mark.parametrize(("curve", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_noted_and_its_values_stay(curve, name):
    frame = patches("yuv420p10le", 7)[0]
    frame.colorspace = 9
    before = to_rgb(frame, "a").copy()
    frame.color_trc = curve
    assert np.array_equal(to_rgb(frame, "a"), before)
    said = describe_colour(frame)
    assert f"HDR ({name})" in said[0]
    assert said[1] == "its 10 bits per colour were reduced to 8"


def test_transparency_is_noted_only_where_something_is_transparent():
    image = np.full((16, 16, 4), 255, dtype=np.uint8)
    assert describe_colour(av.VideoFrame.from_ndarray(image, format="rgba")) == ()
    image[3, 4, 3] = 0
    (said,) = describe_colour(av.VideoFrame.from_ndarray(image, format="rgba"))
    assert "partly transparent" in said


def test_interlaced_material_is_noted(tmp_path):
    path = videos.write(
        tmp_path / "a.mpg",
        videos.noise(6, 64, 64),
        fps=25,
        codec="mpeg2video",
        options={"flags": "+ildct+ilme", "top": "1"},
    )
    assert any("it is interlaced" in note for note in read_video(path).notes)
