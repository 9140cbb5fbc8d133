"""`--save-videos`: the overlays of a run are on the user's own frames, at their own size, and say what they show."""

import cv2
import numpy as np
import pytest
from support import sliding, videos

import vcorr as public
from vcorr.data.video import drawing_canvas, read_video
from vcorr.data.video.error_colours import ErrorScale
from vcorr.data.video.track_drawing import choose_points

HEIGHT, WIDTH, FRAMES = 360, 700, 8
MODEL_SIDE = 64
"""The model of `draw` reads every video at 64x64 pixels."""


def pan(frames, height, width):
    """Returns a smooth picture that moves to the right by one pixel per frame."""
    picture = cv2.GaussianBlur(videos.noise(1, height, width + frames)[0], (0, 0), 9)
    picture = cv2.normalize(picture, None, 0, 200, cv2.NORM_MINMAX)
    return np.stack([picture[:, frames - t : frames - t + width] for t in range(frames)])


@pytest.fixture
def texts(monkeypatch):
    found = set()
    put = cv2.putText
    monkeypatch.setattr(drawing_canvas.cv2, "putText", lambda image, text, *a: (found.add(text), put(image, text, *a)))
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch):
    def grid(self, clip, site):
        side = MODEL_SIDE // sliding.STRIDE
        return public.TokenGrid(frames=len(clip.video), rows=side, cols=side, stride=(sliding.STRIDE,) * 2)

    monkeypatch.setattr(sliding.SlidingModel, "grid", grid)


def draw(vcorr, path, *more):
    model = ("--model", "sliding-model", "--probe", "qk", "--steps", "9", "--layers", "0")
    ended = vcorr("run", *model, "--data", f"video:{path}", "--save-videos", *more)
    assert ended.code == 0, ended.err
    return next(path.parent.glob("runs/*/videos/*.mp4"))


@pytest.mark.parametrize("turned", [False, True])
def test_the_picture_is_the_upright_frame_of_the_file(vcorr, tmp_path, turned):
    path = videos.write(tmp_path / "clip.mp4", pan(FRAMES, HEIGHT, WIDTH), options={"crf": "10"})
    if turned:
        videos.turn(path, 90)
    own = read_video(path).frames
    shown = read_video(draw(vcorr, path)).frames[: len(own)]
    height, width = own.shape[1:3]
    assert (shown.shape[2], shown.shape[1] > height) == (width, True)
    apart = np.abs(shown[:, :height].astype(int) - own[: len(shown)]).mean(-1)
    # all but the markers is the picture itself, but for the compression
    assert np.median(apart) < 4
    assert np.median(np.abs(shown[0, :height].astype(int) - own[-1])) > 8  # other frames differ
    # the first frame has a disc without error at every query, in the pixels of the original
    none = ErrorScale.in_strides((8, 8)).colours(np.zeros(1))[0].astype(int)
    points = public.query_grid(20, height, width)[choose_points(400, 100)]
    found = shown[0, points[:, 1].astype(int), points[:, 0].astype(int)]
    assert np.median(np.abs(found - none)) < 30


def test_the_frames_are_the_ones_that_were_chosen(vcorr, tmp_path):
    path = videos.write(tmp_path / "clip.mp4", pan(60, HEIGHT, WIDTH), fps=30, options={"crf": "10"})
    options = {"fps": 10, "start": 0.5, "frames": 8}
    shown = read_video(draw(vcorr, path, *(w for k, v in options.items() for w in ("--set", f"data.{k}={v}"))))
    own = read_video(path, **options)
    assert (shown.fps, len(shown.frames)) == (10, 8)
    assert np.median(np.abs(shown.frames[:, :HEIGHT].astype(int) - own.frames)) < 4


def test_the_legend_says_what_is_shown(vcorr, tmp_path, texts):
    draw(vcorr, videos.write(tmp_path / "clip.mp4", pan(FRAMES, HEIGHT, WIDTH)))
    assert {"model sliding-model", "probe qk", "layer 0", "mean over heads", "reference (tracks: dis)"} <= texts
    assert any(text.startswith("step 9 (noise level 0.") for text in texts)
    assert {"frame 0 of 0-7", "frame 7 of 0-7", "100 of 400 points"} <= texts
    assert "error in token strides (1 stride = 8 px of the video as the model read it)" in texts
