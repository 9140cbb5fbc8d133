"""Tests CogVideoX through its adapter, at sizes that a CPU runs in a second."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline
from vcorr_cogvideox import plugin

from vcorr import CaptureError, Clip, MissingError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.diffusion import VideoConfig
from vcorr.functional import match
from vcorr.testing import assert_passed, check_model

ENTRY = plugin.vcorr_models()[0]
SMALL = VideoConfig(size="small")


class QueryKey:
    needs = frozenset({"q", "k"})

    def read(self, capture, queries):
        return {-1: match(capture.q, capture.k, capture.grid, queries)}


class Stop(Exception):  # noqa: N818
    """Ends a pipeline at its first forward pass."""


def make_clip(clip_id="clip", frames=9):
    video = np.random.default_rng(0).integers(0, 256, (frames, 64, 96, 3), dtype=np.uint8)
    queries = np.array([[10.5, 20.5], [70.25, 40.0], [0, 64]], dtype=np.float32)
    return Clip(id=clip_id, prompt="a red disk", queries=queries, video=video)


def run(model, steps, clip=None, seed=42):
    """Returns the predictions, and the arguments of every forward pass."""
    clip, calls = clip or make_clip(), []
    hook = model.pipe.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(kwargs), with_kwargs=True
    )
    recorder = Recorder({"qk": QueryKey()}, clip.queries)
    try:
        model.run(clip, RunSettings("renoise", steps, 50, seed), recorder)
    finally:
        hook.remove()
    return recorder.predictions, calls


def pipelines_call(pipe, **arguments):
    """Returns the arguments of the first forward pass that the pipeline itself makes."""
    seen = {}

    def stop(module, args, kwargs):
        seen.update(kwargs)
        raise Stop

    hook = pipe.transformer.register_forward_pre_hook(stop, with_kwargs=True)
    with pytest.raises(Stop):
        pipe(height=64, width=96, num_frames=9, num_inference_steps=50, guidance_scale=1.0, **arguments)
    hook.remove()
    return seen


def assert_same_call(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if isinstance(value, tuple):
            assert all(torch.equal(a, b) for a, b in zip(value, theirs[name], strict=True)), name
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, theirs[name]), name
        else:
            assert value == theirs[name], name


@pytest.fixture(scope="module")
def model():
    model = ENTRY.create(SMALL)
    model.load("cpu", "float32", "random")
    return model


def test_the_2b_is_described_without_loading_anything():
    entry = plugin.vcorr_models()[0]
    model = entry.create()
    sites = model.sites()
    assert (entry.name, model.steps, len(sites)) == ("cogvideox", 50, 30)
    assert (sites[17].name, sites[17].heads, sites[17].attention) == ("transformer_blocks.17.attn1", 30, "full3d")
    video = np.zeros((49, 480, 720, 3), dtype=np.uint8)
    grid = model.grid(dataclasses.replace(make_clip(), video=video), sites[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride) == (13, 30, 45, (16, 16))
    assert (grid.video_frames, grid.temporal_ratio, grid.causal) == (49, 4, True)
    assert grid.tokens == 17550


def test_a_prediction_for_every_site_step_and_probe(model):
    predictions, calls = run(model, (0, 25, 49))
    assert sorted((p.probe, p.layer, p.step) for p in predictions) == [
        ("qk", layer, step) for layer in (0, 1) for step in (0, 25, 49)
    ]
    assert len(calls) == 3
    assert {p.noise for p in predictions if p.step == 0} == {1.0}
    assert all(p.xy.shape == (3, 3, 2) and np.array_equal(p.xy[:, 0], make_clip().queries.xy) for p in predictions)


def test_the_noise_of_a_step_does_not_depend_on_the_other_steps_or_clips(model):
    alone, among = run(model, (25,))[1][0], run(model, (0, 25))[1]
    assert torch.equal(alone["hidden_states"], among[1]["hidden_states"])
    assert not torch.equal(alone["hidden_states"], run(model, (25,), make_clip("b"))[1][0]["hidden_states"])
    assert not torch.equal(alone["hidden_states"], run(model, (25,), seed=1)[1][0]["hidden_states"])


def test_nothing_of_the_video_is_left_at_the_first_step(model):
    other = np.zeros_like(make_clip().video)
    black = dataclasses.replace(make_clip(), video=other)
    assert torch.equal(run(model, (0,))[1][0]["hidden_states"], run(model, (0,), black)[1][0]["hidden_states"])


def test_passes_are_what_the_pipeline_makes(model):
    ours = run(model, (0,))[1][0]
    theirs = pipelines_call(model.pipe, prompt_embeds=ours["encoder_hidden_states"], latents=ours["hidden_states"])
    assert_same_call(ours, theirs)


def test_rotary_tables_are_the_pipelines():
    model = {entry.name: entry for entry in plugin.vcorr_models()}["cogvideox-5b"].create(SMALL)
    model.load("cpu", "float32", "random")
    ours = run(model, (0,))[1][0]
    theirs = pipelines_call(model.pipe, prompt_embeds=ours["encoder_hidden_states"], latents=ours["hidden_states"])
    assert ours["image_rotary_emb"][0].shape == (3 * 4 * 6, 16)
    assert_same_call(ours, theirs)


def test_latents_are_the_mean_times_the_scaling_factor(model):
    pixels = torch.from_numpy(make_clip().video).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        expected = model.pipe.vae.encode(pixels).latent_dist.mean * model.config_of("vae")["scaling_factor"]
        found = model.encode(make_clip().video)
    assert found.shape == (1, 4, 3, 8, 12)
    assert torch.equal(found, expected)


def test_a_prompt_the_text_encoder_would_cut_is_refused(folder):
    model = ENTRY.create(SMALL)
    model.load("cpu", "float32", str(folder))
    clip = dataclasses.replace(make_clip(), prompt="a red disk a red disk a")
    for mode in ("renoise", "generate"):
        with pytest.raises(UsageError, match="8 tokens; CogVideoX-2B reads 6"):
            model.run(clip, RunSettings(mode, (0,), 2), Recorder({"qk": QueryKey()}, clip.queries))
    assert model.prompt(make_clip()) == "a red disk"
    empty = ENTRY.create(dataclasses.replace(SMALL, prompt="empty"))
    empty.adopt(model.pipe, "cpu")
    assert empty.prompt(clip) == ""


def test_random_prompts_differ_by_their_text(model):
    clip = make_clip()
    one, same, other = (model.embed(prompt)["prompt_embeds"] for prompt in (clip.prompt, clip.prompt, ""))
    assert one.shape == (1, 6, 24)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_empty_prompt_ignores_the_caption():
    model = ENTRY.create(dataclasses.replace(SMALL, prompt="empty"))
    model.load("cpu", "float32", "random")
    found = run(model, (0,))[1][0]["encoder_hidden_states"]
    assert torch.equal(found, model.embed("")["prompt_embeds"])


@pytest.fixture(scope="module")
def folder(model, with_text, tmp_path_factory):
    """Returns a pipeline folder as `save_pretrained` writes it, with a small text encoder."""
    pipe = CogVideoXPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=model.pipe.vae,
        transformer=model.pipe.transformer,
        scheduler=model.pipe.scheduler,
    )
    folder = tmp_path_factory.mktemp("saved")
    with_text(pipe).save_pretrained(folder)
    return folder


def test_a_saved_pipeline_encodes_the_caption_itself(model, folder):
    loaded = ENTRY.create(SMALL)
    loaded.load("cpu", "float32", str(folder))
    assert loaded.weights_id(str(folder)).startswith("path:")
    ours = run(loaded, (0,))[1][0]
    assert_same_call(
        ours,
        pipelines_call(loaded.pipe, prompt="a red disk", latents=ours["hidden_states"], max_sequence_length=6),
    )
    assert torch.equal(ours["hidden_states"], run(model, (0,))[1][0]["hidden_states"])


def test_loading_is_quiet_and_keeps_the_progress_bars_as_they_were(folder, capfd):
    from diffusers.utils import logging

    ENTRY.create(SMALL).load("cpu", "float32", str(folder))
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def test_weights_of_other_sizes_bring_their_sizes_along(folder):
    other = ENTRY.create(VideoConfig(height=64, width=96, frames=9))
    assert (len(other.sites()), other.compression.spatial) == (30, 8)
    other.load("cpu", "float32", str(folder))
    assert (len(other.sites()), other.sites()[0].heads, other.network["text_embed_dim"]) == (2, 2, 24)
    assert len(run(other, (0,))[0]) == 2


def test_a_pipeline_with_damaged_weights_is_refused(folder, tmp_path):
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UsageError, match="cannot be loaded as a CogVideoXPipeline"):
        ENTRY.create(SMALL).load("cpu", "float32", str(damaged))


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, MissingError, r"needs a package (.|\n)*bitsandbytes"),
        ({"quant_method": "unheard of"}, UsageError, "cannot be loaded as a CogVideoXPipeline"),
        ("text", UsageError, "cannot be loaded as a CogVideoXPipeline"),
    ],
)
def test_quantised_weights_that_cannot_be_read_are_one_error(settings, error, reason, folder, tmp_path):
    import shutil

    quantised = tmp_path / "quantised"
    shutil.copytree(folder, quantised)
    file = quantised / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": settings}))
    with pytest.raises(error, match=reason):
        ENTRY.create(SMALL).load("cpu", "float32", str(quantised))


def test_missing_weights_are_reported_without_torch(tmp_path):
    code = (
        "import sys\n"
        "from vcorr.contract.errors import MissingError\n"
        "from vcorr_cogvideox.plugin import vcorr_models\n"
        "model = vcorr_models()[0].create()\n"
        "assert len(model.sites()) == 30\n"
        "try:\n"
        "    model.weights_id('hub')\n"
        "except MissingError as error:\n"
        "    print(error, error.exit_code)\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path)}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    for part in ("CogVideoX-2B", "13.8 GB", "hf download zai-org/CogVideoX-2b --revision 1137dac", "--weights random"):
        assert part in done.stdout
    assert done.stdout.rstrip().endswith("4")


def test_loading_without_weights_in_reach(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match="zai-org/CogVideoX-2b"):
        ENTRY.create().load("cpu", "float32", "hub")


def test_the_adapter_passes_the_contract_of_models():
    assert_passed(check_model(ENTRY, make_clip(), config=SMALL, plugin="vcorr_cogvideox.plugin", text_tokens=6))


def test_another_number_of_text_tokens_than_the_network_declares_is_refused(monkeypatch):
    model = ENTRY.create(SMALL)
    model.load("cpu", "float32", "random")
    assert model.layout().text_tokens == model.network["max_text_seq_length"]
    monkeypatch.setattr(type(model), "text_tokens", property(lambda self: 5))
    with pytest.raises(CaptureError, match=r"the text, of which the layout declares 5"):
        run(model, (1,))
