"""Tests every Wan model through its adapter, at sizes that a CPU runs in a second."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from vcorr_wan import plugin

from vcorr import Clip, MissingError, RunSettings, UsageError
from vcorr.contract.cards import load_card
from vcorr.diffusion.configs import packaged_configs
from vcorr.diffusion.random_weights import component_from_config
from vcorr.testing import assert_passed, check_model, check_passes, find_impulse, make_local

ENTRIES = {entry.name: entry for entry in plugin.vcorr_models()}
TEXT = [name for name in ENTRIES if "i2v" not in name]
IMAGE = [name for name in ENTRIES if "i2v" in name]
TWO_STAGE = [name for name in ENTRIES if "a14b" in name]
NUM_STEPS = 5
NO_CLIP = Clip("p", "p", np.zeros((0, 2), np.float32))


def small(name, **options):
    return ENTRIES[name].config_type()(**{**ENTRIES[name].check, **options})


def expands(model):
    """Returns whether the model takes a timestep per token."""
    return model.config_of("pipeline").get("expand_timesteps", False)


def load(name, dtype="float32", **options):
    model = ENTRIES[name].create(small(name, **options))
    model.load("cpu", dtype, "random")
    return model


@pytest.fixture(scope="module")
def models():
    """Returns a function that loads models, each only once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = load(name)
        return made[name]

    return get


# --------------------------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize("name", ENTRIES)
def test_their_sampler_cannot_be_walked_back_which_is_known_before_loading(name):
    with pytest.raises(UsageError, match="cannot walk back along UniPCMultistepScheduler"):
        ENTRIES[name].create().check_settings(RunSettings("invert", (0,), NUM_STEPS))


@pytest.mark.parametrize("name", ENTRIES)
def test_cards_agree_with_the_configurations(name):
    entry = ENTRIES[name]
    model, card = entry.create(), load_card(entry.card, entry.label)
    assert (model.config.height, model.config.width, model.config.frames) == (*card.resolution, card.frames)
    assert (card.extra["layers"], card.extra["heads"]) == (len(model.sites()), model.network["num_attention_heads"])
    assert card.extra["head_dim"] == model.network["attention_head_dim"]
    vae = model.config_of("vae")
    assert card.extra["vae"]["channels"] == vae["z_dim"] == len(vae["latents_mean"]) == len(vae["latents_std"])
    assert card.extra["vae"]["height"] == vae["scale_factor_spatial"]
    assert card.revision is None or len(card.revision) == 40
    assert (card.name, model.card, model.needs_image) == (name, entry.card, name in IMAGE)
    assert f"shift {model.setting('flow_shift'):g}" in card.extra["scheduler"]
    assert f"{model.steps} steps" in card.extra["scheduler"]
    assert f"{model.setting('guidance_scale'):g}" in card.extra["guidance"]
    with torch.device("meta"):
        transformer = component_from_config("transformer", model.network)
    assert card.parameters == sum(p.numel() for p in transformer.parameters())


@pytest.mark.parametrize(
    ("name", "steps", "shift", "strengths"),
    [
        ("wan2.1-1.3b", 50, 8, (6, None)),
        ("wan2.1-14b", 50, 5, (5, None)),
        ("wan2.1-14b-i2v-480p", 40, 3, (5, None)),
        ("wan2.1-14b-i2v-720p", 40, 5, (5, None)),
        ("wan2.2-a14b", 40, 12, (4, 3)),
        ("wan2.2-a14b-i2v", 40, 5, (3.5, 3.5)),
        ("wan2.2-5b", 50, 5, (5, None)),
        ("wan2.2-5b-i2v", 50, 5, (5, None)),
        ("skyreels-v2-14b-540p", 50, 8, (6, None)),
    ],
)
def test_models_sample_as_their_authors_do(name, steps, shift, strengths):
    model = ENTRIES[name].create()
    assert (model.steps, model.setting("flow_shift")) == (steps, shift)
    assert tuple(model.setting(each) for each in ("guidance_scale", "guidance_scale_2")) == strengths
    assert model.setting("vae_dtype") == "float32"
    assert len(model.setting("negative_prompt")) > 100


@pytest.mark.parametrize("name", TWO_STAGE)
def test_transformers_that_take_turns_are_of_one_size(name):
    for size in ("released", "small"):
        configs = packaged_configs(ENTRIES[name].configs, size)
        assert configs["transformer"] == configs["transformer_2"]


@pytest.mark.parametrize(
    ("name", "grid", "layers"),
    [
        ("wan2.1-1.3b", (21, 30, 52, 16), 30),
        ("wan2.1-14b-i2v-720p", (21, 45, 80, 16), 40),
        ("wan2.2-a14b", (21, 30, 52, 16), 40),
        ("wan2.2-5b", (31, 22, 40, 32), 30),
    ],
)
def test_the_true_size_without_loading_anything(name, grid, layers):
    model = ENTRIES[name].create()
    found = model.grid(NO_CLIP, model.sites()[0])
    assert (found.frames, found.rows, found.cols, found.stride[0], found.causal) == (*grid, True)
    assert [site.layer for site in model.sites()] == list(range(layers))
    assert model.sites()[-1].name == f"blocks.{layers - 1}.attn1"


@pytest.mark.parametrize(
    ("name", "options", "shift"),
    [
        ("wan2.1-1.3b", {}, 8),
        ("wan2.1-1.3b", {"flow_shift": 3.0}, 3),
        ("wan2.2-a14b", {}, 12),
        ("skyreels-v2-14b-540p", {}, 8),
    ],
)
def test_noise_levels_are_sigmas_shifted_as_the_authors_do_by_default(name, options, shift):
    model = load(name, **options)
    schedule = model.schedule(50, model.grid(NO_CLIP, None))
    even = np.linspace(1, 1 / 1000, 51)[:-1]
    shifted = shift * even / (1 + (shift - 1) * even)
    assert np.allclose(schedule.noise, shifted, atol=2e-3)
    assert np.allclose(schedule.timesteps.numpy(), 1000 * schedule.noise, atol=1)


def test_step_10_of_skyreels_is_noisier_than_in_the_schedule_of_its_folder():
    for options, noise in (({}, 0.97), ({"flow_shift": 1.0}, 0.80)):
        model = load("skyreels-v2-14b-540p", **options)
        assert round(float(model.schedule(50, model.grid(NO_CLIP, None)).noise[10]), 2) == noise


# --------------------------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize("name", ENTRIES)
def test_both_modes(name, models, run, make_clip):
    model, clip = models(name), make_clip()
    wanted = [(layer, step) for layer in (0, 1) for step in (0, NUM_STEPS - 1)]
    for mode in ("renoise", "generate"):
        done = run(model, clip, RunSettings(mode, (0, NUM_STEPS - 1), NUM_STEPS))
        assert sorted((p.layer, p.step) for p in done.predictions) == wanted
        assert {p.grid for p in done.predictions} == {model.grid(clip, None)}
        assert (done.video is None) == (mode == "renoise")
        assert all(seen["k_text"].shape[1] == 0 and seen["key_mask"] is None for seen in done.captures.values())
    assert (done.video.shape, done.video.dtype) == (clip.video.shape, np.uint8)


@pytest.mark.parametrize("name", ENTRIES)
def test_renoise_passes_are_what_the_pipeline_makes(name, make_clip):
    assert_passed(check_passes(ENTRIES[name], make_clip(), config=small(name)))


@pytest.mark.parametrize("name", ["wan2.1-14b-i2v-480p", "wan2.2-a14b-i2v", "wan2.2-5b-i2v"])
def test_the_image_is_the_same_draw_in_both_modes(name, models, run, make_clip):
    model, clip = models(name), make_clip()
    ours, theirs = (run(model, clip, RunSettings(mode, (0,), 2)).calls[0] for mode in ("renoise", "generate"))
    seen = slice(model.config_of("vae")["z_dim"], None)
    if expands(model):
        assert torch.equal(ours["hidden_states"][:, :, 0], theirs["hidden_states"][:, :, 0])
    else:
        assert torch.equal(ours["hidden_states"][:, seen], theirs["hidden_states"][:, seen])
    assert not torch.equal(ours["hidden_states"][:, : seen.start], theirs["hidden_states"][:, : seen.start])


@pytest.mark.parametrize("name", ["wan2.1-1.3b", "wan2.2-a14b", "wan2.2-5b-i2v"])
def test_the_video_is_the_pipelines_own(name, models, run, make_clip):
    model, clip = models(name), make_clip()
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


@pytest.mark.parametrize("name", ["wan2.1-14b", "wan2.1-14b-i2v-480p"])
def test_the_conditional_pass_is_the_one_that_is_read(name, models, run, make_clip):
    model, clip = models(name), make_clip()
    guided = run(model, clip, RunSettings("generate", (0,), 2))
    alone = run(model, clip, RunSettings("generate", (0,), 2, cfg=1.0))
    assert (len(guided.calls), len(alone.calls)) == (4, 2)
    cond, uncond = (call["encoder_hidden_states"] for call in guided.calls[:2])
    assert torch.equal(cond, model.embed(clip.prompt)["prompt_embeds"])
    assert not torch.equal(cond, uncond)
    # layer 1 comes after the cross-attention of layer 0, so another prompt changes it
    assert torch.equal(guided.captures[1, 0]["q"], alone.captures[1, 0]["q"])
    other = run(model, dataclasses.replace(clip, prompt=""), RunSettings("generate", (0,), 2, cfg=1.0))
    assert not torch.equal(other.captures[1, 0]["q"], alone.captures[1, 0]["q"])


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("wan2.1-1.3b", "renoise"),
        ("wan2.1-1.3b", "generate"),
        ("wan2.1-14b-i2v-480p", "renoise"),
        ("wan2.2-a14b-i2v", "renoise"),
        ("wan2.2-a14b-i2v", "generate"),
        ("wan2.2-5b-i2v", "generate"),
        ("skyreels-v2-14b-540p", "renoise"),
    ],
)
def test_the_contract_of_models(name, mode, make_clip):
    report = check_model(
        ENTRIES[name],
        make_clip(5, 32, 32, queries=np.array([[10.5, 20.5], [0, 32]], dtype=np.float32)),
        config=small(name, height=32, width=32, frames=5),
        settings=RunSettings(mode, (0, 3), 4),
        plugin="vcorr_wan.plugin" if name == "wan2.1-1.3b" and mode == "renoise" else None,
        text_tokens=0,
    )
    assert_passed(report)


@pytest.mark.parametrize(("name", "tokens"), [("wan2.1-1.3b", (4, 6)), ("wan2.2-5b", (2, 3))])
def test_an_impulse_in_pixels_is_found_at_its_token(name, tokens, make_clip):
    model = load(name)
    make_local(model.pipe.vae)
    rows, cols = tokens
    assert (model.grid(NO_CLIP, None).rows, model.grid(NO_CLIP, None).cols) == tokens
    for token in ((0, 0, 0), (1, rows // 2, cols - 1), (2, rows - 1, 1)):
        assert find_impulse(model, make_clip(), token, step=NUM_STEPS - 1, num_steps=NUM_STEPS) == token


def test_bfloat16(run, make_clip):
    model = load("wan2.2-5b", "bfloat16")
    for mode in ("renoise", "generate"):
        done = run(model, make_clip(), RunSettings(mode, (1,), 2))
        assert len(done.predictions) == 2
        assert {call["hidden_states"].dtype for call in done.calls} == {torch.bfloat16}


# ----------------------------------------------------------------------------------------------------- two transformers


@pytest.mark.parametrize(("shift", "steps", "first"), [(None, 40, 26), (3.0, 50, 16)])
def test_the_authors_let_the_first_transformer_run_more_than_half_of_the_steps(shift, steps, first):
    model = load("wan2.2-a14b", flow_shift=shift)
    assert model.steps == 40
    timesteps = model.schedule(steps, model.grid(NO_CLIP, None)).timesteps.tolist()
    assert [model.denoiser_at(timestep) for timestep in timesteps].count("transformer") == first


@pytest.mark.parametrize("name", TWO_STAGE)
def test_the_second_transformer_runs_below_the_boundary(name, models, run, make_clip):
    model, clip = models(name), make_clip()
    timesteps = model.schedule(NUM_STEPS, model.grid(clip, None)).timesteps.tolist()
    boundary = 1000 * model.config_of("pipeline")["boundary_ratio"]
    late = sum(timestep < boundary for timestep in timesteps)
    assert 0 < late < NUM_STEPS
    for mode, passes in (("renoise", 1), ("generate", 2)):
        settings = RunSettings(mode, tuple(range(NUM_STEPS)), NUM_STEPS)
        assert len(run(model, clip, settings, "transformer").calls) == passes * (NUM_STEPS - late)
        assert len(run(model, clip, settings, "transformer_2").calls) == passes * late


def test_each_transformer_has_its_strength_of_guidance(models, make_clip):
    call = models("wan2.2-a14b").call_inputs(make_clip(), None)
    assert (call["guidance_scale"], call["guidance_scale_2"]) == (4.0, 3.0)
    assert "guidance_scale_2" not in models("wan2.1-14b").call_inputs(make_clip(), None)


@pytest.mark.parametrize(
    ("options", "cfg", "strengths", "said"),
    [
        ({}, 6.0, (6.0, 6.0), r"--cfg 6 sets the strength of guidance of both transformers.*guidance_scale_2"),
        ({"guidance_scale_2": 2.0}, 6.0, (6.0, 2.0), r"of the first transformer; the second one has 2"),
        ({"guidance_scale": 6.0}, None, (6.0, 6.0), None),
        ({}, None, (4.0, 3.0), None),
    ],
)
def test_the_strength_of_guidance_reaches_both_transformers(options, cfg, strengths, said, run, make_clip):
    model, clip = load("wan2.2-a14b", **options), make_clip()
    settings = RunSettings("generate", (0,), NUM_STEPS, cfg=cfg)
    video = run(model, clip, settings).video
    call = model.call(clip, model.grid(NO_CLIP, None), settings, "np")
    own = model.pipe(**call | dict(zip(("guidance_scale", "guidance_scale_2"), strengths, strict=True))).frames[0]
    assert np.array_equal(video, np.rint(own * 255).astype(np.uint8))
    notes = [note for note in model.own_settings(settings).notes if "--cfg" in note]
    assert (notes == []) if said is None else re.search(said, notes[0])


@pytest.mark.parametrize("name", ["wan2.1-1.3b", "wan2.1-14b-i2v-480p", "skyreels-v2-14b-540p"])
def test_the_authors_negative_prompt_counts_in_generate_mode_and_can_be_left_out(name, models, run, make_clip):
    text = models(name).setting("negative_prompt")
    for model, negative in ((models(name), text), (load(name, negative_prompt=""), "")):
        call = run(model, make_clip(), RunSettings("generate", (0,), 2)).calls[1]
        assert torch.equal(call["encoder_hidden_states"], model.embed(negative)["prompt_embeds"])
    generate, renoise = (models(name).own_settings(RunSettings(mode)).values for mode in ("generate", "renoise"))
    assert generate["negative_prompt"] == text
    assert set(renoise) == {"flow_shift", "vae_dtype"}
    left_out = load(name, negative_prompt="").own_settings(RunSettings("generate"))
    assert "negative_prompt" not in left_out.values
    assert not any("negative" in note for note in left_out.notes)


@pytest.mark.parametrize(("option", "dtype"), [(None, "float32"), ("model", "bfloat16"), ("float16", "float16")])
def test_the_autoencoder_has_a_dtype_of_its_own(option, dtype, with_text, tmp_path, make_clip):
    made = load("wan2.1-14b-i2v-480p", "bfloat16", vae_dtype=option)
    assert made.pipe.vae.dtype == getattr(torch, dtype)
    assert made.pipe.transformer.dtype == torch.bfloat16
    assert made.encode(make_clip().video).dtype == getattr(torch, dtype)


def test_a_saved_autoencoder_is_read_in_its_own_dtype(with_text, tmp_path):
    pipe = with_text(load("wan2.1-1.3b").pipe)
    pipe.save_pretrained(tmp_path)
    again = ENTRIES["wan2.1-1.3b"].create(small("wan2.1-1.3b"))
    again.load("cpu", "bfloat16", str(tmp_path))
    for ours, theirs in zip(again.pipe.vae.parameters(), pipe.vae.parameters(), strict=True):
        assert torch.equal(ours, theirs)  # not rounded to bfloat16 on the way


# --------------------------------------------------------------------------------------------------------------- image


QUERY = "blocks.1.attn1.to_q"


@pytest.fixture
def make_lora(tmp_path):
    """Makes a file of low-rank weights that add a constant to the weights of one projection."""

    def make(value):
        file = tmp_path / f"{value}.safetensors"
        name = f"transformer.{QUERY}"
        tensors = {f"{name}.lora_A.weight": torch.ones(1, 24), f"{name}.lora_B.weight": torch.full((24, 1), value)}
        save_file(tensors, file)
        return str(file)

    return make


def test_low_rank_weights_go_to_both_transformers_or_to_each_its_own(make_lora):
    plain, one, two = load("wan2.2-a14b"), make_lora(1.0), make_lora(2.0)
    for options, expected in (
        ({"lora": one}, (1, 1)),
        ({"lora": one, "lora_2": two}, (1, 2)),
        ({"lora_2": two}, (0, 2)),
    ):
        tuned = load("wan2.2-a14b", **options)
        for part, value in zip(tuned.denoisers, expected, strict=True):
            before, after = (getattr(m.pipe, part).get_submodule(QUERY).weight for m in (plain, tuned))
            torch.testing.assert_close(after, before + value)


def test_the_identity_says_which_low_rank_weights_each_transformer_has(make_lora):
    one, two = make_lora(1.0), make_lora(2.0)
    identities = [
        ENTRIES["wan2.2-a14b"].create(small("wan2.2-a14b", **options)).weights_id("random")
        for options in ({"lora": one}, {"lora": one, "lora_2": two}, {"lora_2": two})
    ]
    both, each, second = (identity.removeprefix("random:0+lora:") for identity in identities)
    a, b = (part.partition("=")[2] for part in each.split(","))
    assert each == f"transformer={a},transformer_2={b}"
    assert a != b
    assert both == f"transformer={a},transformer_2={a}"
    assert second == f"transformer_2={b}"


def test_a_model_with_one_transformer_takes_one_file_of_low_rank_weights(make_lora):
    with pytest.raises(UsageError, match=r"one transformer, so model\.lora_2 would have no effect"):
        load("wan2.1-1.3b", lora_2=make_lora(1.0))


@pytest.mark.parametrize("name", IMAGE)
def test_an_image_is_needed_and_has_to_fit(name, models, run, make_clip):
    model = models(name)
    with pytest.raises(UsageError, match="Clip p has no image, which Wan 2"):
        run(model, NO_CLIP, RunSettings("generate", (0,), NUM_STEPS))
    with pytest.raises(UsageError, match="image of clip clip is 32x96 pixels; the model takes 64x96"):
        run(model, make_clip(1, height=32), RunSettings("generate", (0,), NUM_STEPS))


@pytest.mark.parametrize("name", IMAGE)
def test_what_is_seen_of_the_image(name, models, run, make_clip):
    """Checks that only frame 0 matters, in additional channels or in the first latent frame."""
    model, clip = models(name), make_clip()
    later = dataclasses.replace(clip, video=np.concatenate([clip.video[:1], clip.video[1:] // 2]))
    other = dataclasses.replace(clip, video=clip.video // 2)
    settings = RunSettings("generate", (0,), 2)
    one, same, differs = (run(model, each, settings).calls[0] for each in (clip, later, other))
    assert torch.equal(one["hidden_states"], same["hidden_states"])
    assert not torch.equal(one["hidden_states"], differs["hidden_states"])
    if expands(model):
        assert one["timestep"].reshape(3, -1)[0].unique().tolist() == [0]
        assert len(one["timestep"].reshape(3, -1)[1:].unique()) == 1
        return
    mask = one["hidden_states"][0, 16:20]
    assert bool((mask[:, 0] == 1).all())
    assert bool((mask[:, 1:] == 0).all())
    seen = one["encoder_hidden_states_image"]
    assert (seen is None) == (not model.network["image_dim"])
    assert seen is None or not torch.equal(seen, differs["encoder_hidden_states_image"])


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.fixture
def with_text():
    """Returns a function that gives a pipeline a small text encoder."""
    from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

    words = ["<pad>", "</s>", "<unk>", "\u2581a", "\u2581red", "\u2581disk"]
    config = UMT5Config(
        vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, is_encoder_decoder=False, use_cache=False
    )

    def give(pipe):
        pipe.register_modules(
            tokenizer=T5Tokenizer(vocab=[(word, 0.0) for word in words], extra_ids=0),
            text_encoder=UMT5EncoderModel(config).eval(),
        )
        return pipe

    return give


@pytest.mark.parametrize("name", ["wan2.2-a14b", "wan2.2-5b-i2v"])
def test_a_saved_pipeline_encodes_the_caption_itself(
    name, with_text, tmp_path, run, make_clip, passes_of, assert_same_call
):
    pipe = with_text(load(name).pipe)
    if name in IMAGE:  # the released folder of this model names WanPipeline
        from diffusers import WanPipeline

        parts = {n: part for n, part in pipe.components.items() if not n.startswith("image_")}
        pipe = WanPipeline(**parts, expand_timesteps=True)
    pipe.save_pretrained(tmp_path)
    again, clip = ENTRIES[name].create(small(name)), make_clip()
    again.load("cpu", "float32", str(tmp_path))
    assert again.weights_id(str(tmp_path)).startswith("path:")
    done = run(again, clip, RunSettings("renoise", (0,), NUM_STEPS))
    theirs = passes_of(
        again.pipe,
        prompt="a red disk",
        latents=done.calls[0]["hidden_states"],
        height=64,
        width=96,
        num_frames=9,
        num_inference_steps=NUM_STEPS,
        **({"image": again.image(clip, again.grid(clip, None))} if name in IMAGE else {}),
    )
    assert_same_call(done.calls[0], theirs[0])
    assert run(again, clip, RunSettings("generate", (0,), 2)).video.shape == (9, 64, 96, 3)


def test_weights_of_other_sizes_bring_their_sizes_along_and_the_authors_schedule_stays(with_text, tmp_path):
    with_text(load("wan2.1-14b", flow_shift=3.0).pipe).save_pretrained(tmp_path)
    vae = (
        tmp_path / "vae" / "config.json"
    )  # the released folders lack the spatial compression, which newer versions write
    vae.write_text(json.dumps({k: v for k, v in json.loads(vae.read_text()).items() if "scale_factor" not in k}))
    model = ENTRIES["wan2.1-14b"].create(ENTRIES["wan2.1-14b"].config_type()(height=64, width=96, frames=9))
    assert (len(model.sites()), model.sites()[0].heads) == (40, 40)
    assert model.weights_id(str(tmp_path)).startswith("path:")  # nothing is loaded yet
    assert (len(model.sites()), model.sites()[0].heads, model.compression.spatial) == (2, 2, 8)
    (note,) = model.own_settings(RunSettings("renoise")).notes
    assert "the shift 5 of the authors of Wan 2.1 14B" in note
    assert "has 3, which --set model.flow_shift=3 takes" in note
    model.load("cpu", "float32", str(tmp_path))
    assert model.pipe.scheduler.config.flow_shift == 5


def test_a_folder_with_one_transformer_is_not_taken_for_one_with_two(with_text, tmp_path):
    with_text(load("wan2.1-14b").pipe).save_pretrained(tmp_path)
    with pytest.raises(
        UsageError, match=r"transformers in the weights: 1\.(.|\n)*Wan 2\.2 A14B has 2(.|\n)*Wan2\.2-T2V-A14B"
    ):
        ENTRIES["wan2.2-a14b"].create(small("wan2.2-a14b")).load("cpu", "float32", str(tmp_path))


def test_skyreels_for_diffusion_forcing_is_not_taken_for_the_model_with_full_attention(with_text, tmp_path):
    pipe = with_text(load("skyreels-v2-14b-540p").pipe)
    pipe.transformer.register_to_config(num_frame_per_block=5)
    pipe.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"blocks of 5 frames(.|\n)*Skywork/SkyReels-V2-T2V-14B-540P-Diffusers"):
        ENTRIES["skyreels-v2-14b-540p"].create(small("skyreels-v2-14b-540p")).load("cpu", "float32", str(tmp_path))


@pytest.mark.parametrize("name", ENTRIES)
def test_missing_weights_are_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = load_card(ENTRIES[name].card, name)
    command = f"hf download {card.hub_id}" + (f" --revision {card.revision}" if card.revision else "")
    with pytest.raises(MissingError, match=command):
        ENTRIES[name].create().weights_id("hub")


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("wan2.1-1.3b", {"height": 72}, "64 and 80"),
        ("wan2.1-1.3b", {"frames": 7}, "5 and 9"),
        ("wan2.1-1.3b", {"frames": 69}, r"5 to 61, in steps of 4(.|\n)*61"),
        ("wan2.1-1.3b", {"width": 272}, r"16 to 256, in steps of 16(.|\n)*256"),
        ("wan2.2-5b", {"height": 48}, "32 and 64"),
    ],
)
def test_sizes_the_model_does_not_take(name, options, reason):
    with pytest.raises(UsageError, match=reason):
        ENTRIES[name].create(small(name, **options)).grid(NO_CLIP, None)


def test_an_option_that_says_nothing_is_refused():
    with pytest.raises(UsageError, match=r"Wan 2\.1 1\.3B has one transformer(.|\n)*model\.guidance_scale"):
        ENTRIES["wan2.1-1.3b"].create(small("wan2.1-1.3b", guidance_scale_2=3.0))


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan")])
def test_a_shift_has_to_be_above_zero(shift):
    with pytest.raises(UsageError, match="above 0"):
        load("wan2.1-1.3b", flow_shift=shift)
