"""The recipes that ship with the plugin, through the command line."""

import dataclasses

import pytest
from support.recipes import Shell, check_small_run, import_sets, planned_passes
from vcorr_hunyuanvideo.model import HunyuanVideoConfig

from vcorr.recipes import find_recipe, recipes
from vcorr.registry import installed
from vcorr.spec import read_config

SIZES = {
    "height": 64,
    "width": 96,
    "frames": 9,
    "num_layers": 1,
    "num_single_layers": 2,
    "num_refiner_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "rope_axes_dim": "[4,4,4]",
    "text_embed_dim": 16,
    "pooled_dim": 8,
    "max_text_seq_length": 6,
    "latent_channels": 4,
    "vae_channels": "[8,8,8,8]",
    "vae_layers_per_block": 1,
    "vae_norm_groups": 4,
}
NAMES = ["hunyuanvideo-bg", "hunyuanvideo-fg"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return import_sets(tmp_path_factory.mktemp("recipes"), ["hunyuan_t2v"])


@pytest.fixture
def vcorr(home, monkeypatch, tmp_path, capsys):
    return Shell(home, tmp_path, monkeypatch, capsys)


def test_there_is_one_for_every_set():
    ours = [r.name for r in recipes(installed()) if r.source.distribution == "vcorr-hunyuanvideo"]
    assert ours == NAMES
    assert set(SIZES) <= {field.name for field in dataclasses.fields(HunyuanVideoConfig)}


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_for_what_the_paper_did(name):
    keys = read_config(find_recipe(name, installed()).path)
    assert (keys["model"], keys["data"]) == ("hunyuanvideo", f"difftrack:hunyuan_t2v/{name[-2:]}")
    assert (keys["probe"], keys["layers"], keys["steps"]) == (["qk", "feature", "attention"], "all", "all")
    assert keys["variant"] == "both"
    assert (keys["num_steps"], keys["seed"], keys["mode"]) == (30, 42, "generate")


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_planned_at_full_size(vcorr, name):
    assert planned_passes(vcorr, name) == 30


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_at_a_small_size(vcorr, name):
    check_small_run(vcorr, name, f"hunyuan_t2v/{name[-2:]}", SIZES, layers=3)


def test_what_is_imported_is_the_default_data(vcorr):
    dry = ("--probe", "qk", "--weights", "random", "--dry-run")
    assert "difftrack, split hunyuan_t2v/fg: 1 clips" in vcorr("run", "--model", "hunyuanvideo", *dry)[1]
