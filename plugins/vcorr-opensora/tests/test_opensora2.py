"""Tests Open-Sora 2.0 through its adapters, at sizes that a CPU runs in a second."""

import dataclasses
import json
import operator
from itertools import pairwise

import numpy as np
import pytest
import torch
from vcorr_opensora import plugin
from vcorr_opensora.model import TEXT_TOKENS, OpenSora2Config, complete_prompt
from vcorr_opensora.sampling import image_condition, patchify, positions, unpatchify

from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.cli import main as program
from vcorr.contract.cards import load_card
from vcorr.diffusion.random_weights import component_from_config
from vcorr.testing import assert_passed, check_model, check_passes, find_impulse, make_local, random_clip

SMALL = OpenSora2Config(size="small", height=32, width=48, frames=9)
ENTRIES = {entry.name: entry for entry in plugin.vcorr_models()}
NAMES = ["open-sora-2.0", "open-sora-2.0-i2v"]
NUM_STEPS = 3


class Whole:
    """A probe that predicts a checksum of queries and keys, so that equal predictions mean equal tensors."""

    needs = frozenset({"q", "k"})
    readout = "free"

    def read(self, capture, queries):
        trace = torch.stack([capture.q.mean(dim=(0, 2, 3, 4)), capture.k.mean(dim=(0, 2, 3, 4))], dim=-1)
        trace[0] = 0
        return {-1: queries.xy[:, None] + trace}


def load(name, dtype="float32", **options):
    model = ENTRIES[name].create(dataclasses.replace(SMALL, **options))
    model.load("cpu", dtype, "random:3")
    return model


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return load(request.param)


@pytest.fixture(scope="module")
def text_model():
    return load("open-sora-2.0")


@pytest.fixture(scope="module")
def image_model():
    return load("open-sora-2.0-i2v")


def run(model, clip, settings):
    """Returns the video, the predictions, and the arguments of every pass."""
    calls = []
    hook = model.pipe.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(kwargs), with_kwargs=True
    )
    recorder = Recorder({"whole": Whole()}, clip.queries)
    try:
        video = model.run(clip, settings, recorder)
    finally:
        hook.remove()
    return video, recorder.predictions, calls


# ----------------------------------------------------------------------------------------------------------- contract


def test_the_release_is_described_without_loading_anything():
    entry = ENTRIES["open-sora-2.0"]
    model = entry.create()
    sites = model.sites()
    assert [site.layer for site in sites] == list(range(57))
    assert [sites[i].name for i in (0, 18, 19, 56)] == [
        "transformer_blocks.0.attn",
        "transformer_blocks.18.attn",
        "single_transformer_blocks.0.attn",
        "single_transformer_blocks.37.attn",
    ]
    assert {(site.heads, site.attention, site.block_output) for site in sites} == {(24, "full3d", 1)}
    assert (sites[20].block, sites[20].unrotated.axes) == ("single_transformer_blocks.1", "bnhd")
    grid = model.grid(Clip("p", "p", np.zeros((0, 2), np.float32)), sites[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride, grid.video_frames) == (33, 12, 21, (16, 16), 129)
    assert (model.steps, model.text, model.branches[0]) == (50, "before", "cond")


@pytest.mark.parametrize(("name", "mode"), [(NAMES[0], "renoise"), (NAMES[1], "generate")])
def test_the_contract_of_models(name, mode, clip):
    report = check_model(
        ENTRIES[name],
        clip,
        config=SMALL,
        settings=RunSettings(mode, (0, 2), NUM_STEPS),
        plugin="vcorr_opensora.plugin",
        text_tokens=TEXT_TOKENS,
    )
    assert_passed(report)


def test_both_modes_answer_at_every_site_and_step(model, clip):
    wanted = [(layer, step) for layer in (0, 1) for step in (0, 2)]
    for mode, guidance in (("renoise", None), ("generate", None), ("generate", 1.0)):
        video, predictions, calls = run(model, clip, RunSettings(mode, (0, 2), NUM_STEPS, cfg=guidance))
        assert sorted((p.layer, p.step) for p in predictions) == wanted
        assert {p.grid for p in predictions} == {model.grid(clip, None)}
        assert (video is None) == (mode == "renoise")
        assert [len(call["hidden_states"]) for call in calls] == {
            ("renoise", None): [1, 1],
            ("generate", None): [3, 3, 3],
            ("generate", 1.0): [1, 1, 1],
        }[mode, guidance]
        assert video is None or (video.shape, video.dtype) == (clip.video.shape, np.uint8)


def test_the_branch_that_is_read_is_the_conditional_one(model, clip):
    """Checks that the probe reads, under guidance, the same as in the conditional branch alone."""

    def first_step(guidance, prompt="caption"):
        asked = ENTRIES[NAMES[int(model.needs_image)]].create(dataclasses.replace(model.config, prompt=prompt))
        asked.adopt(model.pipe, "cpu")
        found = run(asked, clip, RunSettings("generate", (0,), 2, cfg=guidance))[1]
        return np.stack([prediction.xy for prediction in found])

    alone, guided, empty = first_step(1.0), first_step(7.5), first_step(1.0, "empty")
    assert np.allclose(guided, alone, atol=1e-5)
    assert not np.allclose(alone, empty, atol=1e-4)


@pytest.mark.parametrize("token", [(0, 1, 0), (2, 0, 2)])
def test_pixels_arrive_at_their_token(token):
    clip = random_clip(9, 32, 48)
    model = load("open-sora-2.0")
    make_local(model.pipe.vae)
    assert find_impulse(model, clip, token, NUM_STEPS - 1, NUM_STEPS) == token


@pytest.mark.parametrize("name", NAMES)
def test_renoise_passes_are_what_the_pipeline_makes(name, clip):
    assert_passed(check_passes(ENTRIES[name], clip, config=SMALL))


def test_the_first_frame_is_the_same_draw_in_both_modes(image_model, clip):
    settings = [RunSettings(mode, (0,), NUM_STEPS, seed=7) for mode in ("renoise", "generate")]
    ours, theirs = (run(image_model, clip, each)[2][0]["hidden_states"][0, :, 16:] for each in settings)
    assert ours.any()
    assert torch.equal(ours, theirs)
    other = run(image_model, clip, RunSettings("renoise", (0,), NUM_STEPS, seed=8))[2][0]["hidden_states"]
    assert not torch.equal(ours, other[0, :, 16:])


def test_the_video_is_the_pipelines_own_and_repeats(model, clip):
    grid = model.grid(clip, None)
    video = run(model, clip, RunSettings("generate", (1,), NUM_STEPS, seed=7, cfg=3.0))[0]
    output = model.pipe(
        **model.call_inputs(clip, grid),
        height=32,
        width=48,
        num_frames=9,
        num_inference_steps=NUM_STEPS,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    )
    assert np.array_equal(video, np.rint(output.frames[0] * 255).astype(np.uint8))


# ------------------------------------------------------------------------------------------------------------- sampler


@pytest.mark.parametrize("with_image", [False, True], ids=["text", "image"])
def test_sampling_is_what_the_formulas_say(text_model, with_image):
    """Compares the sampler with its formulas, over fourteen steps so that guidance oscillates."""
    pipe, steps = text_model.pipe, 14
    noise = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(5))
    text, negative = text_model._text("a"), text_model._text("b")
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(6)) if with_image else None
    found = pipe(
        text=text,
        negative_text=negative,
        image=image,
        latents=noise,
        height=32,
        width=48,
        num_inference_steps=steps,
        guidance_scale=4.0,
        image_guidance_scale=2.5,
        generator=torch.Generator().manual_seed(9),
        output_type="latent",
    ).frames

    first = torch.zeros(1, 4, 1, 4, 6)
    if with_image:
        with torch.no_grad():
            posterior = pipe.vae.encode(2 * image[:, :, None] - 1).latent_dist
            first = posterior.sample(torch.Generator().manual_seed(9)) * 0.476986
    seen = torch.zeros(1, 5, 3, 4, 6)
    seen[:, 0, 0], seen[:, 1:, :1] = float(with_image), first
    a = (1 + 2 * (6 - 256) / (4096 - 256)) * 3**0.5
    times = [1 - i / steps for i in range(steps + 1)]
    levels = [a * t / (1 + (a - 1) * t) for t in times]
    x = noise
    for i, (now, after) in enumerate(pairwise(levels)):
        c, u, n = (
            velocity(pipe, x, known, words, now)
            for known, words in ((seen, text), (seen, negative), (torch.zeros_like(seen), negative))
        )
        full = i < 10 or i % 2 == 0
        g_text, g_image = (4.0, 2.5) if full else (1.0, 1.0)
        along = torch.ones(3)
        if full:
            along = torch.tensor([1 + (g_image - 1) * (1 - i / steps) * f / 2 for f in range(3)])
        g = along.view(3, 1, 1) if with_image else g_image
        x = x + (after - now) * (n + g * (u - n) + g_text * (c - u))
    if with_image:
        x[:, :, :1] = first
    assert torch.allclose(found, x, atol=1e-4)
    assert (found - noise).abs().mean() > 0.1


def velocity(pipe, latents, known, text, level):
    """Computes the velocity of one batch row, with patches and positions written out."""

    def tokens(x):
        places = [(f, r, c) for f in range(3) for r in range(0, 4, 2) for c in range(0, 6, 2)]
        return torch.stack([x[:, :, f, r : r + 2, c : c + 2].flatten(1) for f, r, c in places], dim=1)

    with torch.no_grad():
        out = pipe.transformer(
            hidden_states=torch.cat([tokens(latents), tokens(known)], dim=-1),
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            timestep=torch.tensor([level], dtype=torch.float32),
            img_ids=torch.tensor([[f, r, c] for f in range(3) for r in range(2) for c in range(3)]).float(),
            txt_ids=torch.zeros(TEXT_TOKENS, 3),
        ).sample
    return unpatchify(out, 3, 2, 3)


def test_noise_levels_are_shifted_by_the_size_of_the_video(text_model, clip):
    small = text_model.schedule(10, text_model.grid(clip, None))
    a = (1 + 2 * (6 - 256) / 3840) * 3**0.5
    t = 1 - np.arange(10) / 10
    assert np.allclose(small.noise, a * t / (1 + (a - 1) * t), atol=1e-6)
    config = dataclasses.replace(SMALL, height=1024, width=1024, frames=1 + 4 * 15)
    large = ENTRIES["open-sora-2.0"].create(config)
    large.adopt(text_model.pipe, "cpu")
    grid = large.grid(Clip("p", "p", np.zeros((0, 2), np.float32)), None)
    assert grid.tokens_per_frame == 4096
    assert np.allclose(
        large.schedule(10, grid).noise, 12 * t / (1 + 11 * t), atol=1e-6
    )  # 3 times the square root of 16


def test_patches_positions_and_conditions():
    latents = torch.arange(1 * 3 * 2 * 4 * 6).view(1, 3, 2, 4, 6)
    tokens = patchify(latents)
    assert torch.equal(unpatchify(tokens, 2, 2, 3), latents)
    assert tokens[0, 4].tolist() == latents[0, :, 0, 2:4, 2:4].flatten().tolist()
    assert positions(2, 2, 3, "cpu")[[0, 1, 3, 6]].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    image = torch.full((1, 3, 1, 4, 6), 7)
    known = image_condition(latents, image)
    assert known[0, 0, :, 0, 0].tolist() == [1, 0]
    assert torch.equal(known[:, 1:, :1], image)
    assert not known[:, :, 1].any()
    assert not image_condition(latents, None).any()


# -------------------------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("prompt", "fps", "score", "expected"),
    [
        (" a red disk", 24, 4, "a red disk. 24 FPS. 4 motion score."),
        ("a red disk.", 24, 0, "a red disk. 24 FPS."),
        ("a red disk. 8 FPS.", 24, 4, "a red disk. 8 FPS. 4 motion score."),
        ("a red disk", 0, 0, "a red disk."),
        (" ", 24, 4, ""),
    ],
)
def test_prompts_are_completed_as_the_release_does(prompt, fps, score, expected):
    assert complete_prompt(prompt, fps, score) == expected


def test_random_prompts_differ_by_their_text(text_model, clip):
    one, same, other = (text_model._text(prompt) for prompt in ("a", "a", "b"))
    assert (one.tokens.shape, one.pooled.shape) == ((1, TEXT_TOKENS, 24), (1, 12))
    assert torch.equal(one.tokens, same.tokens)
    assert not torch.equal(one.tokens, other.tokens)
    assert not torch.equal(one.pooled, other.pooled)


def test_latents_are_the_mean_times_the_scaling_factor(text_model, clip):
    pixels = torch.from_numpy(clip.video).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        expected = text_model.pipe.vae.encode(pixels).latent_dist.mean * 0.476986
        assert torch.equal(text_model.encode(clip.video), expected)


def test_only_the_image_to_video_model_is_told_a_frame(text_model, image_model, clip):
    others = dataclasses.replace(clip, video=np.concatenate([clip.video[:1], clip.video[1:] // 2]))
    settings = RunSettings("generate", (0,), NUM_STEPS)
    assert not run(text_model, clip, settings)[2][0]["hidden_states"][..., 16:].any()
    known = run(image_model, clip, settings)[2][0]["hidden_states"][..., 16:]
    assert torch.equal(known, run(image_model, others, settings)[2][0]["hidden_states"][..., 16:])
    assert (known[:2, :6, :4] == 1).all()
    assert known[:2, :6, 4:].abs().min() > 0
    assert not known[:, 6:].any()
    assert not known[2].any()


def test_an_image_is_needed_and_has_to_fit(image_model, clip):
    assert [ENTRIES[name].create().needs_image for name in NAMES] == [False, True]
    nothing = Clip("p", "p", np.zeros((0, 2), np.float32))
    with pytest.raises(UsageError, match=r"Clip p has no image, which Open-Sora 2\.0 \(image to video\) starts from"):
        run(image_model, nothing, RunSettings("generate", (0,), NUM_STEPS))
    with pytest.raises(UsageError, match=r"image of clip clip is 16x48 pixels; the model takes 32x48"):
        run(image_model, dataclasses.replace(clip, video=clip.video[:, :16]), RunSettings("generate", (0,), NUM_STEPS))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"height": 40}, "32 and 48"), ({"frames": 8}, "5 and 9"), ({"frames": 1}, "5 and more, in steps of 4")],
)
def test_sizes_the_model_does_not_take(options, reason):
    model = ENTRIES["open-sora-2.0"].create(dataclasses.replace(SMALL, **options))
    with pytest.raises(UsageError, match=reason):
        model.grid(Clip("p", "p", np.zeros((0, 2), np.float32)), None)


# ------------------------------------------------------------------------------------------------------------- options


def test_half_precision_and_tiles_in_time(clip):
    model = load("open-sora-2.0", "bfloat16", vae_tiling=True, frames=21)
    assert model.pipe.vae.use_framewise_decoding
    assert {p.dtype for p in model.pipe.transformer.parameters()} == {torch.bfloat16}
    video, predictions, _ = run(model, clip, RunSettings("generate", (0,), 2))
    assert (len(predictions), video.shape) == (2, (21, 32, 48, 3))


def test_offloaded_networks_are_captured(text_model, clip):
    other = load("open-sora-2.0")
    other.pipe.enable_model_cpu_offload(device="cpu")  # it installs the same hooks as on a GPU
    for mode in ("renoise", "generate"):
        one, two = (run(each, clip, RunSettings(mode, (0, 2), NUM_STEPS)) for each in (text_model, other))
        assert np.array_equal(*(np.stack([p.xy for p in each[1]]) for each in (one, two)))
        assert mode == "renoise" or np.array_equal(one[0], two[0])


def test_low_rank_weights_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(UsageError, match="OpenSoraPipeline takes no low-rank weights"):
        load("open-sora-2.0", lora=str(tmp_path / "lora.safetensors"))


def test_a_video_end_to_end_from_the_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a red disk\n")
    command = ["run", "--model", "open-sora", "--probe", "qk,hidden", "--data", "prompts:prompts.txt"]
    options = ["--mode", "generate", "--weights", "random", "--steps", "0,2", "--set", "num_steps=3", "--json"]
    sizes = ["--set", "model.size=small"]
    with pytest.raises(SystemExit) as ended:
        program.main([*command, *options, *sizes])
    out = capsys.readouterr().out
    assert ended.value.code in (0, None), out
    found = json.loads(out)
    assert found["status"] == "complete"
    assert {(site["layer"], site["step"]) for site in found["sites"]} == {(i, j) for i in (0, 1) for j in (0, 2)}
    assert list(tmp_path.glob("runs/*/videos/*"))


# --------------------------------------------------------------------------------------------------------------- cards


@pytest.mark.parametrize("name", NAMES)
def test_cards_agree_with_the_configurations(name):
    entry, model = ENTRIES[name], ENTRIES[name].create()
    card, config, network = load_card(entry.card, entry.label), model.config, model.network
    assert (card.name, card.resolution, card.frames) == (name, (config.height, config.width), config.frames)
    assert card.extra["layers"] == len(model.sites())
    assert (card.extra["heads"], card.extra["head_dim"]) == (
        network["num_attention_heads"],
        network["attention_head_dim"],
    )
    assert card.extra["text_tokens"] == model.text_limit()
    assert set(card.extra["configs_seen"]) <= {"transformer", "vae", "scheduler"}
    with torch.device("meta"):
        transformer = component_from_config("transformer", network)
    # the plugin's network adds this bias to the bias of the latents' layer
    bias_of_condition = network["num_attention_heads"] * network["attention_head_dim"]
    assert card.parameters == sum(p.numel() for p in transformer.parameters()) + bias_of_condition


def test_open_sora_is_another_name_of_2_0():
    alias, named = ENTRIES["open-sora"], ENTRIES["open-sora-2.0"]
    parts = operator.attrgetter("factory", "config", "configs", "card")
    assert parts(alias) == parts(named)
