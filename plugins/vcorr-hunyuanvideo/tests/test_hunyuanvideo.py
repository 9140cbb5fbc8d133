"""Tests HunyuanVideo through its adapter, at sizes that a CPU runs in a second."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import HunyuanVideoPipeline
from vcorr_hunyuanvideo import plugin
from vcorr_hunyuanvideo.model import TEXT_TOKENS, HunyuanVideoConfig

import vcorr
from vcorr import Clip, MissingError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.cards import load_card
from vcorr.contract.errors import CaptureError
from vcorr.diffusion.random_weights import component_from_config
from vcorr.probes.attention_probe import Attention
from vcorr.testing import assert_passed, check_model, check_passes, find_impulse, make_local

ENTRY = plugin.vcorr_models()[0]
SMALL = HunyuanVideoConfig(size="small")
NUM_STEPS = 3
NO_CLIP = Clip("p", "p", np.zeros((0, 2), np.float32))


def load(dtype="float32", **options):
    model = ENTRY.create(dataclasses.replace(SMALL, **options))
    model.load("cpu", dtype, "random")
    return model


@pytest.fixture(scope="module")
def model():
    return load()


def test_the_true_size_is_described_without_loading_anything():
    model = ENTRY.create()
    sites = model.sites()
    assert [site.layer for site in sites] == list(range(60))
    assert [sites[layer].name for layer in (0, 19, 20, 59)] == [
        "transformer_blocks.0.attn",
        "transformer_blocks.19.attn",
        "single_transformer_blocks.0.attn",
        "single_transformer_blocks.39.attn",
    ]
    assert {site.heads for site in sites} == {24}
    grid = model.grid(NO_CLIP, sites[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride, grid.causal) == (13, 30, 45, (16, 16), True)


def test_the_card_agrees_with_the_configuration():
    model, card = ENTRY.create(), load_card(ENTRY.card, ENTRY.label)
    assert (card.name, card.revision) == ("hunyuanvideo", "e8c2aaa66fe3742a32c11a6766aecbf07c56e773")
    assert card.extra["layers"] == len(model.sites())
    assert card.extra["heads"] == model.network["num_attention_heads"]
    assert card.extra["head_dim"] == model.network["attention_head_dim"] == sum(model.network["rope_axes_dim"])
    assert card.extra["text_tokens"] == TEXT_TOKENS
    pack, vae = model.compression, card.extra["vae"]
    assert (vae["temporal"], vae["height"], card.extra["patch"]["height"]) == (pack.temporal, pack.spatial, pack.patch)
    assert f"shift {model.config_of('scheduler')['shift']:g}," in card.extra["scheduler"]
    with torch.device("meta"):
        transformer = component_from_config("transformer", model.network)
    assert card.parameters == sum(p.numel() for p in transformer.parameters())


# --------------------------------------------------------------------------------------------------------------- modes


def test_every_site_of_both_kinds_is_read_in_both_modes(model, run, make_clip):
    clip = make_clip()
    for mode in ("renoise", "generate"):
        done = run(model, clip, RunSettings(mode, (0, 2), NUM_STEPS))
        assert sorted((p.layer, p.step) for p in done.predictions) == [(x, s) for x in (0, 1, 2) for s in (0, 2)]
        assert {p.layer_name for p in done.predictions} == {site.name for site in model.sites()}
        assert {p.grid for p in done.predictions} == {model.grid(clip, None)}
        assert (done.video is None) == (mode == "renoise")
    assert (done.video.shape, done.video.dtype) == (clip.video.shape, np.uint8)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "options", [{}, {"true_cfg_scale": 4.0, "negative_prompt": "blurred", "embedded_guidance": 3.0}]
)
def test_renoise_passes_are_what_the_pipeline_makes(dtype, options, make_clip):
    """Checks also the case that the pipeline runs the negative prompt as a second pass, and the dtype of every step."""
    config = dataclasses.replace(SMALL, **options)
    assert_passed(check_passes(ENTRY, make_clip(), config=config, dtype=dtype))


def test_the_strength_of_guidance_is_an_input_in_renoise_mode_as_well(run, make_clip):
    done = run(load(embedded_guidance=2.5), make_clip(), RunSettings("renoise", (0, 2), NUM_STEPS))
    assert {float(call["guidance"]) for call in done.calls} == {2500.0}


def test_the_video_is_the_pipelines_own(model, run, make_clip):
    clip = make_clip()
    done = run(model, clip, RunSettings("generate", (1,), NUM_STEPS, seed=7, cfg=3.0))
    arguments = {**model.call_inputs(clip, model.grid(clip, None)), "guidance_scale": 3.0}
    output = model.pipe(
        **arguments,
        height=64,
        width=96,
        num_frames=9,
        num_inference_steps=NUM_STEPS,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    )
    assert np.array_equal(done.video, np.rint(output.frames[0] * 255).astype(np.uint8))
    assert {float(call["guidance"]) for call in done.calls} == {3000.0}


@pytest.mark.parametrize(("flow_shift", "shift"), [(None, 7), (3.0, 3)])
def test_noise_levels_are_the_shifted_sigmas(flow_shift, shift):
    model = load(flow_shift=flow_shift)
    schedule = model.schedule(30, model.grid(NO_CLIP, None))
    even = 1 - np.arange(30) / 30
    shifted = shift * even / (1 + (shift - 1) * even)
    assert np.allclose(schedule.noise, shifted, atol=1e-6)
    assert np.allclose(schedule.timesteps.numpy(), 1000 * shifted, atol=1e-2)


def test_the_conditional_pass_is_read_under_true_guidance(run, make_clip):
    guided, clip = load(true_cfg_scale=4.0, negative_prompt="blurred and grey"), make_clip()
    settings = RunSettings("generate", (0,), 2)
    done = run(guided, clip, settings)
    assert len(done.calls) == 4  # two passes per step
    cond, uncond = done.calls[:2]
    assert not torch.equal(cond["encoder_hidden_states"], uncond["encoder_hidden_states"])
    given = guided.call_inputs(clip, guided.grid(clip, None))["prompt_embeds"]
    assert torch.equal(cond["encoder_hidden_states"], given)
    # without guidance there is only the conditional pass, and its first step starts from the same noise
    alone = run(load(), clip, settings)
    assert len(alone.calls) == 2
    for key, seen in done.captures.items():
        assert torch.equal(seen["q"], alone.captures[key]["q"])


def test_the_authors_negative_prompt_counts_under_true_guidance_only(run, make_clip):
    settings = RunSettings("generate", (0,), 2)
    guided = load(true_cfg_scale=4.0)
    text = guided.setting("negative_prompt")
    assert text.startswith("Aerial view, aerial view, overexposed")
    _, uncond = run(guided, make_clip(), settings).calls[:2]
    assert torch.equal(uncond["encoder_hidden_states"], guided._random_text(text)["prompt_embeds"])
    assert guided.own_settings(settings).values["negative_prompt"] == text
    for others in ({}, {"true_cfg_scale": 4.0, "negative_prompt": ""}):
        assert "negative_prompt" not in load(**others).own_settings(settings).values


def test_the_contract_of_models(make_clip):
    for mode in ("renoise", "generate"):
        report = check_model(
            ENTRY,
            make_clip(5, 32, 32, queries=np.array([[10.5, 20.5], [0, 32]], dtype=np.float32)),
            config=dataclasses.replace(SMALL, height=32, width=32, frames=5),
            settings=RunSettings(mode, (0, 1), 2),
            plugin="vcorr_hunyuanvideo.plugin" if mode == "renoise" else None,
            text_tokens=TEXT_TOKENS,
        )
        assert_passed(report)


# ---------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(("prompt", "real"), [("a red disk", 4), ("", 1), ("word " * 300, TEXT_TOKENS)])
def test_padded_text_is_known_to_the_probes(model, run, make_clip, prompt, real):
    done = run(model, make_clip(prompt=prompt), RunSettings("renoise", (2,), NUM_STEPS))
    for seen in done.captures.values():
        assert seen["k_text"].shape[1] == TEXT_TOKENS
        assert seen["key_mask"].tolist() == [True] * real + [False] * (TEXT_TOKENS - real)


def test_attention_rows_leave_padding_out(model, run, make_clip):
    """Checks that the share of the text comes from a softmax over video and text without padding."""
    clip, settings = make_clip(), RunSettings("renoise", (2,), NUM_STEPS)
    recorder = Recorder({"attention": Attention()}, clip.queries[:1])
    model.run(clip, settings, recorder)
    for layer, seen in run(model, clip, settings).captures.items():
        rows = next(row for row in recorder.rows if row.layer == layer[0])
        query = seen["q"][:, 0, 1, 0]  # (10.5, 20.5) is in row 1, column 0
        keys = torch.cat([seen["k"].flatten(1, 3), seen["k_text"][:, :4]], dim=1)
        weights = (torch.einsum("hd,hnd->hn", query, keys) / 12**0.5).softmax(-1).mean(0)
        assert float(rows.sum_text[0]) == pytest.approx(float(weights[-4:].sum()), abs=1e-5)


@pytest.mark.parametrize("token", [(0, 0, 0), (1, 2, 4), (2, 3, 5)])
def test_an_impulse_in_pixels_is_found_at_its_token(local, make_clip, token):
    assert find_impulse(local, make_clip(), token, step=NUM_STEPS - 1, num_steps=NUM_STEPS) == token


@pytest.fixture(scope="module")
def local():
    """Returns the model with an autoencoder in which a change of pixels stays local."""
    model = load()
    make_local(model.pipe.vae)
    return model


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Returns a pipeline folder with small text encoders, as `save_pretrained` writes it."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, LlamaConfig, LlamaModel, LlamaTokenizerFast

    folder = tmp_path_factory.mktemp("saved")
    words = ["<unk>", "<s>", "</s>", "a", "red", "disk"]
    llama = LlamaTokenizerFast(vocab={word: n for n, word in enumerate(words)}, merges=[])
    llama.pad_token = "</s>"
    clip_words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "red</w>"]
    clip = CLIPTokenizer(vocab={word: n for n, word in enumerate(clip_words)}, merges=[])
    pipe = HunyuanVideoPipeline(
        tokenizer=llama,
        text_encoder=LlamaModel(
            LlamaConfig(
                vocab_size=8,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=2,
            )
        ).eval(),
        tokenizer_2=clip,
        text_encoder_2=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=8,
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=77,
                projection_dim=8,
            )
        ).eval(),
        vae=model.pipe.vae,
        transformer=model.pipe.transformer,
        scheduler=model.pipe.scheduler,
    )
    pipe.save_pretrained(folder)
    return folder


def test_a_saved_pipeline_encodes_the_caption_itself(model, folder, run, make_clip, passes_of, assert_same_call):
    again = ENTRY.create(SMALL)
    again.load("cpu", "float32", str(folder))
    done = run(again, make_clip(), RunSettings("renoise", (0,), NUM_STEPS))
    plain = run(model, make_clip(), RunSettings("renoise", (0,), NUM_STEPS))
    assert torch.equal(done.calls[0]["hidden_states"], plain.calls[0]["hidden_states"])
    theirs = passes_of(
        again.pipe,
        prompt="a red disk",
        max_sequence_length=TEXT_TOKENS,
        latents=done.calls[0]["hidden_states"],
        height=64,
        width=96,
        num_frames=9,
        num_inference_steps=NUM_STEPS,
    )
    assert_same_call(done.calls[0], theirs[0])
    assert run(again, make_clip(), RunSettings("generate", (0,), 2)).video.shape == (9, 64, 96, 3)


def test_weights_of_other_sizes_bring_their_sizes_along(folder):
    released = ENTRY.create(HunyuanVideoConfig(height=64, width=96, frames=9))
    assert (len(released.sites()), released.sites()[0].heads) == (60, 24)
    assert released.weights_id(str(folder)).startswith("path:")  # nothing is loaded yet
    assert (len(released.sites()), released.sites()[0].heads) == (3, 2)
    assert released.sites()[1].name == "single_transformer_blocks.0.attn"


def test_a_pipeline_of_ones_own_is_recorded_by_the_models_name(model, make_clip):
    clip = make_clip()
    call = model.call_inputs(clip, model.grid(clip, None))
    with vcorr.record(model.pipe, layout="hunyuanvideo", probes="qk", queries=clip.queries.xy) as recording:
        model.pipe(**call, height=64, width=96, num_frames=9, num_inference_steps=2, output_type="latent")
    assert sorted((p.layer, p.step) for p in recording.predictions) == [(x, s) for x in (0, 1, 2) for s in (0, 1)]
    assert {p.grid for p in recording.predictions} == {model.grid(clip, None)}


def test_missing_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match="hf download hunyuanvideo-community/HunyuanVideo --revision e8c2aaa"):
        ENTRY.create().weights_id("hub")


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"height": 72}, "64 and 80"), ({"frames": 7}, "5 and 9"), ({"frames": 3}, "5 and more, in steps of 4")],
)
def test_sizes_the_model_does_not_take(options, reason):
    with pytest.raises(UsageError, match=reason):
        ENTRY.create(dataclasses.replace(SMALL, **options)).grid(NO_CLIP, None)


def test_an_attention_that_cannot_be_seen_is_named(make_clip):
    class Blind:
        """A processor that does not call torch's attention."""

        def __call__(self, attn, hidden_states, encoder_hidden_states=None, **rest):
            return hidden_states, encoder_hidden_states

    blind = load()
    blind.pipe.transformer.transformer_blocks[0].attn.processor = Blind()
    with pytest.raises(CaptureError, match=r"transformer_blocks\.0\.attn(.|\n)*set_attention_backend\('native'\)"):
        blind.run(
            make_clip(), RunSettings("renoise", (0,), NUM_STEPS), Recorder({"a": Attention()}, make_clip().queries)
        )
