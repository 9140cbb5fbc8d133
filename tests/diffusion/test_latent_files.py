"""Latents that are kept in files between runs: never for other weights, settings or pixels, and the same to the bit."""

from __future__ import annotations

import importlib
import os
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import vcorr
from tests.support.small_models import load_small
from vcorr import Clip, StoreError
from vcorr.diffusion.latent_files import LatentFiles, hash_code
from vcorr.diffusion.options import tile_autoencoder
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VCORR_HOME", str(tmp_path))
    return tmp_path / "latents"


def load(dtype="float32", **options):
    entry = vcorr.installed().models.get("tiny").entry
    model = entry.create(entry.config_type()(frames=5, **options))
    model.load("cpu", dtype, "hub")
    return model


def clip_of(model, size=128, seed=0):
    video = np.random.default_rng(seed).integers(0, 256, (5, size, size, 3), dtype=np.uint8)
    return Clip("clip", "a red disk", np.array([[4, 4]], np.float32), video)


def encode(model, clip):
    """Encodes a clip as a run with `keep_latents` does."""
    with torch.no_grad(), model.kept_inputs.on_disk(model.latent_files()):
        return model.encode_clip(clip, clip.video)


def test_another_process_reads_the_same_bits_and_encodes_nothing(home):
    first, second, third = load(), load(), load()
    clip = clip_of(first)
    latents = encode(first, clip)
    (file,) = home.iterdir()
    assert torch.equal(encode(second, clip), latents)
    assert (first.kept_inputs.encoded, second.kept_inputs.encoded) == (1, 0)
    os.truncate(file, 100)
    assert torch.equal(encode(third, clip), latents)
    assert third.kept_inputs.encoded == 1
    assert file.stat().st_size > 100  # written again


def test_whatever_decides_the_values_has_a_file_of_its_own(home, monkeypatch):
    for number, (options, change) in enumerate(
        (({}, None), ({"dtype": "bfloat16"}, None), ({}, tile_autoencoder), ({"vae_slicing": True}, None)), start=1
    ):
        model = load(**options)
        monkeypatch.setattr(model, "encode", lambda video: torch.zeros(1, 16, 2, 16, 16))  # only the file matters
        if change is not None:
            change(model.pipe)
        encode(model, clip_of(model))
        assert (model.kept_inputs.encoded, len(list(home.iterdir()))) == (1, number)
    encode(model, clip_of(model, seed=1))
    assert len(list(home.iterdir())) == 5


def test_weights_that_changed_or_that_are_random_have_no_files(home):
    changed, adopted, random = load(), load(), load_small("tiny")
    with torch.no_grad():
        next(changed.pipe.vae.parameters()).mul_(2)
    adopted.adopt(adopted.pipe, "cpu")
    for model in (changed, adopted):
        encode(model, clip_of(model))
    shape = (random.config.frames, random.config.height, random.config.width, 3)
    encode(random, clip_of(random).with_video(np.zeros(shape, np.uint8)))
    assert not home.exists()


def test_runs_with_and_without_files_are_the_same_run(home, tmp_path):
    def run(out, **changes):
        options = {"model": {"frames": 5}, "data": {"frames": 5}}
        spec = RunSpec(model="tiny", probe="qk", steps="last", layers="0", limit=1, options=options, **changes)
        made = execute(make_plan(spec, vcorr.installed()), tmp_path / out).run
        return {path.relative_to(made.path): path.read_bytes() for path in made.path.rglob("*.arrow")}, made

    plain, _ = run("a")
    assert not home.exists()
    writing, kept = run("b", keep_latents=True)
    reading, _ = run("c", keep_latents=True)
    assert plain == writing == reading
    assert len(list(home.iterdir())) == 1
    assert kept.record()["spec"]["keep_latents"] is True


def test_another_version_of_the_adapters_code_has_files_of_its_own(home, monkeypatch):
    for number, code in enumerate(("a", "b"), start=1):
        monkeypatch.setattr("vcorr.diffusion.latent_files.hash_code", lambda package, code=code: (package, code))
        model = load()
        encode(model, clip_of(model))
        assert (model.kept_inputs.encoded, len(list(home.iterdir()))) == (1, number)
    monkeypatch.setattr("vcorr.diffusion.latent_files.hash_code", lambda package: None)
    assert load().latent_files() is None


def test_every_file_of_a_package_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "some_adapter"
    package.mkdir()
    for name in ("__init__.py", "deep.py"):
        (package / name).write_text("")
    importlib.import_module("some_adapter")
    monkeypatch.setitem(sys.modules, "some_adapter", sys.modules["some_adapter"])
    before = hash_code.__wrapped__("some_adapter")
    assert before == hash_code.__wrapped__("some_adapter")
    (package / "deep.py").write_text("changed = True")
    assert hash_code.__wrapped__("some_adapter") != before
    assert hash_code("__main__") is None
    assert hash_code("not_imported_at_all") is None


FACTS = {"video": "a"}


def files_at(folder, most_bytes=10**6, **facts):
    return LatentFiles(folder, {"weights": "w", **facts}, most_bytes)


def test_a_file_keeps_dtype_and_order_in_memory(tmp_path):
    latents = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1).to(torch.bfloat16)
    files_at(tmp_path).write(FACTS, latents)
    found = files_at(tmp_path).read(FACTS, "cpu")
    assert torch.equal(found, latents)
    assert (found.dtype, found.stride()) == (latents.dtype, latents.stride())


def test_other_facts_find_nothing(tmp_path):
    files_at(tmp_path).write(FACTS, torch.zeros(1))
    assert files_at(tmp_path).read({"video": "b"}, "cpu") is None
    assert files_at(tmp_path, weights="other").read(FACTS, "cpu") is None
    assert files_at(tmp_path / "none").read(FACTS, "cpu") is None


def test_a_file_under_the_name_of_other_facts_is_not_read(tmp_path):
    files = files_at(tmp_path)
    files.write(FACTS, torch.zeros(1))
    (path,) = tmp_path.iterdir()
    files.write({"video": "b"}, torch.ones(1))
    (other,) = set(tmp_path.iterdir()) - {path}
    other.replace(path)
    assert files.read(FACTS, "cpu") is None


def test_the_files_used_last_stay_within_the_size(tmp_path):
    files_at(tmp_path).write({"video": "0"}, torch.zeros(1000))
    size = next(tmp_path.iterdir()).stat().st_size
    files = files_at(tmp_path, most_bytes=int(2.5 * size))
    for number in (1, 2, 3):
        for path in tmp_path.iterdir():  # a clock may be too coarse to tell them apart
            stat = path.stat()
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**9))
        assert files.read({"video": "0"}, "cpu") is not None
        files.write({"video": str(number)}, torch.zeros(1000))
    assert [files.read({"video": str(number)}, "cpu") is not None for number in range(4)] == [True, False, False, True]


def test_every_byte_of_a_file_counts(tmp_path):
    files = files_at(tmp_path)
    files.write(FACTS, torch.arange(3.0))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = files.read(FACTS, "cpu")
        assert found is None or torch.equal(found, torch.arange(3.0)), whole[:place]
    path.write_bytes(whole)
    assert files.read(FACTS, "cpu") is not None


def test_axes_that_are_no_order_are_not_read(tmp_path):
    files = files_at(tmp_path)
    files.write(FACTS, torch.zeros(2, 3))
    (path,) = tmp_path.iterdir()
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    for axes in ("5", "null", "{}", "[0, 0]", "[0]", '["a", 1]', "[0, 1, 2]", "nonsense"):
        save_file(tensors, path, {**about, "axes": axes})
        assert files.read(FACTS, "cpu") is None, axes


def test_files_of_a_folder_that_is_only_read_are_used(tmp_path, monkeypatch):
    files_at(tmp_path).write(FACTS, torch.ones(1))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)  # tests may run as a user who may do everything
    found = files_at(tmp_path).read(FACTS, "cpu")
    assert found is not None
    assert torch.equal(found, torch.ones(1))


def test_what_a_killed_process_left_behind_is_deleted(tmp_path):
    left = tmp_path / ".aa.safetensors.123.0123abcd.tmp"
    left.write_bytes(b"half")
    files_at(tmp_path).write(FACTS, torch.zeros(1))
    assert not left.exists()


def test_other_users_may_read_the_files(tmp_path):
    files_at(tmp_path).write(FACTS, torch.zeros(1))
    (tmp_path / "plain").write_bytes(b"")
    (path,) = tmp_path.glob("*.safetensors")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        files_at(tmp_path / "file" / "latents").write(FACTS, torch.zeros(1))
