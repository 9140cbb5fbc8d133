"""`vcorr plugin new --from-pipeline`: what is learnt of a class, what is written, and whether it keeps the contract."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import types

import pytest
import torch
from click.testing import CliRunner
from support.scale import is_large

from vcorr.authoring.check.suites import check_plugin
from vcorr.authoring.check.targets import find_target
from vcorr.authoring.scaffold.names import new_names
from vcorr.authoring.scaffold.pipelines.adapter_source import pipeline_files
from vcorr.authoring.scaffold.pipelines.facts import Guess, Ratios
from vcorr.authoring.scaffold.pipelines.find import find_pipeline
from vcorr.authoring.scaffold.pipelines.learn import learn
from vcorr.authoring.scaffold.pipelines.ratio_facts import find_ratios
from vcorr.authoring.scaffold.write import write_plugin
from vcorr.cli.main import cli
from vcorr.contract.errors import UsageError
from vcorr.plugins import registry

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers' networks warn at sizes that nobody uses
learnt = functools.cache(learn)


# ------------------------------------------------------------------------------------------------------- what is learnt

SEEN = {
    "LTXPipeline": {
        "text": "none",
        "branches": ("uncond", "cond"),
        "latent_axes": "",
        "ratios": Ratios(32, 8, 1, 1, causal=True),
    },
    "WanPipeline": {"text": "none", "branches": ("cond",), "passes": (), "ratios": Ratios(8, 4, 2, 1, causal=True)},
    "CogVideoXPipeline": {"text": "before", "branches": ("uncond", "cond"), "latent_axes": "bfchw"},
    "MochiPipeline": {"text": "after", "per_sample": True, "ratios": Ratios(8, 6, 2, 1, causal=True), "steps": 64},
    "HunyuanVideoPipeline": {"text": "after", "branches": ("cond",), "embedded_guidance": True, "latent_axes": "bcfhw"},
    "HunyuanVideo15Pipeline": {"text": "after", "guider": True, "ratios": Ratios(16, 4, 1, 1, causal=True)},
    "AllegroPipeline": {"text": "none", "tiles": True, "ratios": Ratios(8, 4, 2, 1, causal=False), "steps": 100},
    "LTX2Pipeline": {"text": "none", "branches": ("uncond", "cond"), "ratios": Ratios(32, 8, 1, 1, causal=True)},
}


@pytest.mark.parametrize("name", SEEN)
def test_what_a_class_shows(name) -> None:
    facts = learnt(name)
    assert facts.unseen == ""
    assert {key: getattr(facts, key) for key in SEEN[name]} == SEEN[name]


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("LTXPipeline", {"transformer_blocks.{}.attn1": ("num_layers", ("norm_q", "norm_k", "bnc"))}),
        ("CogVideoXPipeline", {"transformer_blocks.{}.attn1": ("num_layers", None)}),  # sines, no rotary embedding
        ("AllegroPipeline", {"transformer_blocks.{}.attn1": ("num_layers", ("to_q", "to_k", "bnc"))}),
        (
            "HunyuanVideoPipeline",
            {
                "transformer_blocks.{}.attn": ("num_layers", ("norm_q", "norm_k", "bnhd")),
                "single_transformer_blocks.{}.attn": ("num_single_layers", ("norm_q", "norm_k", "bnhd")),
            },
        ),
        ("LTX2Pipeline", {"transformer_blocks.{}.attn1": ("num_layers", ("norm_q", "norm_k", "bnc"))}),  # no sound
    ],
)
def test_sites_are_the_modules_that_see_the_whole_video(name, patterns) -> None:
    assert {site.pattern: (site.layers, site.unrotated) for site in learnt(name).sites} == patterns


def test_the_width_of_a_prompt_is_read_from_configurations() -> None:
    assert learnt("LTXPipeline").prompt.width == "self.network['caption_channels']"
    second = {each.name: each.width for each in learnt("HunyuanVideo15Pipeline").prompt.arguments}
    assert second["prompt_embeds_2"] == "self.network['text_embed_2_dim']"
    assert "text_proj_in_factor" in learnt("LTX2Pipeline").prompt.width


@pytest.mark.parametrize("name", ["LTXPipeline", "LTX2Pipeline"])
def test_what_no_random_network_shows_is_a_guess(name) -> None:
    assert {"configs/", "cards/", "encode"} <= {guess.where for guess in learnt(name).guesses}


def test_latents_of_sound_are_named() -> None:
    assert "audio_hidden_states" in learnt("LTX2Pipeline").why_check("branches")


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LTXPipelin", "Did you mean 'LTXPipeline'"),
        ("LTX2VideoTransformer3DModel", "Unknown pipeline class"),
        ("FluxPipeline", r"makes no video: its call takes no number of frames"),
        ("StableVideoDiffusionPipeline", "has no transformer"),
        ("LTXImageToVideoPipeline", r"starts from its argument 'image'(.|\n)*text-to-video pipeline"),
    ],
)
def test_what_is_no_pipeline_from_text_to_video_is_refused(name, said) -> None:
    with pytest.raises(UsageError, match=said):
        find_pipeline(name)


def test_only_a_model_is_written_from_a_pipeline(tmp_path) -> None:
    arguments = ["plugin", "new", "vcorr-x", "--kind", "probe", "--from-pipeline", "LTXPipeline"]
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert done.exception.message == "--from-pipeline writes a model, not a probe."
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------- what is written


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the plugin of a pipeline and imports it; returns its folder, and a registry that has it alone."""
    made = []

    def write(pipeline: str, name: str):
        folder = write_plugin(new_names(f"vcorr-{name}", "model", registry.Registry([])), tmp_path, learnt(pipeline))
        monkeypatch.syspath_prepend(str(folder))
        # one check imports the plugin in a process of its own
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        package = f"vcorr_{name.replace('-', '_')}"
        made.append(package)
        source = registry.PluginSource(
            name,
            f"vcorr-{name}",
            "0.1.0",
            lambda: importlib.import_module(f"{package}.plugin"),
            package,
            f"{package}.plugin",
        )
        return folder, registry.Registry([source])

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in made]:
        del sys.modules[name]


def failed(name: str, found: registry.Registry) -> set[str]:
    checked = check_plugin(find_target(f"vcorr-{name}", found), found, {})
    assert checked.reports
    return {check.name for report in checked.reports for check in report.failures}


@pytest.mark.parametrize(
    "pipeline",
    [
        "LTXPipeline",
        "WanPipeline",
        pytest.param("CogVideoXPipeline", marks=pytest.mark.slow),
        pytest.param("MochiPipeline", marks=pytest.mark.slow),
        # the slowest autoencoders: the last one takes a minute
        *(["HunyuanVideoPipeline", "HunyuanVideo15Pipeline"] if is_large() else []),
    ],
)
def test_what_is_written_passes_the_check_of_plugins(pipeline, written) -> None:
    name = f"new-{pipeline.removesuffix('Pipeline').lower()}"
    _, found = written(pipeline, name)
    assert failed(name, found) == set()


def test_where_a_check_cannot_pass_the_line_to_mend_is_named(written) -> None:
    folder, found = written("AllegroPipeline", "new-allegro")
    assert failed("new-allegro", found) == {"a change of pixels is found at its token"}
    assert "# Check sizes: the autoencoder only works in tiles" in (folder / "vcorr_new_allegro/model.py").read_text()


def test_a_pipeline_that_cannot_be_run_is_written_with_everything_to_fill_in(tmp_path) -> None:
    arguments = ["plugin", "new", "vcorr-ea", "--kind", "model", "--from-pipeline", "EasyAnimatePipeline"]
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    model = (tmp_path / "vcorr-ea" / "vcorr_ea" / "model.py").read_text()
    compile(model, "model.py", "exec")
    assert "could not be examined: the components cannot be made small" in done.output
    for where in ("attention", "text", "branches", "compression", "latent_axes", "encoding"):
        line = next(number for number, text in enumerate(model.splitlines(), 1) if f"# Check {where}:" in text)
        assert f"model.py:{line} {where}: not seen" in done.output
    assert "could not be run" in (tmp_path / "vcorr-ea" / "README.md").read_text()


def test_sizes_are_files_and_the_small_ones_hold_what_changes(written) -> None:
    folder, _ = written("LTXPipeline", "new-sizes")
    configs = folder / "vcorr_new_sizes" / "configs" / "new-sizes"
    released, small = (json.loads((place / "transformer.json").read_text()) for place in (configs, configs / "small"))
    assert (released["_class_name"], released["num_layers"]) == ("LTXVideoTransformer3DModel", 28)
    assert set(small) < set(released)
    assert small["num_layers"] == 2
    assert small["cross_attention_dim"] == small["num_attention_heads"] * released["attention_head_dim"]
    assert json.loads((configs / "small" / "video.json").read_text()) == {"frames": 17, "height": 64, "width": 128}


def test_the_command_says_what_it_guessed_and_what_comes_next(tmp_path) -> None:
    arguments = ["plugin", "new", "vcorr-ltx-of-mine", "--kind", "model", "--from-pipeline", "LTXPipeline"]
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "vcorr-ltx-of-mine"
    lines = (folder / "vcorr_ltx_of_mine" / "model.py").read_text().splitlines()
    encode = next(number for number, line in enumerate(lines, 1) if "# Check encode:" in line)
    assert f"model.py:{encode} encode: latents are shifted" in done.output
    assert "vcorr plugin check vcorr-ltx-of-mine" in done.output
    readme = (folder / "README.md").read_text()
    assert all(f"| {guess.where} | {guess.what} |" in readme for guess in learnt("LTXPipeline").guesses)
    assert len(lines) < 45


@pytest.mark.parametrize("pipeline", SEEN)
def test_what_is_written_is_python_of_usual_width(pipeline) -> None:
    names = new_names("vcorr-new-thing", "model", registry.Registry([]))
    for path, text in pipeline_files(names, learnt(pipeline)):
        if path.suffix == ".py":
            compile(text, str(path), "exec")
            assert max(map(len, text.splitlines())) <= 120, path


class Tiled(torch.nn.Linear):
    """An autoencoder of 4 frames and 8 pixels per latent that lacks something until it is tiled, or for good."""

    def __init__(self, **tiling: bool) -> None:
        super().__init__(1, 1)
        self.config = types.SimpleNamespace(get=lambda name, default=None: default)
        vars(self).update(tiling)

    def enable_tiling(self) -> None:
        self.use_tiling = self.is_there = True

    def encode(self, pixels):
        if not vars(self).get("is_there"):
            raise NotImplementedError("no encoder")
        latents = torch.zeros(1, 1, 1 + (pixels.shape[2] - 1) // 4, pixels.shape[3] // 8, pixels.shape[4] // 8)
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(mode=lambda: latents))


@pytest.mark.parametrize(
    ("tiling", "is_found"), [({"use_tiling": False}, True), ({"use_tiling": True}, False), ({}, False)]
)
def test_an_autoencoder_is_tiled_only_where_that_can_be_what_it_lacks(tiling, is_found) -> None:
    config = {"patch_size": 1}
    pipe = types.SimpleNamespace(transformer=types.SimpleNamespace(config=config), vae=Tiled(**tiling))
    pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal = 8, 4
    guesses: list[Guess] = []
    assert find_ratios(pipe, guesses) == Ratios(8, 4, 1, 1, causal=True)
    assert vars(pipe.vae).get("use_tiling", False) == (is_found or tiling.get("use_tiling", False))
    assert [("NotImplementedError: no encoder" in guess.what) for guess in guesses] == ([] if is_found else [True])
