"""Tests the plugin's recipes through the command line."""

import pytest
from support.recipes import Shell, check_small_run, import_sets, planned_passes

from vcorr.plugins.recipes import find_recipe, recipes
from vcorr.plugins.registry import installed
from vcorr.runner.spec import read_config

SIZES = {"size": "small", "frames": 9}
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
    assert "difftrack, split hunyuan_t2v/fg: 1 clip" in vcorr("run", "--model", "hunyuanvideo", *dry)[1]
