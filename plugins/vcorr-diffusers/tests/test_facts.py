"""Tests the facts about the models: cards, released sizes, sizes that do not fit, weights that are missing."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
import vcorr_diffusers
from vcorr_diffusers import plugin

from vcorr import Clip, MissingError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.cards import load_card
from vcorr.diffusion import AuthorsConfig
from vcorr.diffusion.random_weights import component_from_config

ENTRIES = {entry.name: entry for entry in plugin.vcorr_models()}
TRUE_GRIDS = {
    "ltx-video": (21, 16, 22, 32),
    "mochi": (28, 30, 53, 16),
    "cosmos-7b": (16, 44, 80, 16),
    "cosmos-14b": (16, 44, 80, 16),
    "allegro": (22, 45, 80, 16),
    "easyanimate": (13, 24, 42, 16),
    "latte": (16, 32, 32, 16),
    "sana-video": (21, 30, 52, 16),
}
NOTHING = Clip("p", "p", np.zeros((0, 2), np.float32))


@pytest.mark.parametrize("name", ENTRIES)
def test_the_true_size_without_loading_anything(name):
    model = ENTRIES[name].create()
    grid = model.grid(NOTHING, model.sites()[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride[0]) == TRUE_GRIDS[name]
    assert grid.causal == (name != "allegro")


@pytest.mark.parametrize("name", ENTRIES)
def test_cards_agree_with_the_configurations(name):
    entry = ENTRIES[name]
    card, model = load_card(entry.card, entry.label), entry.create()
    assert card.name == name
    assert (model.config.height, model.config.width, model.config.frames) == (*card.resolution, card.frames)
    assert (card.extra["layers"], card.extra["heads"]) == (len(model.sites()), model.network["num_attention_heads"])
    assert card.extra["head_dim"] == model.network["attention_head_dim"]
    assert card.extra["text_tokens"] == (0 if model.text == "none" else model.encoding.tokens)
    pack, vae = model.compression, card.extra["vae"]
    assert (vae["temporal"], vae["height"], vae["causal"]) == (pack.temporal, pack.spatial, pack.causal)
    assert {site.attention for site in model.sites()} == {card.attention}
    with torch.device("meta"):
        transformer = component_from_config("transformer", model.network)
    assert card.parameters == sum(p.numel() for p in transformer.parameters())


def small_ltx(**options):
    """Returns LTX-Video at its small size."""
    return ENTRIES["ltx-video"].create(AuthorsConfig(size="small", **options))


@pytest.mark.parametrize("name", ENTRIES)
def test_missing_weights_are_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = load_card(ENTRIES[name].card, name)
    with pytest.raises(MissingError, match=f"hf download {card.hub_id}"):
        ENTRIES[name].create().weights_id("hub")


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("ltx-video", {"height": 500}, r"480 and 512"),
        ("ltx-video", {"frames": 160}, r"153 and 161"),
        ("mochi", {"frames": 84}, r"79 and 85"),
        ("cosmos-7b", {"height": 2000}, r"to 1920(.|\n)*nearest: 1920"),
        ("cosmos-7b", {"frames": 1025}, r"9 to 1017(.|\n)*nearest: 1017"),
        ("allegro", {"frames": 90}, r"24 and more, in steps of 16(.|\n)*88 and 104"),
        ("allegro", {"height": 700}, r"320 and more, in steps of 200(.|\n)*520 and 720"),
        ("allegro", {"width": 1000}, r"800 and 1040"),
        ("easyanimate", {"width": 500}, r"496 and 512"),
        ("sana-video", {"height": 496}, r"480 and 512"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_nearest_that_do(name, options, reason):
    entry = ENTRIES[name]
    with pytest.raises(UsageError, match=reason):
        entry.create(entry.config_type()(**options)).grid(NOTHING, None)


@pytest.mark.parametrize(("frames", "read"), [(200, 88), (87, 72), (24, 24)])
def test_allegro_reads_what_its_tiles_cover(frames, read):
    clip = Clip("c", "", np.zeros((0, 2), np.float32), np.zeros((frames, 4, 4, 3), np.uint8))
    assert ENTRIES["allegro"].create().grid(clip, None).video_frames == read


def test_a_clip_too_short_is_refused():
    clip = Clip("c", "", np.zeros((0, 2), np.float32), np.zeros((23, 4, 4, 3), np.uint8))
    with pytest.raises(UsageError, match="Clip c has 23 frames; Allegro needs at least 24"):
        ENTRIES["allegro"].create().grid(clip, None)


def test_latte_takes_one_number_of_frames():
    clip = Clip("c", "", np.zeros((0, 2), np.float32), np.zeros((15, 4, 4, 3), np.uint8))
    with pytest.raises(UsageError, match="needs at least 16"):
        ENTRIES["latte"].create().grid(clip, None)


def test_latte_attends_over_space_and_over_time_in_turn():
    sites = ENTRIES["latte"].create().sites()
    assert [site.factorised.kind for site in sites] == ["spatial", "temporal"] * 28
    assert [site.layer for site in sites] == list(range(56))
    assert sites[3].name == "temporal_transformer_blocks.1.attn1"


def test_cosmos_says_what_its_padding_mask_needs(monkeypatch):
    monkeypatch.setattr("vcorr_diffusers.cosmos.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"torchvision(.|\n)*model\.size=small"):
        ENTRIES["cosmos-7b"].create().load("cpu", "float32", "random")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_cosmos_in_half_precision_on_a_cpu_is_refused_before_loading(dtype):
    entry = ENTRIES["cosmos-7b"]
    small = entry.create(entry.config_type()(size="small"))
    with pytest.raises(UsageError, match=rf"cannot encode videos in {dtype} on a CPU(.|\n)*model\.vae_dtype=float32"):
        small.check_loading("cpu", dtype)
    small.check_loading("cuda", dtype)
    entry.create(entry.config_type()(size="small", vae_dtype="float32")).check_loading("cpu", dtype)


@pytest.mark.parametrize("name", ["ltx-video", "mochi"])
def test_one_step_is_too_few_for_some_schedules(name):
    with pytest.raises(UsageError, match="no noise levels for fewer than 2 steps"):
        ENTRIES[name].create().check_settings(RunSettings("renoise", (0,), 1))
    ENTRIES[name].create().check_settings(RunSettings("renoise", (0,), 2))


# ------------------------------------------------------------------------------------------------ weights from a folder


@pytest.fixture(scope="module")
def folder(with_text, tmp_path_factory):
    """Returns a folder of a small LTX-Video with a text encoder, as `hf download` would write it."""
    model = small_ltx()
    model.load("cpu", "float32", "random")
    folder = tmp_path_factory.mktemp("ltx")
    with_text(model.pipe).save_pretrained(folder)
    return folder


def test_weights_from_a_folder_encode_the_prompt_themselves_in_both_modes(folder):
    model = small_ltx()
    model.load("cpu", "bfloat16", str(folder))
    clip = Clip("c", "a red disk", np.array([[4, 4]], np.float32), np.zeros((17, 64, 96, 3), np.uint8))
    seen = []
    model.pipe.transformer.register_forward_hook(lambda m, a, kwargs, _: seen.append(kwargs), with_kwargs=True)
    for mode in ("renoise", "generate"):
        recorder = Recorder({"still": Still()}, clip.queries)
        model.run(clip, RunSettings(mode, (0,), 2), recorder)
        assert len(recorder.predictions) == 2
    ours, pipelines = (seen[0], seen[1])
    assert torch.equal(ours["encoder_hidden_states"][0], pipelines["encoder_hidden_states"][1])
    assert ours["encoder_attention_mask"][0].sum() == 4
    assert {p.dtype for p in model.pipe.transformer.parameters()} == {torch.bfloat16}


def test_a_prompt_the_text_encoder_would_cut_is_refused(folder):
    model = small_ltx()
    model.load("cpu", "float32", str(folder))
    with pytest.raises(UsageError, match="129 tokens; LTX-Video reads 128"):
        model.prompt(Clip("c", "a red disk a" * 32, np.zeros((0, 2), np.float32)))


def test_weights_of_other_sizes_bring_their_sizes_along(folder):
    released = ENTRIES["ltx-video"].create(AuthorsConfig(height=64, width=96, frames=17))
    assert (len(released.sites()), released.sites()[0].heads) == (28, 32)
    assert released.weights_id(str(folder)).startswith("path:")  # nothing is loaded yet
    assert (len(released.sites()), released.sites()[0].heads) == (2, 2)
    released.load("cpu", "float32", str(folder))
    assert (len(released.sites()), released.network["caption_channels"]) == (2, 16)


class Still:
    needs = frozenset({"q"})

    def read(self, capture, queries):
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


# --------------------------------------------------------------------------------------------------------- thirty lines


def test_ltx_is_about_thirty_lines():
    """Counts the lines with the rotary layout, which a model need not declare; without it there are twenty."""
    source = (Path(vcorr_diffusers.__file__).parent / "ltx.py").read_text(encoding="utf-8")
    assert len(lines_of_code(source)) <= 31


def lines_of_code(source):
    """Returns the numbers of the lines that are neither empty, nor comment, nor docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    return [
        number
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#") and number not in docstrings
    ]
