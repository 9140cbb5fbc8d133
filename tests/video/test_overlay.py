"""Tracks drawn over a video: where, in which colours, on which frames, and with which legend."""

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import videos
from support.scale import draw_cases

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Tracks
from vcorr.data.video import Drawing, ErrorScale, draw_overlay, drawing_canvas, read_video, write_overlay
from vcorr.data.video import track_drawing as overlay

SIZES = [(64, 96), (33, 47), (720, 1300), (1000, 555), (960, 60)]


def still(points, frames, visible=True):
    xy = np.repeat(np.array(points, dtype=np.float32)[:, None], frames, axis=1)
    return Tracks(xy, np.full(xy.shape[:2], visible), "test")


def first(video, **drawing):
    return next(iter(draw_overlay(video, Drawing(**drawing))))


def centre_of(picture, colour):
    """Returns the mean position (x, y) of the pixels of a colour; NaN if there are none."""
    y, x = np.nonzero(np.abs(picture.astype(int) - colour).sum(-1) < 30)
    return np.array([x.mean() + 0.5, y.mean() + 0.5]) if len(x) else np.full(2, np.nan)


def test_tails_fade_with_age():
    video = np.full((9, 320, 320, 3), 100, dtype=np.uint8)
    xy = np.array([[[20 + 30 * t, 100] for t in range(9)]], dtype=np.float32)
    *_, last = draw_overlay(video, Drawing(predicted=Tracks(xy, np.ones((1, 9), bool), "test")))
    scale = last.shape[1] / 320
    middles = [last[round(100 * scale), round((20 + 30 * t + 15) * scale)].astype(int) for t in range(8)]
    away = [int(np.abs(pixel - 100).sum()) for pixel in middles]
    assert away[:2] == [0, 0], "a tail has six frames"
    assert sorted(set(away[2:])) == away[2:], "the newest is the strongest"
    np.testing.assert_allclose(middles[-1], overlay.PREDICTED, atol=60)


@pytest.fixture
def texts(monkeypatch):
    """Returns the set of texts that are drawn."""
    found = set()
    put = cv2.putText
    monkeypatch.setattr(drawing_canvas.cv2, "putText", lambda image, text, *a: (found.add(text), put(image, text, *a)))
    return found


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_mp4_is_even_readable_and_playable(tmp_path, height, width):
    video = np.zeros((3, height, width, 3), dtype=np.uint8)
    tracks = still([[width / 2, height / 2]], 3)
    write_overlay(tmp_path / "o.mp4", video, Drawing(predicted=tracks, reference=tracks), fps=10)
    with av.open(str(tmp_path / "o.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == stream.height % 2 == 0
    read = read_video(tmp_path / "o.mp4")
    assert len(read.frames) == 3
    assert read.fps == 10
    assert max(read.frames.shape[1:3]) >= overlay.READABLE_SIDE


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_picture_is_the_frame_itself_and_the_legend_is_below_it(height, width):
    video = videos.noise(2, height, width)
    times = overlay.enlargement(height, width)
    for t, frame in enumerate(draw_overlay(video, Drawing())):
        assert np.array_equal(frame[: height * times : times, : width * times : times], video[t])
        assert frame.shape[0] > height * times + 20
        below = frame[height * times :]
        assert (below == drawing_canvas.PAPER).all(-1).mean() > 0.5  # the legend, and no part of the picture


@draw_cases(20)
@given(
    height=st.integers(40, 700),
    width=st.integers(40, 700),
    size=st.tuples(st.integers(32, 800), st.integers(32, 800)),
    share=st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8)),
)
def test_positions_of_a_resized_video_are_drawn_at_their_place_in_the_original(height, width, size, share):
    """Draws a video that a model read at `size`, in whose pixels positions count."""
    video = np.zeros((1, height, width, 3), dtype=np.uint8)
    point = np.array(share) * size
    frame = first(video, queries=np.zeros((1, 2), np.float32) - 99, predicted=point[None, None], size=size)
    times = overlay.enlargement(height, width)
    found = centre_of(frame[: height * times, : width * times], overlay.PREDICTED)
    assert found == pytest.approx(np.array(share) * (width, height) * times, abs=0.6)


def test_the_centre_of_a_pixel_is_the_centre_of_its_enlarged_pixels():
    frame = first(np.zeros((2, 100, 160, 3), np.uint8), predicted=still([[40.5, 25.5]], 2))
    # 160 pixels are drawn as 640: the centre of pixel (40, 25) is at (162, 102)
    assert centre_of(frame[:400], overlay.PREDICTED) == pytest.approx([162, 102], abs=0.3)


@pytest.mark.parametrize("strides", [0.0, 0.5, 1.0, 1.7, 2.0, 30.0])
def test_a_prediction_has_the_colour_of_its_error(strides):
    scale = ErrorScale.in_strides((8, 4))
    reference = still([[60, 50]], 1)
    expected = scale.colours(np.array([strides]))[0].astype(int)
    for offset in ([8 * strides, 0], [0, 4 * strides]):
        predicted = reference.xy + np.array(offset, np.float32)
        frame = first(np.zeros((1, 200, 400, 3), np.uint8), predicted=predicted, reference=reference, scale=scale)
        x, y = (predicted[0, 0] * 2).round().astype(int)
        assert np.abs(frame[y, x].astype(int) - expected).max() <= 1


def test_the_scale_goes_from_dark_to_bright_and_its_ends_hold():
    scale = ErrorScale.in_strides((8, 8))
    colours = scale.colours(np.linspace(0, scale.most, 50)).astype(float)
    brightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 0).all()  # so it is read by people with any colour vision, and in grey
    beyond = scale.colours(np.array([-0.0, 1e9, np.nan])).astype(float)
    assert beyond.tolist() == [colours[0].tolist(), colours[-1].tolist(), [*map(float, (160, 160, 160))]]
    assert [text for _, text in scale.ticks()] == ["0", "0.5", "1", "1.5", "2+"]


def test_a_prediction_of_a_hidden_point_has_no_error():
    hidden = still([[60, 50]], 1, visible=False)
    frame = first(np.zeros((1, 200, 400, 3), np.uint8), predicted=still([[90, 50]], 1), reference=hidden)
    assert frame[100, 180].tolist() == [160, 160, 160]
    assert not frame[100, 150].any()  # and no line leads to its reference


@pytest.mark.parametrize("visible", [True, False])
def test_the_reference_is_a_ring_and_a_cross_where_it_is_hidden(visible):
    far = np.zeros((1, 2), dtype=np.float32) - 99
    frame = first(np.zeros((1, 320, 640, 3), np.uint8), queries=far, reference=still([[320.5, 160.5]], 1, visible))
    inside, rim = frame[160, 320].max(), frame[160, 326].max()
    assert (inside, rim > 200) == ((0, True) if visible else (255, False))


def test_predicted_and_hidden_is_hollow():
    tracks = still([[320.5, 160.5]], 1, visible=False)
    frame = first(np.zeros((1, 320, 640, 3), np.uint8), queries=np.zeros((1, 2), np.float32) - 99, predicted=tracks)
    assert not frame[160, 320].any()


def test_the_legend_names_everything(texts):
    seen = Tracks(np.full((30 * 30, 4, 2), 9, np.float32), np.ones((900, 4), bool), "cotracker3")
    part = Tracks(seen.xy, np.arange(3600).reshape(900, 4) % 2 == 0, "p")
    title = ("model tiny", "probe qk", "layer 8", "step 30 (noise level 0.55)")
    drawing = Drawing(predicted=part, reference=seen, size=(96, 96), scale=ErrorScale.in_strides((8, 8)), title=title)
    frames = list(draw_overlay(np.zeros((4, 96, 96, 3), np.uint8), drawing))
    assert {f"frame {t} of 0-3" for t in range(4)} <= texts
    assert {*title, "100 of 900 points", "query", "reference (tracks: cotracker3)", "reference, hidden"} <= texts
    assert {"prediction, coloured by its error", "line from it to its reference", "predicted to be hidden"} <= texts
    assert {"prediction while the reference is hidden", f"tails: the last {overlay.TAIL} frames"} <= texts
    assert "error in token strides (1 stride = 8 px of the video as the model read it)" in texts
    assert {"0", "0.5", "1", "1.5", "2+"} <= texts
    legend = frames[0][96 * 7 :]
    ends = drawing.scale.colours(np.array([0.0, 2.0]))
    assert all((legend == end).all(-1).any() for end in ends)
    assert [np.array_equal(frame[96 * 7 :], legend) for frame in frames] == [True, False, False, False]


def test_the_unit_is_pixels_where_no_stride_is_given(texts):
    tracks = still([[5, 5]], 1)
    first(np.zeros((1, 240, 320, 3), np.uint8), predicted=tracks, reference=tracks)
    assert "error in pixels of a 320x240 video" in texts
    assert {"0", "4", "8", "12", "16+"} <= texts


@draw_cases(15)
@given(
    width=st.integers(2, 900),
    words=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=1000), min_size=1, max_size=150), max_size=4),
)
def test_no_text_leaves_the_legend(width, words):
    """Checks that long titles go to further lines, whole, and that every text is inside the image."""
    drawn = []
    put = cv2.putText

    def keep(image, text, at, font, size, ink, thick, kind):
        box, _ = cv2.getTextSize(text, font, size, thick)
        drawn.append((text, at[0], at[0] + box[0] - image.shape[1], at[1] - box[1], at[1] - image.shape[0]))
        return put(image, text, at, font, size, ink, thick, kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing_canvas.cv2, "putText", keep)
        first(np.zeros((1, 300, width, 3), np.uint8), title=words)
    assert all(left >= 0 and right <= 0 and top >= 0 and bottom < 0 for _, left, right, top, bottom in drawn)
    letters = "".join(text for text, *_ in drawn).replace(" ", "")
    for word in words:
        assert word.encode("ascii", "replace").decode().replace(" ", "") in letters


def test_nan_and_far_positions_are_left_out():
    video = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    xy = np.array([[[5, 5], [np.nan, np.nan]], [[5, 5], [1e9, -1e9]]], dtype=np.float32)
    assert len(list(draw_overlay(video, Drawing(predicted=xy, reference=still([[5, 5], [6, 6]], 2))))) == 2


def test_the_video_is_left_alone():
    video = videos.noise(2, 640, 640)
    before = video.copy()
    list(draw_overlay(video, Drawing(predicted=still([[9, 9]], 2))))
    assert np.array_equal(video, before)


def test_of_many_points_a_coarser_grid_is_drawn():
    chosen = overlay.choose_points(400, 100)
    assert len(chosen) == 100
    assert {c % 20 for c in chosen.tolist()} == set(range(1, 20, 2))
    assert overlay.choose_points(7, 100).tolist() == list(range(7))
    assert len(overlay.choose_points(401, 100)) == 100


def test_arrays_that_do_not_fit_are_refused():
    video = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    with pytest.raises(UsageError, match=r"predicted tracks must have shape \(N, 3, 2\)"):
        draw_overlay(video, Drawing(predicted=still([[1, 1]], 4)))
    with pytest.raises(UsageError, match="one number of points"):
        draw_overlay(video, Drawing(predicted=still([[1, 1]], 3), reference=still([[1, 1], [2, 2]], 3)))
