"""Tests every model on a small configuration: the contract in both modes, and the passes of its own pipeline."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BatchEncoding
from vcorr_diffusers import plugin

import vcorr
from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.capture.tap import Tap, observing
from vcorr.cli import main as program
from vcorr.probes.attention_probe import Attention
from vcorr.probes.matching_probes import QueryKeyPosition
from vcorr.testing import assert_passed, check_model, check_passes, find_impulse, make_local

NUM_STEPS = 4
TEXT_TOKENS = {"mochi": 4, "easyanimate": 256}  # Mochi reads three words and the end of the text, without padding
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # Mochi's rotary embedding asks for float32


ENTRIES = {entry.name: entry for entry in plugin.vcorr_models()}
NAMES = [name for name in ENTRIES if name != "cosmos-14b"]  # it differs from the 7B model only in sizes


def small(name, **options):
    """Returns the configuration of a model at the small size."""
    return ENTRIES[name].config_type()(**{**ENTRIES[name].check, **options})


def load(name, dtype="float32", **options):
    """Returns the model with random weights at the small size."""
    model = ENTRIES[name].create(small(name, **options))
    model.load("cpu", dtype, "random:3")
    return model


def make_clip(config, prompt="a red disk"):
    """Returns a clip of the size of a configuration."""
    shape = (config.frames, config.height, config.width, 3)
    video = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    queries = np.array([[10.5, 20.5], [40.25, 30.0]], dtype=np.float32)
    return Clip(id="clip", prompt=prompt, queries=queries, video=video)


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    """Returns every model in turn, loaded."""
    return load(request.param)


@pytest.mark.parametrize(
    ("name", "sampler"), [("allegro", "EulerAncestralDiscreteScheduler"), ("sana-video", "DPMSolverMultistepScheduler")]
)
def test_a_sampler_that_cannot_be_walked_back_is_refused_before_loading(name, sampler):
    with pytest.raises(UsageError, match=f"cannot walk back along {sampler}"):
        ENTRIES[name].create().check_settings(RunSettings("invert", (0,), NUM_STEPS))


@pytest.mark.parametrize("name", ["ltx-video", "mochi", "easyanimate"])
def test_a_sampler_that_can_be_walked_back_passes_before_loading(name):
    ENTRIES[name].create().check_settings(RunSettings("invert", (0,), NUM_STEPS))


class Keep:
    """A probe that keeps its tensors, and predicts that nothing moves."""

    needs = frozenset({"q", "k"})

    def __init__(self):
        self.q, self.text = {}, {}

    def read(self, capture, queries):
        self.q[capture.site.layer, capture.step] = capture.q.clone()
        self.text[capture.site.layer, capture.step] = capture.k_text.clone()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def run(model, clip, settings):
    """Returns the video, the probe, and the arguments of every pass."""
    calls, keep = [], Keep()
    hook = model.pipe.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append((args, kwargs)), with_kwargs=True
    )
    recorder = Recorder({"keep": keep}, clip.queries)
    try:
        video = model.run(clip, settings, recorder)
    finally:
        hook.remove()
    return video, keep, calls


def name_of(model):
    return model.model_card().name


def size_of(model, grid):
    return {"height": round(grid.height), "width": round(grid.width), model.frames_argument: grid.video_frames}


@pytest.mark.parametrize("mode", ["renoise", "generate"])
@pytest.mark.parametrize("name", NAMES)
def test_the_contract_of_models(name, mode):
    config = small(name)
    report = check_model(
        ENTRIES[name],
        make_clip(ENTRIES[name].create(config).config),
        config=config,
        settings=RunSettings(mode, (0, 2), NUM_STEPS),
        plugin="vcorr_diffusers.plugin" if mode == "renoise" else None,
        text_tokens=TEXT_TOKENS.get(name, 0),
    )
    assert_passed(report)


@pytest.mark.parametrize("name", NAMES)
def test_renoise_passes_are_what_the_pipeline_makes(name):
    config = small(name)
    assert_passed(check_passes(ENTRIES[name], make_clip(load(name).config), config=config))


def test_the_conditional_branch_is_the_conditional_one(model):
    clip, settings = make_clip(model.config), RunSettings("generate", (0,), NUM_STEPS, cfg=5.0)
    read = run(model, clip, settings)[1]
    other_prompt = run(model, dataclasses.replace(clip, prompt="blue"), settings)[1]
    given = model.call_inputs
    model.call_inputs = lambda clip, grid: (
        given(clip, grid)
        | {
            name: value + 1 if name == "negative_prompt_embeds" else value
            for name, value in given(clip, grid).items()
            if name.startswith("negative_prompt_")
        }
    )
    try:
        other_negative, calls = run(model, clip, settings)[1:]
    finally:
        del model.call_inputs
    last = (1, 0)
    assert torch.equal(read.q[last], other_negative.q[last])
    assert torch.equal(read.text[last], other_negative.text[last])
    assert not torch.equal(read.q[last], other_prompt.q[last])
    assert len(calls) == (2 * NUM_STEPS if model.passes else NUM_STEPS)


def test_the_video_is_the_pipelines_own_and_repeats(model):
    clip = make_clip(model.config)
    grid = model.grid(clip, None)
    video = run(model, clip, RunSettings("generate", (1,), NUM_STEPS, seed=7, cfg=3.0))[0]
    in_template = model.fill_template(clip, "generate")
    output = model.pipe(
        **{**model.call_inputs(in_template, grid), "guidance_scale": 3.0},
        **size_of(model, grid),
        num_inference_steps=NUM_STEPS,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    )
    assert np.array_equal(video, np.rint(output.frames[0].clip(0, 1) * 255).astype(np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_an_impulse_in_pixels_is_found_at_its_token(name):
    model = load(name)
    make_local(model.pipe.vae, causal=model.compression.causal)
    clip = make_clip(model.config)
    grid = model.grid(clip, None)
    for token in ((0, 0, 0), (1, 1, 2), (grid.frames - 1, grid.rows - 1, 0)):
        assert find_impulse(model, clip, token, NUM_STEPS - 1, NUM_STEPS) == token


def test_linear_attention_is_shown_as_it_is_computed():
    """Checks that the shown out is (q k^T) v of the shown tensors times one number per token and head, the divisor."""
    model, calls = load("sana-video"), []
    clip = make_clip(model.config)
    attentions = [site.name for site in model.sites()]
    recorder = Recorder({}, clip.queries)
    with Tap(model.pipe.transformer, attentions, observing(calls.append)):
        model.run(clip, RunSettings("renoise", (2,), NUM_STEPS), recorder)
    assert [call.name for call in calls] == attentions
    for call in calls:
        weighted = (call.q.double() @ call.k.double().transpose(-1, -2)) @ call.v.double()
        ratio = call.out.double() / weighted
        assert torch.allclose(ratio, ratio[..., :1].expand_as(ratio), rtol=1e-3)


def test_rows_of_linear_attention_are_refused():
    model = load("sana-video")
    clip = make_clip(model.config)
    recorder = Recorder({"attention": Attention()}, clip.queries)
    with pytest.raises(UsageError, match=r"linear attention, which computes none"):
        model.run(clip, RunSettings("renoise", (2,), NUM_STEPS), recorder)


def test_rows_of_mochi_leave_the_padding_out_and_positions_are_read():
    model = load("mochi")
    clip = make_clip(model.config)
    recorder = Recorder({"attention": Attention(), "position": QueryKeyPosition()}, clip.queries)
    model.run(clip, RunSettings("generate", (0,), NUM_STEPS, cfg=4.0), recorder)
    rows = recorder.rows[0]
    assert np.allclose(rows.sum_cross + rows.sum_self + rows.sum_text, 1, atol=1e-5)
    assert len(recorder.rows) == 2
    assert len(recorder.predictions) == 2


@pytest.mark.parametrize("name", ["ltx-video", "mochi", "allegro", "latte"])
def test_half_precision_tiles_slices_and_offload(name):
    model = load(name, dtype="bfloat16", vae_tiling=True, vae_slicing=True)
    assert model.pipe.vae.use_tiling
    assert model.pipe.vae.use_slicing
    model.pipe.enable_model_cpu_offload(device="cpu")  # it installs the same hooks as on a GPU
    clip = make_clip(model.config)
    for mode in ("renoise", "generate"):
        keep = run(model, clip, RunSettings(mode, (0,), 2))[1]
        assert {q.dtype for q in keep.q.values()} == {torch.bfloat16}


def test_a_notebook_records_the_users_own_pipeline(model):
    clip = make_clip(model.config)
    grid = model.grid(clip, None)
    call = {**model.call_inputs(clip, grid), **size_of(model, grid), "output_type": "latent"}
    size = (grid.video_frames, round(grid.height), round(grid.width))
    with vcorr.record(model.pipe, layout=name_of(model), probes="qk", layers=[1], size=size) as rec:
        call["guidance_scale"] = 3.0
        model.pipe(**call, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
    assert [(p.layer, p.step) for p in rec.predictions] == [(1, 0), (1, 1)]
    assert all(p.grid == grid for p in rec.predictions)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "easyanimate"])
def test_prompts_are_encoded_alike_in_both_modes(name, with_text):
    # without the authors' template, which counts in generate alone
    plain = {"prompt_template": "{}"} if name in ("allegro", "sana-video") else {}
    model = load(name, **plain)
    with_text(model.pipe)
    clip = make_clip(model.config)
    alone = run(model, clip, RunSettings("renoise", (0,), 2))[2][0][1]
    guided = run(model, clip, RunSettings("generate", (0,), 2, cfg=3.0))[2][0][1]
    for part in ("encoder_hidden_states", "encoder_attention_mask"):
        if part in alone:
            assert torch.equal(alone[part][0], guided[part][0 if model.passes else 1])
    assert not torch.equal(alone["encoder_hidden_states"], model.embed("blue")["prompt_embeds"])


class ChatTokenizer:
    """The part of Qwen's tokenizer that EasyAnimate's pipeline needs, with one token per letter."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return messages[0]["content"][0]["text"]

    def __call__(self, text, max_length, **options):
        letters = [ord(letter) % 50 for letter in text[0]][:max_length]
        ids = torch.tensor([letters + [0] * (max_length - len(letters))])
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids > 0).long()})


class ChatEncoder(torch.nn.Module):
    """An encoder with hidden states of two layers: an embedding, and zeros, which the pipeline must not use."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 16)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def forward(self, input_ids, attention_mask, output_hidden_states):
        hidden = self.embedding(input_ids)
        return SimpleNamespace(hidden_states=(hidden, torch.zeros_like(hidden)))


def test_easyanimate_reads_its_prompt_from_a_chat_in_both_modes():
    model = load("easyanimate")
    model.pipe.tokenizer, model.pipe.text_encoder = ChatTokenizer(), ChatEncoder()
    clip = make_clip(model.config)
    alone = run(model, clip, RunSettings("renoise", (0,), 2))[2][0][1]
    guided = run(model, clip, RunSettings("generate", (0,), 2, cfg=3.0))[2][0][1]
    text, pair = alone["encoder_hidden_states"], guided["encoder_hidden_states"]
    assert torch.equal(text[0], pair[1])
    assert not torch.equal(pair[0], pair[1])
    assert bool(text.any())


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"num_leyers": 1}, "Did you mean 'model.network.num_layers'"),
        ({"num_layers": "one"}, "model.network.num_layers='one' must have the type of the configured value, 2"),
        ({"num_layers": True}, "the type of the configured value, 2"),
        ({"_class_name": "WanTransformer3DModel"}, "Unknown option"),
    ],
)
def test_values_of_the_network_that_are_none_are_refused(network, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        ENTRIES["mochi"].create(small("mochi", network=network)).sites()


def test_a_value_of_the_network_is_given_on_the_command_line(capsys, tmp_path):
    run = ["run", "--model", "ltx-video", "--weights", "random", "--probe", "qk", "--steps", "last", "--limit", "1"]
    sizes = ["--set", "model.size=small", "--set", "model.network.num_layers=1"]
    with pytest.raises(SystemExit) as ended:
        program.main([*run, "--data", "sprites", *sizes, "--out", str(tmp_path), "--json"])
    out = capsys.readouterr().out
    assert ended.value.code in (0, None), out
    assert {site["layer"] for site in json.loads(out)["sites"]} == {0}


def test_weights_bring_their_own_network(tmp_path):
    load("ltx-video").pipe.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="weights that are not random bring their own sizes"):
        ENTRIES["ltx-video"].create(small("ltx-video", network={"num_layers": 1})).weights_id(str(tmp_path))
