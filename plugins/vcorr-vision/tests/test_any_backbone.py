"""Tests `--model hf:ID` on small random networks of many families, saved to folders."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel
from vcorr_vision.any_backbone import AnyBackbone, AnyConfig
from vcorr_vision.pixels import IMAGENET, NOTHING

from vcorr import MissingError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.cli import main as program
from vcorr.plugins.model_names import find_model
from vcorr.plugins.registry import installed
from vcorr.store.run_search import open_run
from vcorr.testing import assert_passed, check_model, check_reading, random_clip
from vcorr.testing.impulse import find_impulses

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = {**SIZES, "intermediate_size": 64, "patch_size": 8, "image_size": 24}
DINO = {**SIZES, "mlp_ratio": 2, "patch_size": 8, "image_size": 24}
TEXT = {**SIZES, "intermediate_size": 64, "vocab_size": 50, "max_position_embeddings": 8}
HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "num_attention_heads": 1,
    "image_size": [64, 64],
    "blocks_per_stage": [1, 2, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "window_size_per_stage": [4, 2, 4, 2],
    "global_attention_blocks": [2, 4],
    "window_positional_embedding_background_size": [4, 4],
}
SAM3 = {**VIT, "model_type": "sam3_vit_model", "image_size": 48, "pretrain_image_size": 24, "window_size": 2}
SAM = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "output_channels": 16,
    "patch_size": 8,
    "image_size": 48,
    "window_size": 2,
    "global_attn_indexes": [1],
    "mlp_dim": 64,
}
FAMILIES = {
    "dinov2": DINO,
    "dinov2_with_registers": {**DINO, "num_register_tokens": 3},
    "dinov3_vit": {**VIT, "num_register_tokens": 3},
    "vit": VIT,
    "clip_vision_model": VIT,
    "ijepa": VIT,
    "siglip": {"vision_config": VIT, "text_config": TEXT},
    "siglip2": {"vision_config": {**VIT, "num_patches": 9}, "text_config": TEXT},
    "radio": {
        **SIZES,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        "patch_dim": 192,
        "max_img_size": 64,
        "image_size": 24,
        "num_cls_tokens": 2,
        "num_registers": 3,
        "summary_idxs": [0],
    },
    "sam": {
        "vision_config": SAM,
        "prompt_encoder_config": {"hidden_size": 16, "image_size": 48, "patch_size": 8},
        "mask_decoder_config": {"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 16, "num_hidden_layers": 1},
    },
    "sam2_vision_model": {
        "backbone_config": HIERA,
        "backbone_channel_list": [64, 32, 16, 8],
        "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    },
    "sam3_vision_model": {
        "backbone_config": {**SAM3, "global_attn_indexes": [1]},
        "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[24, 24], [12, 12], [6, 6]],
    },
    "vjepa2": {
        **SIZES,
        "mlp_ratio": 2,
        "patch_size": 8,
        "crop_size": 32,
        "frames_per_clip": 4,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
    },
    "videomae": {**VIT, "image_size": 32, "num_frames": 4},
    "dinov3_convnext": {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "image_size": 64},
}
SQUARE = ("sam", "sam2_vision_model", "sam3_vision_model", "vjepa2", "videomae")
"""Families that read squares of one side."""
SPECIAL = {
    "dinov2": 1,
    "dinov2_with_registers": 4,
    "dinov3_vit": 4,
    "vit": 1,
    "clip_vision_model": 1,
    "radio": 5,
}
READ = {"sam": [1], "sam2_vision_model": [2, 4], "sam3_vision_model": [1], "dinov3_convnext": []}
"""Layers whose attention can be read, where these are not all layers."""
ROTATED = ("dinov3_vit", "sam3_vision_model", "vjepa2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Returns a function that saves a small random network of a family once, and returns its folder."""
    made = {}

    def save(family, **changes):
        key = (family, json.dumps(changes))
        if key not in made:
            torch.manual_seed(3)
            network = AutoModel.from_config(AutoConfig.for_model(family, **{**FAMILIES[family], **changes}))
            with torch.no_grad():  # positions that begin at zero say nothing about their order
                for name, parameter in network.named_parameters():
                    if "position" in name or "pos_embed" in name:
                        parameter.normal_(std=0.2)
            made[key] = tmp_path_factory.mktemp("saved") / family
            network.save_pretrained(made[key])
        return made[key]

    return save


def size_of(family):
    sides = {} if family in SQUARE else {"height": 32, "width": 48}
    return sides | ({"height": 64, "width": 96} if family == "dinov3_convnext" else {})


@pytest.fixture(scope="module")
def load(folders):
    """Returns a function that loads the network of a family."""

    def give(family, weights="hub", **options):
        model = AnyBackbone(AnyConfig(**{"id": str(folders(family)), **size_of(family), **options}))
        model.load("cpu", "float32", weights)
        return model

    return give


def clip_for(model, frames=4):
    clip = random_clip(frames, model.shape.height, model.shape.width)
    return clip.with_queries(np.array([[10.5, 20.5], [20, 4]], np.float32))


class Keep:
    def __init__(self, *needs):
        self.needs, self.seen = frozenset(needs), {}

    def read(self, capture, queries):
        self.seen[capture.site.layer] = {name: getattr(capture, name).clone() for name in self.needs}
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, 2)}


def read(model, clip, *needs, layers=None):
    keep = Keep(*needs)
    recorder = Recorder({"keep": keep}, clip.queries, layers=layers)
    model.run(clip, RunSettings(steps=(-1,), num_steps=0), recorder)
    return keep.seen


def pass_through(model, clip, **options):
    with torch.no_grad():
        return model.network(**model.inputs(model.pixels(clip.video, torch.float32)), **options)


def list_read(model):
    return [site for site in model.sites() if site.attention != "none"]


# ------------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_and_tokens_come_from_the_configuration_and_a_pass(family, load):
    model = load(family)
    sites = model.sites()
    assert model.anatomy.special == SPECIAL.get(family, 0)
    assert [site.layer for site in list_read(model)] == READ.get(family, list(range(len(sites))))
    assert all(site.unread for site in sites if site.attention == "none")
    grid = model.grid(clip_for(model), sites[0])
    assert (grid.height, grid.width) == (model.shape.height, model.shape.width)
    full = family in ("vjepa2", "videomae")
    assert (grid.temporal_ratio, grid.frames) == ((2, 2) if full else (1, 4))
    assert {site.attention for site in list_read(model)} <= {"full3d" if full else "factorised"}
    assert all((site.unrotated is not None) == (family in ROTATED[::2]) for site in list_read(model))


def q_and_k_of_the_slow_attention(family, model, folder, clip, monkeypatch):
    """Returns q and k by module: what the network hands to its own eager attention, or what its projection puts out."""
    whole = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    tower, found = whole.get_submodule(model.anatomy.tower), {}
    paths = {module: path for path, module in tower.named_modules()}

    def attend(module, q, k, v, *_, **__):
        found[paths[module]] = (q.clone(), k.clone())
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).contiguous(), weights

    def note_sam(module, _, output):  # its attention does not go through the interface; one projection for q, k and v
        parts = output.flatten(1, 2).unflatten(-1, (3, 2, 24)).permute(2, 0, 3, 1, 4)
        found[paths[module].removesuffix(".qkv")] = (parts[0].clone(), parts[1].clone())

    if family == "sam":
        for module in tower.modules():
            if hasattr(module, "qkv"):
                module.qkv.register_forward_hook(note_sam)
    else:
        code = family.removesuffix("_vision_model")
        monkeypatch.setattr(f"transformers.models.{code}.modeling_{code}.eager_attention_forward", attend)
    with torch.no_grad():
        tower(**model.inputs(model.pixels(clip.video, torch.float32)))
    return found


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "dinov3_convnext"])
def test_q_and_k_are_those_of_the_slow_attention(family, load, folders, monkeypatch):
    """Compares all layers that can be read, after rotation where there is one."""
    model = load(family)
    clip, sites = clip_for(model), list_read(model)
    seen = read(model, clip, "q", "k", layers=[site.layer for site in sites])
    wanted = q_and_k_of_the_slow_attention(family, model, folders(family), clip, monkeypatch)
    for site in sites:
        for name, theirs in zip("qk", wanted[site.name], strict=True):
            ours = seen[site.layer][name]
            ours = ours.flatten(1, 3)[None] if site.attention == "full3d" else ours.flatten(2, 3).transpose(0, 1)
            torch.testing.assert_close(ours, theirs[:, :, model.anatomy.special :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["dinov3_vit", "vjepa2"])
def test_q_and_k_before_the_rotation_are_the_projections(family, load):
    model, outputs = load(family), {}
    clip, site = clip_for(model), model.sites()[0]
    modules = dict(model.network.named_modules())
    for part, name in (("q_unrotated", site.unrotated.q), ("k_unrotated", site.unrotated.k)):
        modules[f"{site.name}.{name}"].register_forward_hook(lambda _, __, out, part=part: outputs.update({part: out}))
    seen = read(model, clip, "q_unrotated", "k_unrotated", "q", "k", layers=[0])[0]
    for part, theirs in outputs.items():
        ours = seen[part].permute(1, 2, 3, 0, 4).flatten(3)
        torch.testing.assert_close(ours, theirs[:, model.anatomy.special :].reshape(ours.shape))
        assert not torch.allclose(seen[part], seen[part[0]])


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "sam2_vision_model"])
def test_features_are_the_hidden_states_of_the_network(family, load):
    model = load(family)
    clip = clip_for(model)
    seen = read(model, clip, "hidden")
    if family == "sam3_vision_model":  # its neck puts out others
        model._network = model.network.backbone
    states = pass_through(model, clip, output_hidden_states=True).hidden_states
    assert len(seen) == len(states) - 1
    for layer, state in enumerate(states[1:]):
        ours = seen[layer]["hidden"]
        maps = state.movedim(1, -1) if family == "dinov3_convnext" else state
        tokens = maps if maps.ndim == 4 else maps[:, model.anatomy.special :]
        torch.testing.assert_close(ours, tokens.reshape(ours.shape), rtol=1e-4, atol=1e-5, msg=f"layer {layer}")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_with_one_other_patch_lights_its_token(family, load):
    model = load(family)
    clip, first = clip_for(model), model.sites()[0]
    grid = model.grid(clip, first)
    reach = 1 if family == "sam2_vision_model" else 0  # its patches overlap
    for token in [(0, 0, grid.cols - 1), (grid.frames - 1, grid.rows - 1, 1)]:
        found = find_impulses(model, clip, token, -1, 0, [first])[0]
        assert np.abs(np.subtract(found, token)).max() <= reach


@pytest.mark.parametrize(
    ("family", "name", "own", "side"),
    [
        ("dinov2_with_registers", "dinov2-b14-reg", {"image_size": 24, "num_register_tokens": 3}, 40),
        ("vjepa2", "vjepa2-l", {}, 48),  # another side than in the folder, from which it computes rows and columns
    ],
)
def test_the_named_adapters_read_the_same(family, name, own, side, load, folders):
    entry, ours = installed().models.get(name).entry, load(family, height=side, width=side)
    named = entry.create(entry.config_type()(**SIZES, patch_size=8, height=side, width=side, mlp_ratio=2, **own))
    named.load("cpu", "float32", str(folders(family)))
    clip, parts = clip_for(ours), ("q", "k", "v", "out", *(("q_unrotated",) if family == "vjepa2" else ()))
    seen, wanted = read(ours, clip, *parts), read(named, clip, *parts)
    assert all(torch.equal(seen[layer][part], wanted[layer][part]) for layer in (0, 1) for part in parts)


@pytest.mark.parametrize("family", ["siglip", "sam", "vjepa2"])
def test_the_contract(family, folders):
    config = AnyConfig(id=str(folders(family)), **size_of(family))
    clip = clip_for(AnyBackbone(config))
    assert_passed(check_model(AnyBackbone, clip, config=config, weights="hub"))
    assert_passed(check_reading(AnyBackbone, clip, config=config, weights="hub"))


# -------------------------------------------------------------------------------------------------- sizes and weights


def test_sizes_come_from_the_configuration(folders):
    sides = {"dinov2": 24, "siglip2": 24, "sam": 48, "sam2_vision_model": 64, "vjepa2": 32, "videomae": 32}
    for family, side in sides.items():
        model = AnyBackbone(AnyConfig(id=str(folders(family))))
        assert (model.shape.height, model.shape.width) == (side, side)
    model = AnyBackbone(AnyConfig(id=str(folders("videomae"))))
    assert model.grid(clip_for(model, 7), None).video_frames == 4
    with pytest.raises(UsageError, match="needs at least 4"):
        model.grid(clip_for(model, 3), None)
    model = AnyBackbone(AnyConfig(id=str(folders("vjepa2"))))
    assert [model.grid(clip_for(model, frames), None).video_frames for frames in (9, 4)] == [4, 4]
    assert AnyBackbone(AnyConfig(id=str(folders("vjepa2")), frames=8)).grid(clip_for(model, 9), None).video_frames == 8


@pytest.mark.parametrize(
    ("family", "options", "reason"),
    [
        ("dinov2", {"height": 30}, r"model\.height=30 does not fit hf:(.|\n)*24 and 32"),
        (
            "sam",
            {"height": 32, "width": 32},
            r"cannot read 2 frames of 32x32(.|\n)*--set model\.height",
        ),
        ("vjepa2", {"height": 32, "width": 48}, r"reads squares, not 32x48(.|\n)*--set model\.width=32"),
    ],
)
def test_sizes_that_do_not_fit(family, options, reason, folders):
    model = AnyBackbone(AnyConfig(id=str(folders(family)), **options))
    with pytest.raises(UsageError, match=reason):
        model.sites()


def test_pixels_are_normalised_as_the_folder_says(load, folders, tmp_path):
    assert load("dinov2").normalisation == IMAGENET
    assert load("radio").normalisation == NOTHING  # it normalises inside
    folder = tmp_path / "siglip"
    shutil.copytree(folders("siglip"), folder)
    means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    for found, file, text in [
        ((0.5, 0.5, 0.5), "preprocessor_config.json", means),
        ((0.0, 0.0, 0.0), "preprocessor_config.json", {"do_normalize": False}),
        ((0.1, 0.2, 0.3), "processor_config.json", {"image_processor": means | {"image_mean": [0.1, 0.2, 0.3]}}),
    ]:
        for old in folder.glob("*processor_config.json"):
            old.unlink()
        (folder / file).write_text(json.dumps(text))
        assert load("siglip", id=str(folder)).normalisation.mean == found


def test_weights_have_an_identity(load, folders, tmp_path):
    model, folder = load("siglip"), folders("siglip")
    assert model.weights_id("hub").startswith("path:")
    assert model.weights_id("random:3").startswith("random:3:")
    clip = clip_for(model)
    first, same, other = (read(load("siglip", f"random:{seed}"), clip, "q")[1]["q"] for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    with pytest.raises(UsageError, match=r"does not apply(.|\n)*--model hf:elsewhere"):
        model.weights_id("elsewhere")
    with pytest.raises(UsageError, match=r"model\.revision does not apply to the folder"):
        AnyBackbone(AnyConfig(id=str(folder), revision="0" * 40)).weights_id("hub")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(MissingError, match="incomplete"):
        load("siglip", id=str(copy))
    load("siglip", "random", id=str(copy))


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("family", ["timesformer", "hiera", "vit_mae"])
def test_tokens_in_another_order_are_refused(family, folders, monkeypatch):
    own = {
        "timesformer": {**VIT, "image_size": 32, "num_frames": 4},
        "hiera": {"embed_dim": 16, "image_size": [64, 64], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
        "vit_mae": {**VIT, "mask_ratio": 0.0, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1},
    }[family]
    monkeypatch.setitem(FAMILIES, family, own)
    model = AnyBackbone(AnyConfig(id=str(folders(family))))
    with pytest.raises(UsageError, match=r"Model are in another order than frames, rows and columns"):
        model.load("cpu", "float32", "hub")


def vcorr(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


def test_attention_that_cannot_be_read_is_refused_by_class(capsys, folders):
    data = ("--data", "sprites", "--limit", "1", "--dry-run")
    code, printed = vcorr(capsys, "run", "--model", f"hf:{folders('sam')}", "--probe", "qk", *data)
    said = " ".join(printed.split())
    assert code == 2
    assert "shows none at layers.0 and 1 more layer: SamVisionSdpaAttention attends within windows." in said
    assert "--probe hidden-cos Or the layers with attention: --layers 1" in said
    code, printed = vcorr(capsys, "run", "--model", f"hf:{folders('dinov3_convnext')}", "--probe", "qk", *data)
    assert "DINOv3ConvNextLayer does not call torch's attention" in " ".join(printed.split())
    for more in (("--probe", "hidden-cos"), ("--probe", "qk", "--layers", "1")):
        code, printed = vcorr(capsys, "run", "--model", f"hf:{folders('sam')}", *more, *data)
        assert code == 0, printed


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("hf:", 2, "names none of them"),
        ("hf", 2, "--model hf:ID"),
        ("hf:nobody/nothing", 4, "hf download nobody/nothing"),
        ("hf:./nowhere", 4, "there is no such folder"),
        ("hf:a b/c", 4, "a hub id has the form OWNER/NAME"),
    ],
)
def test_names_of_no_network(name, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found, printed = vcorr(capsys, "run", "--model", name, "--probe", "qk", "--data", "sprites")
    assert (found, said in printed, printed.count("Error")) == (code, True, 1), printed


def test_configurations_that_transformers_does_not_know(tmp_path):
    for text, reason in {'{"model_type": "unheard-of"}': "cannot read its config.json", "{": "cannot read"}.items():
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UsageError, match=reason):
            AnyBackbone(AnyConfig(id=str(tmp_path))).sites()


@pytest.mark.parametrize("sides", [{}, {"height": 32, "width": 32}])
@pytest.mark.parametrize(
    ("family", "reads"), [("bert", "input_ids"), ("gpt2", "input_ids"), ("wav2vec2", "input_values")]
)
def test_networks_of_text_and_sound_are_refused(family, reads, sides, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "num_hidden_layers": 1}))
    with pytest.raises(UsageError, match=f"type '{family}' reads {reads}, no pictures"):
        AnyBackbone(AnyConfig(id=str(tmp_path), **sides)).sites()


def test_folders_without_a_network(tmp_path, folders):
    for name, reason in {"other.txt": r"has no config\.json", "model_index.json": "is a pipeline of diffusers"}.items():
        (tmp_path / name).write_text("{}")
        with pytest.raises(UsageError, match=reason):
            AnyBackbone(AnyConfig(id=str(tmp_path))).sites()
    folder = folders("dinov2")
    with pytest.raises(UsageError, match=f"names a file(.|\n)*--model hf:{re.escape(str(folder))}$"):
        AnyBackbone(AnyConfig(id=str(folder / "config.json"))).sites()


def test_damaged_numbers_are_named(tmp_path, folders):
    settings = json.loads((folders("dinov2") / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"patch_size": 0}))
    with pytest.raises(UsageError, match="patches of 0x0 pixels"):
        AnyBackbone(AnyConfig(id=str(tmp_path))).sites()
    (tmp_path / "config.json").write_text(json.dumps(settings))
    tensors = load_file(folders("dinov2") / "model.safetensors")
    name = "embeddings.patch_embeddings.projection.bias"
    save_file(tensors | {name: tensors[name] * float("nan")}, tmp_path / "model.safetensors")
    model = AnyBackbone(AnyConfig(id=str(tmp_path), height=32, width=48))
    with pytest.raises(UsageError, match=f"NaN or infinity in {re.escape(name)}"):
        model.load("cpu", "float32", "hub")
    save_file(tensors, tmp_path / "model.safetensors")
    for mean, std in ([float("nan"), 0, 0], [1, 1, 1]), ([0, 0, 0], [1, 1, -1]):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
        with pytest.raises(UsageError, match="image_std over 0"):
            model.load("cpu", "float32", "hub")


def test_the_usual_side_is_rounded_down_to_whole_patches(tmp_path):
    settings = {"model_type": "siglip_vision_model", **VIT, "image_size": 39}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    model = AnyBackbone(AnyConfig(id=str(tmp_path)))
    assert (model.shape.height, model.shape.width, len(model.sites())) == (32, 32, 2)


def test_a_run_names_the_network(capsys, tmp_path, folders):

    name = f"hf:{folders('dinov3_vit')}"
    arguments = ("--probe", "qk,hidden-cos", "--data", "sprites", "--limit", "2", "--out", str(tmp_path))
    size = ("--set", "model.height=64", "--set", "model.width=64")
    code, printed = vcorr(capsys, "run", "--model", name, *arguments, *size)
    assert code == 0, printed
    (found,) = tmp_path.glob("*/run.json")
    rows = open_run(found.parent).read("scores").to_pylist()
    assert {(row["model"], row["attention"]) for row in rows} == {(name, "factorised")}
    code, printed = vcorr(capsys, "run", "--model", name, *arguments, "--set", "model.id=other")
    assert (code, "text after the colon" in printed) == (2, True)
    code, printed = vcorr(capsys, "board", "build", "--results", str(tmp_path), "--out", str(tmp_path / "site"))
    assert code == 0, printed


def test_the_entry_of_a_name():
    found = find_model("HF:Owner/Net", installed()).entry
    assert (found.name, found.options, found.label) == ("hf:Owner/Net", {"id": "Owner/Net"}, "model 'hf:Owner/Net'")
    assert found.create().config.id == "Owner/Net"
    assert installed().models.get("hf").entry.options == {}
