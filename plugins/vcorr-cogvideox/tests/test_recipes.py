"""Tests the plugin's recipes through the command line, and the default data of its models."""

import json

import pytest
from support.recipes import Shell, check_small_run, import_sets, planned_passes

from vcorr.plugins.recipes import find_recipe, recipes
from vcorr.plugins.registry import installed
from vcorr.runner.spec import read_config

MODELS = {
    "cogvideox-2b": ("cogvideox", "cogvideox_t2v_2b"),
    "cogvideox-5b": ("cogvideox-5b", "cogvideox_t2v_5b"),
    "cogvideox-2b-i2v": ("cogvideox-2b-i2v", "cogvideox_i2v_2b"),
    "cogvideox-5b-i2v": ("cogvideox-5b-i2v", "cogvideox_i2v_5b"),
}
NAMES = [f"{model}-{scenes}" for model in MODELS for scenes in ("fg", "bg")]
SIZES = {"size": "small", "frames": 9}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return import_sets(tmp_path_factory.mktemp("recipes"), [data for _, data in MODELS.values()])


@pytest.fixture
def vcorr(home, monkeypatch, tmp_path, capsys):
    return Shell(home, tmp_path, monkeypatch, capsys)


def test_there_is_one_for_every_model_and_set():
    ours = [r.name for r in recipes(installed()) if r.source.distribution == "vcorr-cogvideox"]
    assert sorted(ours) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_for_what_the_paper_did(name):
    found = find_recipe(name, installed())
    keys, (model, data) = read_config(found.path), MODELS[name[:-3]]
    assert (keys["model"], keys["data"]) == (model, f"difftrack:{data}/{name[-2:]}")
    assert (keys["probe"], keys["layers"], keys["steps"]) == (["qk", "feature", "attention"], "all", "all")
    assert keys["variant"] == "both"
    assert (keys["num_steps"], keys["seed"], keys["cfg"], keys["mode"]) == (50, 42, 6, "generate")
    assert "DiffTrack" in found.summary


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_planned_at_full_size(vcorr, name):
    assert planned_passes(vcorr, name) == 2 * 50  # both guidance branches of every step


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_at_a_small_size(vcorr, name):
    check_small_run(vcorr, name, f"{MODELS[name[:-3]][1]}/{name[-2:]}", SIZES, layers=2)


DRY = ("--probe", "qk", "--weights", "random", "--dry-run")


def test_what_is_imported_is_the_default_data(vcorr, monkeypatch, tmp_path):
    assert "difftrack, split cogvideox_t2v_2b/fg: 1 clip" in vcorr("run", "--model", "cogvideox", *DRY)[1]
    assert "difftrack, split cogvideox_i2v_2b/fg" in vcorr("run", "--model", "cogvideox-i2v", *DRY)[1]
    assert "difftrack:cogvideox_t2v_5b/fg" in vcorr("show", "model", "cogvideox-5b")[1]
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "empty"))
    assert "prompts, split all: 12 clips" in vcorr("run", "--model", "cogvideox", *DRY)[1]
    assert "once it is imported; until then prompts" in " ".join(vcorr("show", "model", "cogvideox-5b")[1].split())


def test_an_image_to_video_model_without_images_says_so_at_once(vcorr, monkeypatch, tmp_path):
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "empty"))
    code, _, err = vcorr("run", "--model", "cogvideox-i2v", *DRY[:-1])
    assert code == 4
    assert "model 'cogvideox-i2v' starts from an image, and dataset 'prompts' has none" in err
    code, _, err = vcorr("run", "--config", "cogvideox-2b-fg", "--weights", "random")
    assert code == 4
    assert "vcorr dataset import difftrack" in err


def test_a_dry_run_plans_without_images_and_without_the_data_of_a_recipe(vcorr, monkeypatch, tmp_path):
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "empty"))
    code, out, _ = vcorr("run", "--model", "cogvideox-i2v", *DRY)
    assert code == 0
    assert "Missing (image): model 'cogvideox-i2v' starts from an image, and dataset 'prompts' has none." in out
    code, out, _ = vcorr("run", "--config", "cogvideox-2b-fg", "--dry-run", "--json")
    found = json.loads(out)
    assert (code, found["mode"], found["clips"], found["path"]) == (0, "generate", None, None)
    assert [gap["kind"] for gap in found["missing"]] == ["weights", "data"]
    assert "vcorr dataset import difftrack" in found["missing"][1]["hint"]
    assert found["per_clip"]["passes"] == 2 * 50


@pytest.mark.parametrize("name", ["zai-org/CogVideoX-2b", "thudm/cogvideox-2B", "CogVideoX"])
def test_a_hub_id_is_a_name_of_the_model_and_of_the_same_run(vcorr, name):
    own, other = (json.loads(vcorr("run", "--model", each, *DRY, "--json")[1]) for each in ("cogvideox", name))
    assert other["model"] == "cogvideox"
    assert other["path"] == own["path"] is not None
    assert json.loads(vcorr("show", "model", name, "--json")[1])["configs"] == ["cogvideox-2b-bg", "cogvideox-2b-fg"]


def test_models_name_their_recipes(vcorr):
    shown = json.loads(vcorr("show", "model", "cogvideox-5b-i2v", "--json")[1])
    assert shown["configs"] == ["cogvideox-5b-i2v-bg", "cogvideox-5b-i2v-fg"]
