"""Tests weights from folders and the cache, the normalisation of pixels, and runs from the command line."""

import json
import math

import pytest
import torch
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from vcorr_vision.pixels import IMAGENET

from vcorr import MissingError, UsageError
from vcorr.cli import main as program
from vcorr.contract.cards import load_card
from vcorr.store.run_search import open_run

NETWORKS = ["dino-b16", "dinov2-b14", "dinov2-b14-reg", "dinov3-b16"]


@pytest.fixture
def folder_of(tmp_path):
    """Returns a function that saves the network of a loaded model and returns the folder."""

    def give(model):
        model.network.save_pretrained(tmp_path / "saved")
        return tmp_path / "saved"

    return give


def outputs(model, clip):
    pixels = model.normalisation.apply(clip.video, "cpu", torch.float32)
    with torch.no_grad():
        return model.network(**model.inputs(pixels)).last_hidden_state


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_network_is_the_same_one(name, load, make_clip, folder_of):
    model, clip = load(name), make_clip(each=2)
    folder = folder_of(model)
    again = load(name, weights=str(folder))
    torch.testing.assert_close(outputs(again, clip), outputs(model, clip), rtol=1e-5, atol=1e-6)
    assert again.network.config._attn_implementation == "sdpa"
    assert not again.network.training
    assert again.weights_id(str(folder)).startswith("path:")
    assert model.weights_id("random:3") == "random:3"


def test_pixels_are_those_of_the_processor(load, make_clip, folder_of):
    clip, model = make_clip(), load("dinov2-b14")
    assert (list(IMAGENET.mean), list(IMAGENET.std)) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert model.normalisation == IMAGENET
    folder = folder_of(model)
    for mean, std in [(IMAGENET.mean, IMAGENET.std), ((0.1, 0.2, 0.3), (0.5, 0.25, 0.2))]:
        processor = BitImageProcessorPil(image_mean=mean, image_std=std, do_resize=False, do_center_crop=False)
        processor.save_pretrained(folder)
        ours = load("dinov2-b14", weights=str(folder)).normalisation.apply(clip.video, "cpu", torch.float32)
        theirs = processor(list(clip.video), return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", ["{", "{}", '{"image_mean": [1, 2], "image_std": [1, 1]}'])
def test_a_processor_that_cannot_be_read(text, load, folder_of):
    folder = folder_of(load("dinov2-b14"))
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(UsageError, match=r"preprocessor_config\.json"):
        load("dinov2-b14", weights=str(folder))


def test_folders_that_do_not_fit(load, folder_of):
    folder = folder_of(load("dinov2-b14"))
    with pytest.raises(UsageError, match=r"type 'dinov2'; this model needs 'vit'"):
        load("dino-b16", weights=str(folder))
    with pytest.raises(UsageError, match=r"num_hidden_layers=2(.|\n)*--set model.num_hidden_layers=2"):
        load("dinov2-b14", weights=str(folder), num_hidden_layers=3)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UsageError, match="no weights for"):
        load("dinov2-b14", weights=str(folder), num_hidden_layers=3)
    (folder / "model.safetensors").write_text("no tensors")
    with pytest.raises(UsageError, match="cannot be loaded as a Dinov2Model"):
        load("dinov2-b14", weights=str(folder))


def test_sizes_that_make_no_network(small):
    with pytest.raises(UsageError, match=r"hidden_size=48 does not divide among model.num_attention_heads=5"):
        small("dinov2-b14", num_attention_heads=5)
    with pytest.raises(UsageError, match="8 heads of 6 numbers"):
        small("dinov3-b16", num_attention_heads=8)


def test_the_hub_is_looked_up_in_the_cache_alone(entries, small, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in entries.keys() - {"hf", "xfeat"}:  # a name for many models; weights that are not at the hub
        card = load_card(entries[name].card, name)
        with pytest.raises(MissingError) as error:
            entries[name].create(small(name)).weights_id("hub")
        assert f"hf download {card.hub_id}" in error.value.hint
        assert f"{card.download_gb:g} GB" in str(error.value)


def vcorr(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


def test_a_run_has_rows_without_step_and_noise_and_a_board(capsys, tmp_path, monkeypatch, load, folder_of):
    monkeypatch.chdir(tmp_path)
    folder = folder_of(load("dinov2-b14", patch_size=14, image_size=42))
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 42, "mlp_ratio": 2}
    sizes |= {"height": 70, "width": 84, "frames": 5}
    options = [part for key, value in sizes.items() for part in ("--set", f"model.{key}={value}")]
    model = ("--model", "dinov2-b14", "--data", "sprites", "--limit", "4")
    probes = ("--probe", "qk,feature,feature-fair,feature-cos,hidden-cos")
    for weights in ("random", str(folder)):
        code, printed = vcorr(capsys, "run", *model, *probes, "--weights", weights, *options, "--out", "runs")
        assert code == 0, printed
        assert " -1 " not in printed
    for found in (tmp_path / "runs").iterdir():
        rows = open_run(found).read("scores").to_pylist()
        assert {(r["layer"], r["step"], r["attention"]) for r in rows} == {(n, -1, "factorised") for n in (0, 1)}
        assert all(math.isnan(row["noise"]) for row in rows)
    code, printed = vcorr(capsys, "board", "build", "--results", "runs", "--out", "site")
    assert code == 0, printed
    assert "DINOv2" in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [(("--steps", "3"), "Leave out --steps"), (("--mode", "generate"), "generates nothing")],
)
def test_what_a_model_without_noise_refuses(options, reason, capsys):
    model = ("--model", "dinov2-b14", "--data", "sprites", "--weights", "random", "--probe", "qk")
    code, printed = vcorr(capsys, "run", *model, *options)
    assert (code, reason in printed) == (2, True)


def test_data_without_videos(capsys):
    code, printed = vcorr(capsys, "run", "--model", "vjepa2-l", "--weights", "random", "--probe", "qk")
    assert (code, "name data with videos" in printed) == (2, True)


@pytest.mark.parametrize("mode", ["generate", "invert"])
@pytest.mark.parametrize(
    ("name", "reason", "way_out"),
    [
        ("dift-sd1.5", "cannot run in {} mode", "It runs with --mode renoise."),
        ("dinov2-b14", "generates nothing", "Leave out --mode {}."),
        ("vjepa2-l", "generates nothing", "Leave out --mode {}."),
    ],
)
def test_images_and_backbones_know_one_mode_and_say_so_before_anything_is_loaded(name, reason, way_out, mode, capsys):
    model = ("--model", name, "--data", "sprites", "--weights", "random", "--probe", "hidden", "--dry-run")
    code, printed = vcorr(capsys, "run", *model, "--mode", mode)
    assert (code, reason.format(mode) in printed, way_out.format(mode) in printed) == (2, True, True)


def test_a_run_without_weights_ends_with_4(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    code, printed = vcorr(capsys, "run", "--model", "dinov3-b16", "--probe", "qk", "--data", "sprites", "--out", "runs")
    assert code == 4
    assert "hf download facebook/dinov3-vitb16-pretrain-lvd1689m" in printed
    assert not (tmp_path / "runs").exists()
