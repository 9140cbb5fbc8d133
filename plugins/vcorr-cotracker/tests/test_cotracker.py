"""Tests the trackers on a package that stands in for cotracker: the network's inputs and its predictions."""

import math
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from vcorr_cotracker import sources
from vcorr_cotracker.config import OfflineConfig, OnlineConfig
from vcorr_cotracker.plugin import vcorr_trackers
from vcorr_cotracker.tracker import Offline, Online

from vcorr import MissingError, Queries, UsageError, hash_file
from vcorr.cli import main as program
from vcorr.data import query_grid
from vcorr.store.rundir import RunDirectory
from vcorr.testing import assert_passed, check_tracker
from vcorr.testing.dataset_checks import random_clip

STAND_IN = Path(__file__).parent / "stand_in"
HEIGHT, WIDTH = 96, 128
KINDS = {"offline": (Offline, OfflineConfig, 60), "online": (Online, OnlineConfig, 16)}
JOINT = "one query does not depend on another"


def _forget(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "cotracker"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    """Hides the package and the weights of this machine from every test."""
    _forget(monkeypatch)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "cotracker"]:
        del sys.modules[name]


@pytest.fixture
def stand_in(monkeypatch):
    """Makes the stand-in importable as cotracker.predictor, and returns the module."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    module = sources.predictor_module("weights")
    module.asked.clear()
    return module


def weights(window_len, visible=0.95, confidence=0.9):
    """Returns a state dictionary of the stand-in."""
    return {"sure": torch.tensor([visible, confidence]), "time_emb": torch.zeros(window_len)}


@pytest.fixture
def checkpoint(tmp_path):
    """Returns a function that writes a checkpoint in the authors' format."""

    def write(window_len=60, name="scaled.pth", **sure):
        torch.save(weights(window_len, **sure), tmp_path / name)
        return str(tmp_path / name)

    return write


def colours(height, width, frames, step=(0, 0)):
    """Returns a video in which red grows to the right and green grows down, so that every pixel has its own colour.

    The content moves by `step` pixels per frame.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    sheets = []
    for t in range(frames):
        red, green = (x - step[0] * t) / width, (y - step[1] * t) / height
        sheets.append(np.stack([40 + 160 * red, 40 + 160 * green, 60 + 0 * x], axis=-1))
    return np.stack(sheets).round().astype(np.uint8)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def vcorr(capsys, monkeypatch, tmp_path):
    """Returns a function that runs a command line and returns its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            program.main(arguments)
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(params=list(KINDS))
def make(request, checkpoint, stand_in):
    """Returns a function that makes the tracker; `sure` is its network's visibility and confidence."""
    tracker, config, window = KINDS[request.param]

    def make_tracker(sure=None, **options):
        path = checkpoint(options.get("window_len", window), **(sure or {}))
        return tracker(config(checkpoint=path, device="cpu", **options))

    return make_tracker


def inner(count=5):
    """Returns points that stay in the frame."""
    return (query_grid(count, HEIGHT, WIDTH) * 0.5 + [WIDTH / 4, HEIGHT / 4]).astype(np.float32)


@pytest.mark.parametrize("step", [(0, 0), (2, 0), (0, -2), (-1, 1)])
@pytest.mark.parametrize("frames", [2, 7, 9, 16])
def test_known_motion_is_followed(make, step, frames):
    queries = inner()
    tracks = make().track(colours(HEIGHT, WIDTH, frames, step), queries)
    expected = queries[:, None] + np.arange(frames)[None, :, None] * np.float32(step)
    assert np.array_equal(tracks.xy[:, 0], queries)
    inside = ((expected > 3) & (expected < [WIDTH - 3, HEIGHT - 3])).all(-1)
    # the stand-in predicts whole pixels of 512x384, and colours are whole numbers: a pixel of the video is 4 by 4
    assert np.abs(tracks.xy - expected)[inside].max() < 0.8
    assert tracks.visible[inside].all()


@pytest.mark.parametrize("frames", [17, 24, 25, 40])
def test_windows_cover_long_videos(make, frames):
    video = colours(HEIGHT, WIDTH, frames, (1, 0))
    queries = inner()[:10] - [16, 0]
    tracks = make().track(video, queries)
    expected = queries[:, None] + np.arange(frames)[None, :, None] * np.float32([1, 0])
    assert tracks.xy.shape == (10, frames, 2)
    assert np.abs(tracks.xy - expected).max() < 0.8


@pytest.mark.parametrize("frames", [6, 17, 40])
def test_queries_of_any_frame_are_followed_both_ways(make, stand_in, frames):
    points = inner()[:9] - [12, 0]
    queries = Queries(np.arange(9) * (frames - 1) // 8, points)
    tracks = make().track(colours(HEIGHT, WIDTH, frames, (1, 0)), queries)
    steps = np.arange(frames)[None, :] - queries.t[:, None]
    expected = points[:, None] + steps[..., None] * np.float32([1, 0])
    inside = ((expected > 3) & (expected < [WIDTH - 3, HEIGHT - 3])).all(-1)
    assert inside[:, 0].sum() > 3
    assert np.abs(tracks.xy - expected)[inside].max() < 0.8
    assert np.array_equal(tracks.xy[np.arange(9), queries.t], points)
    assert tracks.visible[inside].all()
    assert stand_in.asked[0][:, 0].tolist() == queries.t.tolist()  # (t, x, y), as the network takes them
    # the second pass gets only the queries with earlier frames
    assert stand_in.asked[-1][:, 0].tolist() == (frames - 1 - queries.t[queries.t > 0]).tolist()


def test_queries_of_the_first_frame_need_no_way_back(make, stand_in):
    make().track(colours(HEIGHT, WIDTH, 4), inner())
    assert len(stand_in.asked) == 1


def test_coordinates_are_converted_from_corners_to_centres(make, stand_in):
    corners = np.float32([[0.5, 0.5], [WIDTH - 0.5, HEIGHT - 0.5], [WIDTH / 2, HEIGHT / 2], [0.5, HEIGHT - 0.5]])
    make().track(colours(HEIGHT, WIDTH, 3), corners)
    expected = [[0, 0, 0], [0, 511, 383], [0, 255.5, 191.5], [0, 0, 383]]
    torch.testing.assert_close(stand_in.asked[0], torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=0)


def test_predictions_are_converted_back(make, monkeypatch):
    tracker = make()
    predicted = torch.tensor([[0.0, 0], [511, 383], [255.5, 191.5]])
    monkeypatch.setattr(type(tracker._network().module), "look", lambda *_: predicted.expand(1, 4, -1, -1))
    tracks = tracker.track(colours(HEIGHT, WIDTH, 4), np.full((3, 2), 9, dtype=np.float32))
    expected = [[0.5, 0.5], [WIDTH - 0.5, HEIGHT - 0.5], [WIDTH / 2, HEIGHT / 2]]
    assert np.allclose(tracks.xy[:, 1:], np.array(expected)[:, None], atol=1e-4)
    assert (tracks.xy[:, 0] == 9).all()


@pytest.mark.parametrize("side", [0, 1, 6])
def test_points_beside_the_queries_are_those_that_were_asked_for(make, stand_in, side):
    queries = inner()
    tracks = make(support_grid=side).track(colours(HEIGHT, WIDTH, 3), queries)
    assert tracks.xy.shape == (25, 3, 2)
    assert [len(asked) for asked in stand_in.asked] == [25 + side**2]
    if side == 6:
        assert stand_in.asked[0][25:, 1].min() == pytest.approx((2 - 0.5) / 127 * 511, abs=1e-3)  # a 64th of the width


def test_many_points_are_tracked_in_even_groups_with_the_same_tracks(make, stand_in):
    video, queries = colours(HEIGHT, WIDTH, 4, (2, 1)), inner()
    whole = make().track(video, queries)
    stand_in.asked.clear()
    parts = make(points=10, support_grid=2).track(video, queries)
    assert [len(asked) for asked in stand_in.asked] == [13, 12, 12]
    assert np.array_equal(whole.xy, parts.xy)
    assert np.array_equal(whole.visible, parts.visible)


@pytest.mark.parametrize(
    ("kind", "visible", "confidence", "threshold", "seen"),
    [
        ("offline", 0.91, 0.1, None, True),  # the offline network's confidence does not count
        ("offline", 0.89, 1.0, None, False),
        ("offline", 0.89, 1.0, 0.8, True),
        ("online", 0.8, 0.8, None, True),
        ("online", 0.8, 0.7, None, False),
        ("online", 0.8, 0.7, 0.5, True),
    ],
)
def test_visibility_is_a_threshold_of_its_own(kind, visible, confidence, threshold, seen, checkpoint, stand_in):
    tracker, config, window = KINDS[kind]
    options = {} if threshold is None else {"visibility": threshold}
    path = checkpoint(window, visible=visible, confidence=confidence)
    tracks = tracker(config(checkpoint=path, device="cpu", **options)).track(colours(HEIGHT, WIDTH, 3), inner())
    assert tracks.visible[:, 0].all()  # a query is visible in its own frame
    assert (tracks.visible[:, 1:] == seen).all()


def test_what_leaves_the_frame_is_not_visible(make, monkeypatch):
    tracker = make()
    away = torch.tensor([[600.0, 100], [100, -3], [100, 100]])
    monkeypatch.setattr(type(tracker._network().module), "look", lambda *_: away.expand(1, 3, -1, -1))
    tracks = tracker.track(colours(HEIGHT, WIDTH, 3), np.float32([[5, 5], [200, 5], [6, 6]]))
    assert tracks.visible.tolist() == [[True, False, False], [False, False, False], [True, True, True]]


def test_contract(make):
    assert_passed(check_tracker(make(), clip=random_clip(4, HEIGHT, WIDTH), skip=[JOINT]))


def test_one_frame_and_no_points_need_no_network(make, stand_in):
    tracker = make()
    one = tracker.track(colours(HEIGHT, WIDTH, 1), inner())
    assert (one.xy.shape, one.visible.all()) == ((25, 1, 2), True)
    none = tracker.track(colours(HEIGHT, WIDTH, 5), np.zeros((0, 2), np.float32))
    assert none.xy.shape == (0, 5, 2)
    assert stand_in.asked == []


def test_torchs_random_state_is_left_alone(make):
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    for name in [name for name in sys.modules if name.partition(".")[0] == "cotracker"]:
        del sys.modules[name]
    make().track(colours(HEIGHT, WIDTH, 3), inner())
    assert torch.equal(torch.random.get_rng_state(), before)


class TestSources:
    def tracker(self, **options):
        return Offline(OfflineConfig(device="cpu", **options))

    def test_weights_as_safetensors_and_inside_a_training_checkpoint(self, tmp_path, stand_in):
        save_file(weights(60), tmp_path / "w.safetensors")
        torch.save({"model": weights(60), "total_steps": 7}, tmp_path / "w.pth")
        for name in ("w.safetensors", "w.pth"):
            tracks = self.tracker(checkpoint=str(tmp_path / name)).track(colours(HEIGHT, WIDTH, 3), inner())
            assert tracks.visible.all()

    def test_nothing_but_tensors_is_unpickled(self, tmp_path, stand_in):
        class Evil:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        (tmp_path / "evil.pth").write_bytes(pickle.dumps({"sure": Evil()}, protocol=2))
        torch.save({"sure": Evil()}, tmp_path / "evil-too.pth")
        (tmp_path / "evil-new.pth").write_bytes(pickle.dumps({"sure": Evil()}, protocol=5))
        for name in ("evil.pth", "evil-too.pth", "evil-new.pth"):
            with pytest.raises(UsageError, match=f"{name} cannot be read as weights") as refused:
                self.tracker(checkpoint=str(tmp_path / name)).track(colours(HEIGHT, WIDTH, 3), inner())
            assert "weights_only" not in str(refused.value)  # torch's message says how to read it without the check
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("content", "name", "message"),
        [
            (b"", "w.pth", "cannot be read as weights"),
            (b"garbage", "w.safetensors", "cannot be read as weights"),
            ([1, 2], "w.pth", "does not hold a dictionary of tensors"),
            (
                {"sure": torch.ones(2)},
                "w.pth",
                'does not fit cotracker3-offline: .*Missing key.*"time_emb"(.|\n)*window',
            ),
            (weights(16), "w.pth", "does not fit cotracker3-offline: .*size mismatch for time_emb"),
        ],
    )
    def test_what_is_no_checkpoint_is_named(self, tmp_path, stand_in, content, name, message):
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        for act in (lambda t: t.identity(), lambda t: t.track(colours(HEIGHT, WIDTH, 3), inner())):
            with pytest.raises(UsageError, match=message):
                act(self.tracker(checkpoint=str(path)))

    def test_without_the_package_the_commands_are_told(self, checkpoint):
        for act in (lambda t: t.identity(), lambda t: t.track(colours(HEIGHT, WIDTH, 3), inner())):
            with pytest.raises(
                MissingError, match=r"cotracker is not installed(.|\n)*pip install git\+https"
            ) as raised:
                act(self.tracker(checkpoint=checkpoint()))
            assert "hf download facebook/cotracker3 scaled_offline.pth" in raised.value.hint
        with pytest.raises(MissingError, match=r"hf download facebook/cotracker3 scaled_online\.pth"):
            Online(OnlineConfig(checkpoint=checkpoint(16))).identity()

    def test_without_weights_the_commands_are_told(self, stand_in):
        with pytest.raises(MissingError, match=r"scaled_offline.pth are neither(.|\n)*hf download facebook/cotracker3"):
            self.tracker().identity()
        with pytest.raises(MissingError, match=r"no file nowhere.pth"):
            self.tracker(checkpoint="nowhere.pth").identity()

    def test_what_torch_hub_has_downloaded_is_found(self, tmp_path):
        shutil.copytree(STAND_IN / "cotracker", tmp_path / "hub" / sources.HUB_CHECKOUT / "cotracker")
        (tmp_path / "hub" / "checkpoints").mkdir()
        torch.save(weights(60), tmp_path / "hub" / "checkpoints" / "scaled_offline.pth")
        path = list(sys.path)
        found = self.tracker().identity()
        assert (found["package"], found["checkpoint"][:7], found["device"]) == ("torch.hub", "sha256:", "cpu")
        assert self.tracker().track(colours(HEIGHT, WIDTH, 3), inner()).visible.all()
        assert self.tracker().identity() == found  # also after the import
        assert sys.path == path

    def test_what_hugging_face_has_downloaded_is_found(self, tmp_path, stand_in):
        snapshot = tmp_path / "hf" / "models--facebook--cotracker3" / "snapshots" / "00000000"
        snapshot.mkdir(parents=True)
        torch.save(weights(60), snapshot / "scaled_offline.pth")
        refs = snapshot.parents[1] / "refs"
        refs.mkdir()
        (refs / "main").write_text(snapshot.name)
        assert self.tracker().identity()["checkpoint"] == "sha256:" + hash_file(snapshot / "scaled_offline.pth")


@pytest.mark.parametrize(
    ("tracker", "config", "message"),
    [
        (Offline, OfflineConfig(visibility=1.0), "visibility"),
        (Offline, OfflineConfig(points=0), "points"),
        (Offline, OfflineConfig(support_grid=-1), "support_grid"),
        (Offline, OfflineConfig(iterations=0), "iterations"),
        (Online, OnlineConfig(window_len=15), "even"),
        (Online, OnlineConfig(window_len=0), "window_len"),
    ],
)
def test_options_out_of_range(tracker, config, message):
    with pytest.raises(UsageError, match=message):
        tracker(config)


def test_what_cannot_be_tracked_is_refused(make):
    with pytest.raises(UsageError, match="uint8 video"):
        make().track(colours(HEIGHT, WIDTH, 3).astype(np.float32), inner())
    with pytest.raises(UsageError, match="finite"):
        make().track(colours(HEIGHT, WIDTH, 3), np.float32([[np.nan, 1]]))
    with pytest.raises(UsageError, match="'tpv' is not a device"):
        Offline(OfflineConfig(device="tpv")).identity()


def test_a_device_that_is_not_there_is_told_at_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"tracker\.device: there is no cuda:1 here"):
        Offline(OfflineConfig(device="cuda:1")).identity()


@pytest.mark.parametrize("sure", [{"visible": math.nan}, {"confidence": math.inf}])
def test_answers_that_are_no_numbers_are_refused(checkpoint, stand_in, sure):
    tracker = Online(OnlineConfig(checkpoint=checkpoint(16, **sure), device="cpu"))
    with pytest.raises(UsageError, match=r"predicted NaN or infinity(.|\n)*tracker\.checkpoint"):
        tracker.track(colours(HEIGHT, WIDTH, 3), inner())


def test_the_plugin_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from vcorr_cotracker.plugin import vcorr_trackers\n"
        "found = list(vcorr_trackers())\n"
        "assert [entry.config_type().__name__ for entry in found] == ['OfflineConfig', 'OnlineConfig']\n"
        "assert not {'torch', 'cotracker', 'numpy'} & sys.modules.keys(), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestCommandLine:
    RUN = ("run", "--model", "tiny", "--data", "sprites", "--probe", "qk", "--layers", "8", "--limit", "1")
    GRID = ("--set", "data.grid=4", "--steps", "last")

    def test_without_the_package_a_run_ends_before_it_begins(self, vcorr, tmp_path):
        ended = vcorr(*self.RUN, *self.GRID, "--set", "tracker=cotracker3-offline")
        assert ended.code == 4
        assert "pip install git+https://github.com/facebookresearch/co-tracker" in ended.err
        assert "hf download facebook/cotracker3 scaled_offline.pth" in ended.err
        assert not (tmp_path / "runs").exists()

    def test_a_wrong_checkpoint_ends_a_run_before_it_begins(self, vcorr, checkpoint, stand_in, tmp_path):
        options = ("--set", "tracker=cotracker3-offline", "--set", f"tracker.checkpoint={checkpoint(16)}")
        ended = vcorr(*self.RUN, *self.GRID, *options)
        assert ended.code == 2
        assert "scaled.pth does not fit cotracker3-offline" in ended.err
        assert not (tmp_path / "runs").exists()

    def test_a_run_says_the_licence_once_and_keeps_it(self, vcorr, checkpoint, stand_in):
        options = ("--set", "tracker=cotracker3-online", "--set", f"tracker.checkpoint={checkpoint(16)}")
        ended = vcorr(*self.RUN, *self.GRID, *options, "--set", "tracker.support_grid=2")
        assert ended.code == 0, ended.err
        assert (ended.out + ended.err).count("for non-commercial use only") == 1
        run = RunDirectory(Path(ended.out.splitlines()[-1].removeprefix("Results: ")))
        (row,) = run.read("tracks").to_pylist()
        assert (row["tracker"], row["licence"], row["points"]) == ("cotracker3-online", "CC-BY-NC-4.0", 16)
        assert set(run.read("scores")["tracker"].to_pylist()) == {"cotracker3-online"}
        known = run.record()["tracker"]
        assert (known["licence"], known["config"]["support_grid"]) == ("CC-BY-NC-4.0", 2)
        assert known["config"]["checkpoint"] == "sha256:" + hash_file(Path(checkpoint(16)))
        assert [len(asked) for asked in stand_in.asked] == [20, 20]  # 17 frames are two windows

    def test_generated_videos_are_tracked(self, vcorr, checkpoint, stand_in):
        sampling = ("--mode", "generate", "--prompt", "a red disk", "--set", "num_steps=1", "--steps", "last")
        options = ("--set", "tracker=cotracker3-offline", "--set", f"tracker.checkpoint={checkpoint()}")
        without_data = [word for word in self.RUN if word not in ("--data", "sprites")]
        ended = vcorr(*without_data, *sampling, *options)
        assert ended.code == 0, ended.err
        run = RunDirectory(Path(ended.out.splitlines()[-1].removeprefix("Results: ")))
        (row,) = run.read("tracks").to_pylist()
        assert (row["tracker"], row["licence"], len(row["video"]) > 8) == ("cotracker3-offline", "CC-BY-NC-4.0", True)
        assert [len(asked) for asked in stand_in.asked] == [400]

    def test_lists(self, vcorr):
        assert vcorr("list", "trackers").out.count("CC-BY-NC-4.0") == 2
        shown = vcorr("show", "tracker", "cotracker3-offline").out
        assert "non-commercial" in shown
        assert "window_len" in shown


def test_entries():
    for entry in vcorr_trackers():
        assert entry.licence == "CC-BY-NC-4.0"
        assert entry.create().name == entry.name
