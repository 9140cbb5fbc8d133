"""Accelerators as options of a model: what they compute, what identifies their runs, and what is refused."""

import dataclasses
from contextlib import contextmanager

import diffusers
import numpy as np
import pytest
import torch
from support.pages import ROOT, read

import vcorr
from vcorr.capture.recorder import Recorder
from vcorr.cli.main import main
from vcorr.contract.errors import MissingError, PluginError, UsageError
from vcorr.contract.records import Clip, RunSettings
from vcorr.diffusion.accelerators.accelerator_names import ACCELERATORS, read_accelerators
from vcorr.diffusion.accelerators.stored_weights import NF4, EightBit, NormalFloat, round_weights
from vcorr.interventions.guidance_options import CrossFrameOptions, LayerOptions
from vcorr.interventions.guidances import CrossFrameGuidance, SkipLayerGuidance
from vcorr.probes.matching_probes import QueryKey
from vcorr.store.rundir import RunDirectory

CLIP = Clip("clip", "a red circle", np.full((3, 2), 20, np.float32))
SAMPLING = RunSettings("generate", (), num_steps=4)
CACHES = {
    "first-block-cache:threshold=0.9": lambda pipe: diffusers.FirstBlockCacheConfig(threshold=0.9),
    "pyramid-attention-broadcast:lowest=-1,highest=999": lambda pipe: diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 999),
        current_timestep_callback=lambda: pipe.current_timestep,
    ),
    "faster-cache:highest=999": lambda pipe: diffusers.FasterCacheConfig(
        spatial_attention_timestep_skip_range=(-1, 999),
        attention_weight_callback=lambda _: 0.5,
        tensor_format="BFCHW",
        current_timestep_callback=lambda: pipe.current_timestep,
    ),
    "mag-cache:threshold=9,ratios=1/0.9": lambda pipe: diffusers.MagCacheConfig(
        threshold=9, num_inference_steps=4, mag_ratios=[1.0, 0.9]
    ),
    "taylorseer:lite=true,every=2,first=2": lambda pipe: diffusers.TaylorSeerCacheConfig(
        cache_interval=2, disable_cache_before_step=2, use_lite_mode=True, taylor_factors_dtype=torch.float32
    ),
}


def load(accelerate="none", name="cogvideox", **options):
    entry = next(found.entry for found in vcorr.installed().models.all() if found.entry.name == name)
    model = entry.create(entry.config_type()(**{**entry.check, "accelerate": accelerate, **options}))
    model.check_loading("cpu", "float32")
    model.load("cpu", "float32", "random")
    return model


def sample(model, settings=SAMPLING):
    return model.run(CLIP, settings, Recorder({}, CLIP.queries))


@pytest.fixture(scope="module")
def plain():
    return load()


@pytest.fixture(scope="module")
def video(plain):
    return sample(plain)


class Spy:
    """Keeps what a probe sees at every layer."""

    needs = frozenset({"q", "out"})

    def __init__(self):
        self.seen = {}

    def read(self, capture, queries):
        self.seen[capture.site.layer] = (capture.q.clone(), capture.out.clone())
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def read_all(model, video):
    """Returns q and the attention output by layer, in one pass."""
    spy = Spy()
    model.run(CLIP.with_video(video), RunSettings(steps=(2,), num_steps=4), Recorder({"spy": spy}, CLIP.queries))
    return spy.seen


# ------------------------------------------------------------------------------------------------------------ caches


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # inside FasterCache of diffusers
@pytest.mark.parametrize("text", list(CACHES))
def test_a_cache_gives_the_video_that_diffusers_gives_and_begins_empty_for_each_video(text, plain, video):
    denoiser = plain.pipe.transformer
    grid = plain.grid(CLIP, None)
    with torch.no_grad(), enabled(denoiser, CACHES[text](plain.pipe)):
        call = plain.call(CLIP, grid, SAMPLING, "np")
        expected = np.rint(np.asarray(plain.pipe(**call).frames[0]) * 255).astype(np.uint8)
    assert (expected != video).any()  # the cache skips something
    model = load(text)
    assert [np.array_equal(sample(model), expected) for _ in range(2)] == [True, True]
    assert not model.pipe.transformer.is_cache_enabled


@contextmanager
def enabled(denoiser, config):
    denoiser.enable_cache(config)
    try:
        yield
    finally:
        denoiser.disable_cache()


def test_taylorseer_finds_attention_and_feed_forward_layers(video):
    assert (sample(load("taylorseer:every=2,first=2")) != video).any()


def test_a_cache_is_refused_where_attention_is_read_or_steps_stand_alone():
    model = load("first-block-cache")
    with pytest.raises(UsageError, match="each of its passes stands alone") as alone:
        model.check_settings(RunSettings("renoise", (0,), num_steps=4))
    assert "vcorr study accelerators" in alone.value.hint
    recorder = Recorder({"qk": QueryKey()}, CLIP.queries)
    with pytest.raises(UsageError, match="skips attention in some steps, so probes cannot read it"):
        model.run(CLIP, RunSettings("generate", (3,), num_steps=4), recorder)
    assert not model.pipe.transformer.is_cache_enabled


def test_a_network_without_such_blocks_is_refused_by_name():
    with pytest.raises(UsageError, match="UNet3DConditionModel"):
        load("first-block-cache", name="modelscope")


# ----------------------------------------------------------------------------------------------------------- windows


def test_a_window_changes_what_later_layers_see_and_a_wide_one_nothing(plain, video):
    whole, own, wide = (
        read_all(model, video) for model in (plain, load("windowed:frames=0"), load("windowed:frames=9"))
    )
    for layer, (q, out) in whole.items():
        assert torch.allclose(out, wide[layer][1], atol=1e-4)
        assert torch.equal(q, own[layer][0]) == (layer == 0)  # the first layer's queries are the model's own
        assert not torch.allclose(out, own[layer][1], atol=1e-4)


def test_a_window_covers_the_frames_of_the_clip_that_is_read(plain):
    model = load("windowed:frames=9")
    short = CLIP.with_video(np.random.default_rng(0).integers(0, 255, (5, 64, 96, 3), np.uint8))
    short = vcorr.fit_clip(short, model.grid(short, None)).video
    outputs = [read_all(each, short) for each in (plain, model)]
    assert all(torch.allclose(a[1], b[1], atol=1e-4) for a, b in zip(*(o.values() for o in outputs), strict=True))


def test_an_interrupted_pass_leaves_no_window_behind(video):
    model = load("windowed:frames=0")

    def interrupt(module, args):
        raise KeyboardInterrupt

    before = torch.nn.functional.scaled_dot_product_attention
    handle = model.pipe.transformer.proj_out.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_all(model, video)
    handle.remove()
    read_all(model, video)
    assert torch.nn.functional.scaled_dot_product_attention is before


# ----------------------------------------------------------------------------------------------------------- weights


def test_fp8_weights_are_stored_in_eight_bits_and_computed_as_their_rounded_values(plain, video):
    model = load("fp8")
    stored = {n: p for n, p in model.pipe.transformer.named_parameters() if p.dtype == torch.float8_e4m3fn}
    assert any("attn1.to_q" in name for name in stored)
    rounded = load()
    for name, parameter in rounded.pipe.transformer.named_parameters():
        if name in stored:
            parameter.data = parameter.data.to(torch.float8_e4m3fn).float()
    assert np.array_equal(sample(model), sample(rounded))


@pytest.mark.parametrize(("kind", "levels"), [(EightBit, 255), (NormalFloat, 16)])
@pytest.mark.parametrize("block", [0, 8])
def test_rounded_weights_are_the_nearest_values_of_each_block(kind, levels, block):
    torch.manual_seed(0)
    layer = torch.nn.Linear(20, 6)
    before = layer.weight.detach().clone()
    accelerator = kind(block=block)
    round_weights(layer, accelerator._round, block)
    values = np.arange(-127, 128) / 127 if levels == 255 else np.array(NF4)
    for row, own in zip(before.numpy(), layer.weight.detach().numpy(), strict=True):
        for start in range(0, 20, block or 20):
            part = row[start : start + (block or 20)]
            scale = np.abs(part).max()
            expected = [values[np.abs(values - x / scale).argmin()] * scale for x in part]
            assert np.allclose(own[start : start + (block or 20)], expected, atol=1e-6)
    again = layer.weight.detach().clone()
    round_weights(layer, accelerator._round, block)
    assert torch.allclose(layer.weight, again, atol=1e-6)


def test_a_package_that_quantises_gets_its_configuration_while_the_weights_are_loaded(monkeypatch):
    monkeypatch.setattr("vcorr.diffusion.accelerators.stored_weights._is_installed", lambda name: True)
    monkeypatch.setattr(diffusers, "BitsAndBytesConfig", dict)
    monkeypatch.setattr(diffusers, "PipelineQuantizationConfig", dict)
    given = read_accelerators("nf4:by=bitsandbytes").loading(("transformer",), torch.bfloat16)
    config = given["quantization_config"]["quant_mapping"]["transformer"]
    assert config == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }
    with pytest.raises(UsageError, match="were not loaded so"):
        load("nf4:by=bitsandbytes")  # random weights are not loaded


# ---------------------------------------------------------------------------------------------------------- schedule


def test_another_spacing_samples_at_other_steps(plain):
    model = load("spacing:how=linspace")
    own, other = (each.schedule(5, each.grid(CLIP, None)).timesteps.tolist() for each in (plain, model))
    assert own != other
    assert len(own) == len(other)


def test_a_scheduler_without_spacing_is_refused():
    with pytest.raises(UsageError, match="has no timestep spacing"):
        load("spacing", name="ltx-video")


# ------------------------------------------------------------------------------------------------ names and identity


def test_an_accelerator_is_part_of_the_identity_and_none_is_not(plain):
    assert "accelerate" not in plain.weights_id("random")
    assert load("int8+spacing").weights_id("random") == plain.weights_id("random") + "+accelerate:int8+spacing"


def test_every_accelerator_can_be_named_and_has_a_title():
    for name in ACCELERATORS:
        (one,) = read_accelerators(name).each
        assert one.title


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("windwed", UsageError, "Did you mean 'windowed'"),
        ("windowed:frame=1", UsageError, "Did you mean 'frames'"),
        ("windowed:frames=many", UsageError, "windowed:frames: expected a whole number, got 'many'"),
        ("windowed:frames=-1", UsageError, "expected a whole number, at least 0, got -1"),
        ("first-block-cache:threshold=nan", UsageError, "expected a number, at least 0, got nan"),
        ("mag-cache:ratios=1/x", UsageError, "numbers separated by '/', got '1/x'"),
        ("int8:by=me", UsageError, "int8:by must be one of simulated, bitsandbytes"),
        ("fp8+", UsageError, "Unknown accelerator"),
        ("support.accelerators:NoOptions", PluginError, "must be a dataclass that inherits from"),
        ("support.nowhere:X", PluginError, "cannot be imported"),
    ],
)
def test_a_wrong_name_or_option_is_one_clear_error(text, error, words):
    with pytest.raises(error, match=words.replace("'", ".")):
        read_accelerators(text)


def test_a_guidance_does_not_perturb_attention_that_an_accelerator_computes():
    model = load("windowed:frames=0")
    attention, blocks = (
        dataclasses.replace(SAMPLING, guidance=guidance)
        for guidance in (CrossFrameGuidance(CrossFrameOptions(layers="1")), SkipLayerGuidance(LayerOptions(layers="1")))
    )
    some_heads = dataclasses.replace(SAMPLING, guidance=CrossFrameGuidance(CrossFrameOptions(layers="0-1", heads="0")))
    for settings, layers in ((attention, "1"), (some_heads, "0,1")):
        with pytest.raises(UsageError, match="attention itself, so a guidance cannot perturb it, nor some of") as error:
            model.check_settings(settings)
        assert f"--guidance slg --layers {layers}" in str(error.value)
    model.check_settings(blocks)
    assert (sample(model, blocks) != sample(model)).any()


def test_what_a_model_or_a_computer_lacks_is_named_before_anything_is_loaded():
    with pytest.raises(MissingError, match="needs the package no-such-package") as missing:
        load("support.accelerators:Missing")
    assert missing.value.hint == "pip install no-such-package"
    with pytest.raises(UsageError, match=r"windowed needs attention over the whole video; .* has factorised attention"):
        load("windowed", name="latte")


def test_an_accelerator_of_a_plugin_is_named_by_its_import_string(video):
    model = load("support.accelerators:Silent:value=0.5")
    assert model.pipe.transformer.proj_out.bias.unique().tolist() == [0.5]
    assert (sample(model) != video).any()


def test_an_accelerated_run_is_a_run_of_its_own(tmp_path, capsys):
    command = ["run", "--model", "cogvideox", "--weights", "random", "--set", "model.size=small", "--probe", "qk"]
    command += ["--data", "sprites", "--limit", "1", "--steps", "last", "--layers", "0", "--out", str(tmp_path)]

    def run(*more):
        with pytest.raises(SystemExit) as ended:
            main([*command, *more])
        return ended.value.code, " ".join(capsys.readouterr().err.split())

    assert run()[0] == run("--set", "model.accelerate=windowed:frames=0")[0] == 0
    runs = [RunDirectory(path.parent).record() for path in tmp_path.glob("*/run.json")]
    ends = sorted(run["resolved"]["weights"].partition("+")[2] for run in runs)
    assert ends == ["", "accelerate:windowed:frames=0"]
    code, said = run("--set", "model.accelerate=first-block-cache")
    assert code == 2
    assert "each of its passes stands alone" in said


def test_the_page_lists_every_accelerator_with_its_options_and_defaults():
    lines = [line for line in read(ROOT / "docs/accelerators.md").splitlines() if line.startswith("| `")]
    for name in ACCELERATORS:
        row = next(line for line in lines if line.startswith(f"| `{name}` |"))
        (one,) = read_accelerators(name).each
        for field in dataclasses.fields(one):
            default = getattr(one, field.name)
            assert f"{field.name}={str(default).lower() if isinstance(default, bool) else default}" in row
