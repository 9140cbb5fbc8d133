"""Tests the tracker on a package that stands in for tapnet: the network's inputs and its predictions."""

import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from vcorr_tapnext import sources
from vcorr_tapnext.config import TapNextConfig
from vcorr_tapnext.tracker import TapNext

import vcorr
from vcorr import MissingError, Queries, UsageError, hash_file
from vcorr.cli import main as program
from vcorr.store.rundir import RunDirectory
from vcorr.testing import assert_passed, check_tracker
from vcorr.testing.dataset_checks import random_clip

STAND_IN = Path(__file__).parent / "stand_in"
HEIGHT, WIDTH = 96, 128
JOINT = "one query does not depend on another"


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "tapnet"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    """Hides the package and the weights of this machine from every test."""
    forget()
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "vcorr-home"))
    yield
    forget()


@pytest.fixture
def stand_in(monkeypatch):
    """Makes the stand-in importable as tapnet, and returns its module."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    module = sys.modules[sources.network_type(256).__module__]
    module.asked.clear()
    return module


def weights(logit=3.0, shift=(0.0, 0.0)):
    """Returns a state dictionary of the stand-in."""
    return {"logit": torch.tensor(logit), "shift": torch.tensor(shift)}


@pytest.fixture
def make(tmp_path, stand_in):
    """Returns a function that makes the tracker; `given` is what its network predicts."""

    def make_tracker(given=None, **options):
        torch.save(weights(**(given or {})), tmp_path / "w.pt")
        return TapNext(TapNextConfig(checkpoint=str(tmp_path / "w.pt"), device="cpu", **options))

    return make_tracker


def colours(frames, step=(0, 0), height=HEIGHT, width=WIDTH):
    """Returns a video in which red grows to the right and green grows down, so that every pixel has its own colour.

    The content moves by `step` pixels per frame.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    ramps = [((x - step[0] * t) / width, (y - step[1] * t) / height) for t in range(frames)]
    sheets = [np.stack([40 + 160 * red, 40 + 160 * green, 60 + 0 * x], axis=-1) for red, green in ramps]
    return np.stack(sheets).round().astype(np.uint8)


def inner(count=5):
    """Returns points that stay in the frame."""
    return (vcorr.query_grid(count, HEIGHT, WIDTH) * 0.5 + [WIDTH / 4, HEIGHT / 4]).astype(np.float32)


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("step", [(2, 0), (-1, 1)])
def test_known_motion_is_followed_from_any_frame_in_both_directions(make, stand_in, step, size):
    queries = Queries(np.arange(9) % 7, inner(3))
    tracks = make(size=size).track(colours(7, step), queries)
    steps = np.arange(7)[None, :] - queries.t[:, None]
    expected = queries.xy[:, None] + steps[..., None] * np.float32(step)
    assert np.abs(tracks.xy - expected).max() < 1.2  # colours are whole numbers
    assert np.array_equal(tracks.xy[np.arange(9), queries.t], queries.xy)
    assert tracks.visible.all()
    # one pass from the first frame and one from the last, two from every frame between
    assert [len(asked) for asked in stand_in.asked] == [2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_queries_are_given_in_the_order_and_the_pixels_of_the_network(make, stand_in):
    make().track(colours(2), np.float32([[0, 0], [WIDTH, HEIGHT], [WIDTH / 2, HEIGHT / 4]]))
    torch.testing.assert_close(stand_in.asked[0], torch.tensor([[0.0, 0, 0], [0, 256, 256], [0, 64, 128]]))


def test_positions_come_back_in_pixels_of_the_video(make):
    video, points = colours(3), inner(3)
    straight = make().track(video, points)
    moved = make({"shift": (16.0, 8.0)}).track(video, points)  # (y, x) of 256
    assert np.allclose((moved.xy - straight.xy)[:, 1:], [8 * WIDTH / 256, 16 * HEIGHT / 256], atol=1e-4)
    assert np.array_equal(moved.xy[:, 0], points)


@pytest.mark.parametrize(("logit", "threshold", "seen"), [(0.1, 0.5, True), (-0.1, 0.5, False), (-0.1, 0.4, True)])
def test_visibility_is_a_threshold_on_the_confidence(make, logit, threshold, seen):
    tracks = make({"logit": logit}, visibility=threshold).track(colours(4), Queries(np.array([2]), inner(1)))
    others = [0, 1, 3]
    assert tracks.visible[0, 2]  # a query is visible in its own frame
    assert (tracks.visible[0, others] == seen).all()
    assert tracks.confidence[0, 2] == 1
    assert np.allclose(tracks.confidence[0, others], 1 / (1 + math.exp(-logit)))


def test_what_leaves_the_frame_is_not_visible_at_any_threshold(make):
    tracks = make({"shift": (0.0, 200.0)}).track(colours(3), np.float32([[100, 40], [10, 40]]))
    assert tracks.visible.tolist() == [[True, False, False], [True, True, True]]
    assert (tracks.confidence[0, 1:] == 0).all()
    assert (tracks.confidence[1, 1:] > 0.9).all()


def test_points_are_tracked_in_even_groups_and_frames_do_not_mix(make, stand_in):
    video, queries = colours(4, (2, 1)), Queries(np.repeat([0, 3], [5, 4]), inner(3))
    whole = make().track(video, queries)
    stand_in.asked.clear()
    parts = make(points=2).track(video, queries)
    assert [len(asked) for asked in stand_in.asked] == [2, 2, 1, 2, 2]
    assert np.array_equal(whole.xy, parts.xy)
    assert np.array_equal(whole.confidence, parts.confidence)


def test_contract(make):
    assert_passed(check_tracker(make(), clip=random_clip(4, HEIGHT, WIDTH), skip=[JOINT]))
    assert_passed(check_tracker(make(points=1), clip=random_clip(4, HEIGHT, WIDTH)))


def test_one_frame_and_no_points_need_no_network(make, stand_in):
    tracker = make()
    one = tracker.track(colours(1), inner())
    assert (one.xy.shape, one.visible.all()) == ((25, 1, 2), True)
    assert tracker.track(colours(5), np.zeros((0, 2), np.float32)).xy.shape == (0, 5, 2)
    assert stand_in.asked == []


def test_torchs_random_state_is_left_alone(make):
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    make().track(colours(2), inner())
    assert torch.equal(torch.random.get_rng_state(), before)


class TestSources:
    def tracker(self, **options):
        return TapNext(TapNextConfig(device="cpu", **options))

    def test_released_weights_are_converted_once(self, tmp_path, stand_in, monkeypatch):
        path = tmp_path / "hub" / "checkpoints" / "tapnextpp_512.ckpt"
        path.parent.mkdir(parents=True)
        torch.save({"state_dict": {f"tapnext.{name}": value for name, value in weights().items()}, "epoch": 3}, path)
        found = self.tracker(size=512).identity()
        assert found == {"checkpoint": "sha256:" + hash_file(path), "package": "unknown", "device": "cpu"}
        (converted,) = (tmp_path / "vcorr-home" / "weights" / "tapnext").iterdir()
        assert f"sha256:{converted.stem}" == found["checkpoint"]
        assert load_file(converted).keys() == {"logit", "shift"}
        with monkeypatch.context() as patch:
            patch.setattr(torch, "load", None)
            assert self.tracker(size=512).identity() == found
        converted.write_bytes(b"damaged")
        assert self.tracker(size=512).identity() == found
        assert load_file(converted).keys() == {"logit", "shift"}

    def test_weights_as_safetensors_and_in_the_folder_of_the_authors(self, tmp_path, stand_in):
        path = tmp_path / "home" / ".cache" / "tapnextpp" / "tapnextpp_ckpt.pt"
        path.parent.mkdir(parents=True)
        torch.save(weights(), path)
        save_file(weights(), tmp_path / "w.safetensors")
        for options in ({}, {"checkpoint": str(tmp_path / "w.safetensors")}):
            assert self.tracker(**options).track(colours(3), inner()).visible.all()

    def test_nothing_but_tensors_is_unpickled(self, tmp_path, stand_in):
        class Evil:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        (tmp_path / "evil.pt").write_bytes(pickle.dumps({"logit": Evil()}, protocol=2))
        torch.save({"logit": Evil()}, tmp_path / "evil.ckpt")
        for name in ("evil.pt", "evil.ckpt"):
            with pytest.raises(UsageError, match=f"{name} cannot be read as weights") as refused:
                self.tracker(checkpoint=str(tmp_path / name)).identity()
            assert "weights_only" not in str(refused.value)  # torch's message says how to read it without the check
        assert not (tmp_path / "ran").exists()
        assert not (tmp_path / "vcorr-home").exists()

    @pytest.mark.parametrize(
        ("content", "name", "message"),
        [
            (b"", "w.pt", "cannot be read as weights"),
            (b"garbage", "w.safetensors", "cannot be read as weights"),
            ([1, 2], "w.pt", "does not hold a dictionary of tensors"),
            ({"logit": torch.ones(())}, "w.pt", 'does not fit tapnext: .*Missing key.*"shift"(.|\n)*tapnextpp_ckpt.pt'),
        ],
    )
    def test_what_is_no_checkpoint_is_named(self, tmp_path, stand_in, content, name, message):
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        for act in (lambda t: t.identity(), lambda t: t.track(colours(3), inner())):
            with pytest.raises(UsageError, match=message):
                act(self.tracker(checkpoint=str(path)))

    def test_without_package_or_weights_the_commands_are_given(self, tmp_path, monkeypatch):
        with pytest.raises(MissingError, match="tapnet is not installed") as raised:
            self.tracker().identity()
        assert f'pip install --no-deps "git+https://github.com/google-deepmind/tapnet@{sources.REVISION}"' in str(
            raised.value.hint
        )
        monkeypatch.syspath_prepend(str(STAND_IN))
        with pytest.raises(MissingError, match=r"tapnextpp_512\.ckpt of TAPNext\+\+ are not in") as raised:
            self.tracker(size=512).identity()
        assert "wget" in raised.value.hint
        assert raised.value.hint.endswith(sources.WEIGHTS[512])
        with pytest.raises(MissingError, match=r"no file nowhere\.pt"):
            self.tracker(checkpoint="nowhere.pt").identity()

    def test_what_the_package_needs_is_named(self, tmp_path, monkeypatch):
        folder = tmp_path / "broken" / "tapnet" / "tapnext"
        folder.mkdir(parents=True)
        (folder / "tapnext_torch.py").write_text("import einops_that_is_not_there")
        monkeypatch.syspath_prepend(str(tmp_path / "broken"))
        torch.save(weights(), tmp_path / "w.pt")
        with pytest.raises(MissingError, match=r"einops_that_is_not_there(.|\n)*pip install einops torchvision"):
            self.tracker(checkpoint=str(tmp_path / "w.pt")).identity()


@pytest.mark.parametrize("options", [{"visibility": 1.0}, {"points": 0}, {"size": 300}])
def test_options_out_of_range(options):
    with pytest.raises(UsageError, match=f"tracker.{next(iter(options))} of tapnext"):
        TapNext(TapNextConfig(**options))


def test_what_cannot_be_tracked_is_refused(make, monkeypatch):
    with pytest.raises(UsageError, match="uint8 video"):
        make().track(colours(3).astype(np.float32), inner())
    with pytest.raises(UsageError, match="after the last of 3 frames"):
        make().track(colours(3), Queries(np.array([3]), inner(1)))
    with pytest.raises(UsageError, match="'tpv' is not a device"):
        TapNext(TapNextConfig(device="tpv")).identity()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"tracker\.device: there is no cuda:1 here"):
        TapNext(TapNextConfig(device="cuda:1")).identity()


@pytest.mark.parametrize("given", [{"logit": math.nan}, {"shift": (math.inf, 0.0)}])
def test_predictions_that_are_no_numbers_are_refused(make, given):
    with pytest.raises(UsageError, match=r"predicted NaN or infinity(.|\n)*tracker\.checkpoint"):
        make(given).track(colours(3), inner())


def test_the_plugin_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from vcorr_tapnext.plugin import vcorr_trackers\n"
        "(entry,) = vcorr_trackers()\n"
        "assert entry.config_type().__name__ == 'TapNextConfig'\n"
        "assert not {'torch', 'tapnet', 'numpy'} & sys.modules.keys(), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestCommandLine:
    RUN = ("run", "--model", "zncc-search", "--data", "sprites", "--limit", "1", "--set", "data.grid=4")

    @pytest.fixture
    def run(self, capsys, monkeypatch, tmp_path):
        """Returns a function that runs a command line and returns its exit code and what it printed."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "160")

        def run_program(*arguments):
            with pytest.raises(SystemExit) as ended:
                program.main(arguments)
            return int(ended.value.code or 0), capsys.readouterr()

        return run_program

    def test_without_the_package_a_run_ends_before_it_begins(self, run, tmp_path):
        code, printed = run(*self.RUN, "--set", "tracker=tapnext")
        assert code == 4
        assert sources.REPOSITORY in printed.err
        assert sources.WEIGHTS[256] in printed.err
        assert not (tmp_path / "runs").exists()

    def test_a_run_names_tracker_and_licence(self, run, stand_in, tmp_path):
        torch.save(weights(), tmp_path / "w.pt")
        chosen = ("--set", "tracker=tapnext", "--set", f"tracker.checkpoint={tmp_path / 'w.pt'}")
        code, printed = run(*self.RUN, *chosen)
        assert code == 0, printed.err
        assert (printed.out + printed.err).count("code and weights under Apache-2.0") == 1
        stored = RunDirectory(Path(printed.out.splitlines()[-1].removeprefix("Results: ")))
        (row,) = stored.read("tracks").to_pylist()
        assert (row["tracker"], row["licence"], row["points"]) == ("tapnext", "Apache-2.0", 16)
        assert len(row["confidence"]) == 16 * row["frames"]
        assert stored.record()["tracker"]["config"]["checkpoint"] == "sha256:" + hash_file(tmp_path / "w.pt")
        assert "tapnext" in run("list", "trackers")[1].out

    def test_it_tracks_in_the_place_of_a_model(self, run, stand_in, tmp_path):
        torch.save(weights(), tmp_path / "w.pt")
        chosen = ("--set", f"tracker.checkpoint={tmp_path / 'w.pt'}", "--set", "data.grid=2")
        code, printed = run("track", "--tracker", "tapnext", "--data", "sprites", "--limit", "1", *chosen)
        assert code == 0, printed.err
        stored = vcorr.load(tmp_path / "runs")
        assert stored.record["row_context"]["weights"].startswith("files:")  # of the hash of the checkpoint
        own = [row for row in stored.predictions().to_pylist() if row["frame"] == row["query_frame"]]
        assert [(row["visible"], row["confidence"]) for row in own] == [(True, 1.0)] * 4
        assert len(stand_in.asked) == 1
