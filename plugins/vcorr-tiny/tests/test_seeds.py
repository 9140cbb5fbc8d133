"""Tests the training seeds of the embedded model: `--weights seed:N` and the command that writes their folders."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file
from vcorr_tiny import network_folder, seeds
from vcorr_tiny.model import Tiny, TinyUntrained
from vcorr_tiny.network_folder import SEEDS
from vcorr_tiny.networks import TinyConfig, build_pipeline

from vcorr import MissingError, UsageError
from vcorr.diffusion import VideoConfig, folder_identity

SMALL = TinyConfig(size=32, frames=9, vae_channels=(8, 8, 8), latent_channels=4, layers=2, heads=2, head_dim=32)
SHIPPED = network_folder.find_networks().facts.shipped
OTHER = next(seed for seed in SEEDS if seed != SHIPPED)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Returns the folder of the other seeds, which has one; a small pipeline takes the place of the packaged one."""
    build_pipeline(SMALL).save_pretrained(tmp_path / "pipe")
    own = tmp_path / "seeds" / str(OTHER)
    for part in seeds.OWN_PARTS:
        shutil.copytree(tmp_path / "pipe" / part, own / part)
    path = own / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    monkeypatch.setattr(network_folder, "PACKAGED", (tmp_path / "pipe", tmp_path / "seeds"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return own


def load(weights: str):
    model = Tiny(VideoConfig(height=32, width=32, frames=9))
    model.load("cpu", "float32", weights)
    return model.pipe


def test_a_seed_has_its_own_denoiser_and_the_shared_autoencoder(folder) -> None:
    ours, theirs = load("hub"), load(f"seed:{OTHER}")
    for name, value in ours.vae.state_dict().items():
        assert torch.equal(value, theirs.vae.state_dict()[name])
    differ = [not torch.equal(a, theirs.transformer.state_dict()[n]) for n, a in ours.transformer.state_dict().items()]
    assert all(differ)


def test_seeds_are_different_weights_and_the_shipped_one_is_the_default(folder) -> None:
    identify = Tiny(VideoConfig()).weights_id
    assert identify(f"seed:{SHIPPED}") == identify("hub")
    other = identify(f"seed:{OTHER}")
    assert other.startswith(f"embedded:seed-{OTHER}:")
    assert other.split(":")[-1] != identify("hub").split(":")[-1]
    shutil.copytree(network_folder.PACKAGED[0] / "transformer", folder / "transformer", dirs_exist_ok=True)
    assert identify(f"seed:{OTHER}") not in (other, identify("hub"))  # the folder's content counts, and its seed


def test_processes_that_make_the_folder_at_once_do_not_disturb_each_other(folder) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: seeds.find_pipeline(OTHER), range(8)))
    (path,) = made
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert load(str(path)) is not None


@pytest.mark.parametrize("weights", ["seed:7", "seed:", "seed:x", "seed:01"])
def test_a_seed_that_does_not_exist_is_an_error(weights) -> None:
    with pytest.raises(UsageError, match="Unknown training seed") as raised:
        Tiny(VideoConfig()).weights_id(weights)
    assert "0, 1, 2" in str(raised.value.hint)


def test_an_installation_with_one_seed_says_so(folder) -> None:
    shutil.rmtree(folder)
    with pytest.raises(MissingError, match=f"no network of training seed {OTHER}") as raised:
        Tiny(VideoConfig()).weights_id(f"seed:{OTHER}")
    assert "training/seeds" in str(raised.value.hint)


def test_a_cache_that_cannot_be_written_is_an_error(folder, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot be made") as raised:
        Tiny(VideoConfig()).weights_id(f"seed:{OTHER}")
    assert "XDG_CACHE_HOME" in str(raised.value.hint)


def test_the_untrained_twin_has_no_training_seed() -> None:
    with pytest.raises(UsageError, match="untrained by definition"):
        TinyUntrained(VideoConfig()).weights_id("seed:1")


def test_the_command_writes_a_pipeline_folder(folder, tmp_path, capsys) -> None:
    for seed in (SHIPPED, OTHER):
        out = tmp_path / f"out-{seed}"
        assert seeds.main([str(seed), "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"{out}\n"
        assert load(str(out)) is not None
        with pytest.raises(UsageError, match="exists already"):
            seeds.main([str(seed), "--out", str(out)])
    assert folder_identity(tmp_path / f"out-{SHIPPED}") == folder_identity(network_folder.PACKAGED[0])


def test_the_repository_holds_no_second_copy_of_the_shipped_seed() -> None:
    assert not (network_folder.PACKAGED[1] / str(SHIPPED)).exists()
