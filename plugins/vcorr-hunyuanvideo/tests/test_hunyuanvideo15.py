"""Tests HunyuanVideo 1.5 through its adapter, at sizes that a CPU runs in a second."""

import dataclasses

import numpy as np
import pytest
import torch
from vcorr_hunyuanvideo import plugin
from vcorr_hunyuanvideo.model15 import HunyuanVideo15Config

from vcorr import Clip, MissingError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.cards import load_card
from vcorr.diffusion.random_weights import component_from_config
from vcorr.probes.attention_probe import Attention
from vcorr.testing import assert_passed, check_model, check_passes, find_impulse, make_local

ENTRIES = {entry.name: entry for entry in plugin.vcorr_models() if "1.5" in entry.name}
ENTRY = ENTRIES["hunyuanvideo-1.5"]
SMALL = HunyuanVideo15Config(size="small")
TEXT = 1000 + 256 + 729  # of the prompt, of its quoted words, of an image
NUM_STEPS = 3
NO_CLIP = Clip("p", "p", np.zeros((0, 2), np.float32))


def load(dtype="float32", **options):
    model = ENTRY.create(dataclasses.replace(SMALL, **options))
    model.load("cpu", dtype, "random")
    return model


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.mark.parametrize("name", ENTRIES)
def test_cards_agree_with_the_configurations(name):
    entry = ENTRIES[name]
    model, card = entry.create(), load_card(entry.card, entry.label)
    assert (card.name, model.card, len(card.revision)) == (name, entry.card, 40)
    assert (model.config.height, model.config.width, model.config.frames) == (*card.resolution, card.frames)
    assert (card.extra["layers"], card.extra["heads"]) == (len(model.sites()), model.network["num_attention_heads"])
    assert card.extra["text_tokens"] == TEXT
    assert f"shift {model.config_of('scheduler')['shift']:g}," in card.extra["scheduler"]
    assert card.extra["guidance"].endswith(f"; {model.config_of('guider')['guidance_scale']:g}")
    with torch.device("meta"):
        transformer = component_from_config("transformer", model.network)
    assert card.parameters == sum(p.numel() for p in transformer.parameters())


def test_the_true_size_is_described_without_loading_anything():
    model = ENTRY.create()
    grid = model.grid(NO_CLIP, model.sites()[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride, grid.causal) == (31, 30, 53, (16, 16), True)
    assert (len(model.sites()), model.sites()[53].name) == (54, "transformer_blocks.53.attn")


def test_both_modes(model, run, make_clip):
    clip = make_clip()
    for mode, passes in (("renoise", 1), ("generate", 2)):
        done = run(model, clip, RunSettings(mode, (0, 2), NUM_STEPS))
        assert sorted((p.layer, p.step) for p in done.predictions) == [(x, s) for x in (0, 1) for s in (0, 2)]
        assert {p.grid for p in done.predictions} == {model.grid(clip, None)}
        assert len(done.calls) == passes * {"renoise": 2, "generate": NUM_STEPS}[mode]
    assert (done.video.shape, done.video.dtype) == (clip.video.shape, np.uint8)
    assert "step" not in vars(model.pipe.scheduler)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("hunyuanvideo-1.5", "float32"),
        pytest.param("hunyuanvideo-1.5", "bfloat16", marks=pytest.mark.slow),
        *(pytest.param(name, "float32", marks=pytest.mark.slow) for name in ENTRIES if name != "hunyuanvideo-1.5"),
    ],
)
def test_renoise_passes_are_what_the_pipeline_makes(name, dtype, make_clip):
    clip = make_clip(prompt='a sign that says "red disk"')
    assert_passed(check_passes(ENTRIES[name], clip, config=SMALL, dtype=dtype))


@pytest.mark.parametrize(("flow_shift", "shift"), [(None, 5), (3.0, 3)])
def test_noise_levels_are_the_shifted_sigmas(flow_shift, shift):
    model = load(flow_shift=flow_shift)
    even = 1 - np.arange(30) / 30
    assert np.allclose(model.schedule(30, model.grid(NO_CLIP, None)).noise, shift * even / (1 + (shift - 1) * even))


def test_the_video_is_the_pipelines_own(model, run, make_clip):
    clip = make_clip()
    video = run(model, clip, RunSettings("generate", (1,), NUM_STEPS, seed=7, cfg=3.0)).video
    output = model.pipe(
        **model.call_inputs(clip, model.grid(clip, None)) | {"guidance_scale": 3.0},
        height=64,
        width=96,
        num_frames=9,
        num_inference_steps=NUM_STEPS,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    )
    assert np.array_equal(video, np.rint(output.frames[0] * 255).astype(np.uint8))
    assert model.pipe.guider.guidance_scale == 6.0


def test_the_conditional_pass_is_the_one_that_is_read(model, run, make_clip):
    clip = make_clip()
    guided = run(model, clip, RunSettings("generate", (0,), 2))
    alone = run(model, clip, RunSettings("generate", (0,), 2, cfg=1.0))
    cond, uncond = (call["encoder_hidden_states"] for call in guided.calls[:2])
    assert torch.equal(cond, model.call_inputs(clip, model.grid(clip, None))["prompt_embeds"])
    assert not torch.equal(cond, uncond)
    for key, seen in guided.captures.items():
        assert torch.equal(seen["q"], alone.captures[key]["q"])
    other = run(model, dataclasses.replace(clip, prompt=""), RunSettings("generate", (0,), 2, cfg=1.0))
    assert not torch.equal(other.captures[1, 0]["q"], alone.captures[1, 0]["q"])


@pytest.mark.parametrize(
    ("prompt", "real"), [("a red disk", 4), ("", 1), ('it says "red"', 4 + 2), ("word " * 1100, 1000)]
)
def test_text_is_repacked_and_its_padding_known_to_the_probes(model, run, make_clip, prompt, real):
    """Checks the order of text tokens: quoted words, then the prompt, then padding; there is no image."""
    done = run(model, make_clip(prompt=prompt), RunSettings("renoise", (2,), NUM_STEPS))
    for seen in done.captures.values():
        assert seen["k_text"].shape[1] == TEXT
        assert seen["key_mask"].tolist() == [True] * real + [False] * (TEXT - real)


def test_attention_rows_can_be_read(model, make_clip):
    clip = make_clip()
    recorder = Recorder({"attention": Attention()}, clip.queries)
    model.run(clip, RunSettings("renoise", (2,), NUM_STEPS), recorder)
    for rows in recorder.rows:
        assert np.allclose(rows.sum_cross + rows.sum_self + rows.sum_text, 1, atol=1e-5)


def test_the_contract_of_models(make_clip):
    for mode in ("renoise", "generate"):
        report = check_model(
            ENTRY,
            make_clip(5, 32, 32, queries=np.array([[10.5, 20.5], [0, 32]], dtype=np.float32)),
            config=dataclasses.replace(SMALL, height=32, width=32, frames=5),
            settings=RunSettings(mode, (0, 1), 2),
            text_tokens=TEXT,
        )
        assert_passed(report)


def test_an_impulse_in_pixels_is_found_at_its_token(make_clip):
    model = load()
    make_local(model.pipe.vae)
    for token in ((0, 0, 0), (1, 2, 4), (2, 3, 5)):
        assert find_impulse(model, make_clip(), token, step=NUM_STEPS - 1, num_steps=NUM_STEPS) == token


def test_a_saved_pipeline_is_loaded_again(model, run, make_clip, tmp_path):
    from transformers import (
        ByT5Tokenizer,
        Qwen2_5_VLTextConfig,
        Qwen2_5_VLTextModel,
        Qwen2Tokenizer,
        T5Config,
        T5EncoderModel,
    )

    words = ["<|endoftext|>", "a", "r", "e", "d"]
    qwen = Qwen2_5_VLTextConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
    )
    byt5 = T5Config(
        vocab_size=384, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, is_encoder_decoder=False, use_cache=False
    )
    pipe = load().pipe
    pipe.register_modules(
        tokenizer=Qwen2Tokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[]),
        text_encoder=Qwen2_5_VLTextModel(qwen).eval(),
        tokenizer_2=ByT5Tokenizer(),
        text_encoder_2=T5EncoderModel(byt5).eval(),
    )
    pipe.save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text(index.read_text().replace("GuidedPipeline", "HunyuanVideo15Pipeline"))
    again = ENTRY.create(SMALL)
    again.load("cpu", "float32", str(tmp_path))
    assert again.weights_id(str(tmp_path)).startswith("path:")
    again.pipe.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (encoded,) = run(again, make_clip(prompt='it says "red"'), RunSettings("renoise", (0,), 2)).calls
    names = ("encoder_hidden_states", "encoder_attention_mask", "encoder_hidden_states_2", "encoder_attention_mask_2")
    assert [encoded[name].shape[1] for name in names] == [1000, 1000, 256, 256]
    assert int(encoded["encoder_attention_mask_2"].sum()) > 1
    released = ENTRY.create()
    assert len(released.sites()) == 54
    released.weights_id(str(tmp_path))  # afterwards the model has the sizes of these weights
    assert (len(released.sites()), released.sites()[0].heads) == (2, 2)


@pytest.mark.parametrize("name", ENTRIES)
def test_missing_weights_are_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = load_card(ENTRIES[name].card, name)
    with pytest.raises(MissingError, match=f"hf download {card.hub_id} --revision {card.revision}"):
        ENTRIES[name].create().weights_id("hub")


@pytest.mark.parametrize(("options", "reason"), [({"height": 72}, "64 and 80"), ({"frames": 7}, "5 and 9")])
def test_sizes_the_model_does_not_take(options, reason):
    with pytest.raises(UsageError, match=reason):
        ENTRY.create(dataclasses.replace(SMALL, **options)).grid(NO_CLIP, None)
