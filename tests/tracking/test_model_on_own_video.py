"""A model follows points through a video of one's own as through a clip of a dataset, with its frames on disk."""

from dataclasses import replace

import numpy as np
import pytest
from support import sliding, videos

import vcorr
from vcorr.contract.errors import MissingError, StoreError, UsageError
from vcorr.data.video.frame_stream import ArrayFrames, FileFrames, WatchedFrames
from vcorr.plugins import registry
from vcorr.runner.point_tracking import plan_video_tracking
from vcorr.runner.spec import RunSpec
from vcorr.tracking import frame_store
from vcorr.tracking.frame_store import store_frames

SIDE, FRAMES = sliding.SIDE, 7


def slide(frames=FRAMES):
    """Moves distinct patches of one token to the right by one token per frame, around the border."""
    tokens = SIDE // sliding.STRIDE
    patches = np.random.default_rng(0).integers(0, 255, (tokens, tokens, 3), dtype=np.uint8)
    picture = patches.repeat(sliding.STRIDE, 0).repeat(sliding.STRIDE, 1)
    return np.stack([np.roll(picture, sliding.SHIFT * t, axis=1) for t in range(frames)])


def follow(video, points, **more):
    return vcorr.track(video, points, model="sliding-model", probe="qk", layers=0, steps=0, **more)


@pytest.fixture
def sliding_model(plugins):
    plugins()


@pytest.mark.usefixtures("sliding_model")
def test_a_model_follows_points_of_any_frame_in_pixels_of_the_original():
    found = follow(slide(), ["4,12", "36,20@3"], fps=5)
    assert found.xy[0, :, 0].tolist() == [4 + 8 * t for t in range(FRAMES)]
    assert found.xy[1, :, 0].tolist() == [36 + 8 * (t - 3) for t in range(FRAMES)]
    assert found.visible.all()
    assert (found.confidence == 1).all()
    assert (found.tracker, found.fps) == ("sliding-model qk, layer 0, step 0", 5)


@pytest.mark.usefixtures("sliding_model")
@pytest.mark.parametrize("order", ["interval", "sliding", "consecutive"])
def test_a_file_read_in_small_windows_gives_the_tracks_of_the_whole_video(order, tmp_path, monkeypatch):
    path = videos.write(tmp_path / "v.mkv", slide(11), codec="ffv1", pixels="bgr0")
    options = {"track": {"order": order, "chunk": 4}}
    points = vcorr.query_grid(4, SIDE, SIDE)
    whole = follow(slide(11), points, options=options)
    monkeypatch.setattr("vcorr.tracking.frame_store.window_length", lambda size: 3)
    read = []
    monkeypatch.setattr(
        FileFrames, "read", lambda self, a, b, old=FileFrames.read: (read.append((a, b)), old(self, a, b))[1]
    )
    found = follow(path, points, options=options)
    assert np.array_equal(found.xy, whole.xy)
    assert np.array_equal(found.confidence, whole.confidence)
    assert read == [(0, 3), (3, 6), (6, 9), (9, 11)]


def test_a_plan_names_weights_that_are_missing_and_following_is_refused(plugins, monkeypatch):
    def refuse(self, weights):
        raise MissingError("The weights are not here.", hint="Fetch them.")

    made = plugins()
    monkeypatch.setattr(sliding.SlidingModel, "weights_id", refuse, raising=False)
    spec = RunSpec(model="sliding-model", probe="qk", layers="0", steps="0")
    (gap,) = plan_video_tracking(slide(), "4,4", None, spec, made, dry=True).follower.missing
    assert (gap.kind, gap.message, gap.hint) == ("weights", "The weights are not here.", "Fetch them.")
    with pytest.raises(MissingError, match="weights are not here"):
        plan_video_tracking(slide(), "4,4", None, spec, made)


@pytest.mark.usefixtures("sliding_model")
def test_options_that_do_not_apply_are_refused():
    with pytest.raises(UsageError, match=r"track\.order does not apply: with tracker 'lk'"):
        vcorr.track(slide(), "4,4", tracker="lk", options={"track": {"order": "sliding"}})
    with pytest.raises(UsageError, match=r"--layers 9 is out of range"):
        vcorr.track(slide(), "4,4", model="sliding-model", probe="qk", layers=9)
    with pytest.raises(UsageError, match=r"No layer of model 'sliding-model' was named"):
        vcorr.track(slide(), "4,4", model="sliding-model", probe="qk")
    with pytest.raises(UsageError, match="Unknown model"):
        vcorr.track(slide(), "4,4", model="slidin-model")


def test_frames_on_disk_are_the_frames_at_the_size_of_the_model():
    video = videos.noise(9, 20, 30)
    with store_frames(ArrayFrames(video), 20, 30) as stored:
        assert isinstance(stored, np.ndarray)
        assert (stored.shape, stored.dtype) == (video.shape, np.uint8)
        assert np.array_equal(stored[[7, 0, 7]], video[[7, 0, 7]])
        assert np.array_equal(stored[2:4], video[2:4])
        taken = stored[[1]]
        taken[:] = 0  # what is taken is a copy
        assert np.array_equal(stored[1], video[1])
    with store_frames(ArrayFrames(video), 10, 15) as stored:
        assert stored.shape == (9, 10, 15, 3)


@pytest.mark.usefixtures("sliding_model")
@pytest.mark.parametrize("track", [{"chunk": 3}, {"chunk": 4, "order": "sliding"}, {"chunk": 12}])
def test_a_bar_of_progress_sees_every_frame_that_is_worked_on_once(track):
    spec = RunSpec(model="sliding-model", probe="qk", layers="0", steps="0", options={"track": track})
    plan = plan_video_tracking(slide(9), ["4,12", "36,20@3"], None, spec, registry.installed())
    done = []
    replace(plan, source=WatchedFrames(plan.source, done.append)).run()
    said = plan.follower.count_frames(plan.source, plan.queries)
    assert sum(done) == said == 9 + 2 * 8


def test_a_full_disk_is_an_error_that_says_where_to_make_room(monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_store.tempfile, "TemporaryFile", Full)
    with (
        pytest.raises(StoreError, match="No space left on device") as caught,
        store_frames(ArrayFrames(videos.noise(2, 8, 8)), 8, 8),
    ):
        pass
    assert "TMPDIR" in caught.value.hint
