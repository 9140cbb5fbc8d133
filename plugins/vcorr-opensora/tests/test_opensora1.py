"""Tests Open-Sora 1.2 through its adapter, at sizes that a CPU runs in a second."""

import dataclasses
import json
import math
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from vcorr_opensora import plugin
from vcorr_opensora.v1.chunks import ChunkedCompression
from vcorr_opensora.v1.model import OpenSora1Config, complete_prompt

from vcorr import Clip, MissingError, RunSettings, UsageError
from vcorr.capture.captures import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.cli import main as program
from vcorr.contract.cards import load_card
from vcorr.diffusion.random_weights import component_from_config
from vcorr.functional import match
from vcorr.notebook.layouts import place_by_plugin
from vcorr.testing import assert_passed, check_model, check_passes, find_impulse, make_local, random_clip

SMALL = OpenSora1Config(size="small", height=32, width=48, frames=21)
ENTRY = {entry.name: entry for entry in plugin.vcorr_models()}["open-sora-1.2"]
NUM_STEPS = 3
LAYERS = range(4)


class Shown:
    """A probe that keeps the queries it receives, by layer."""

    needs = frozenset({"q", "k"})

    def __init__(self):
        self.queries = {}

    def read(self, capture, queries):
        self.queries[capture.site.layer] = capture.q.clone()
        return {-1: match(capture.q, capture.k, capture.grid, queries)}


@pytest.fixture(scope="module")
def clip():
    return random_clip(21, 32, 48)


@pytest.fixture(scope="module")
def model():
    return load("random:3")


def load(weights, **options):
    model = ENTRY.create(dataclasses.replace(SMALL, **options))
    model.load("cpu", "float32", str(weights))
    return model


def run(model, clip, settings):
    """Returns the video, the predictions, the arguments of every pass, and the queries by layer."""
    calls, probe = [], Shown()
    hook = model.pipe.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(kwargs), with_kwargs=True
    )
    recorder = Recorder({"qk": probe}, clip.queries)
    try:
        video = model.run(clip, settings, recorder)
    finally:
        hook.remove()
    return video, recorder.predictions, calls, probe.queries


# ------------------------------------------------------------------------------------------------------------ contract


def test_the_release_is_described_without_loading_anything():
    model = ENTRY.create()
    sites = model.sites()
    assert [site.layer for site in sites] == list(range(56))
    assert [sites[i].name for i in (0, 1, 54, 55)] == [
        "spatial_blocks.0.attn",
        "temporal_blocks.0.attn",
        "spatial_blocks.27.attn",
        "temporal_blocks.27.attn",
    ]
    assert {(site.heads, site.attention) for site in sites} == {(16, "factorised")}
    assert [site.factorised.kind for site in sites[:2]] == ["spatial", "temporal"]
    assert [site.unrotated is None for site in sites[:2]] == [True, False]
    grid = model.grid(Clip("p", "p", np.zeros((0, 2), np.float32)), sites[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride, grid.video_frames) == (15, 15, 27, (16, 16), 51)
    assert (model.steps, model.text, model.branches) == (30, "none", ("cond", "uncond"))


@pytest.mark.parametrize("mode", ["renoise", "generate"])
def test_the_contract_of_models(mode, clip):
    settings = RunSettings(mode, (0, 2), NUM_STEPS)
    report = check_model(ENTRY, clip, config=SMALL, settings=settings, plugin="vcorr_opensora.plugin", text_tokens=0)
    assert_passed(report)


def test_both_modes_answer_at_every_site_and_step(model, clip):
    wanted = [(layer, step) for layer in LAYERS for step in (0, 2)]
    for mode, guidance, rows in (("renoise", None, [1, 1]), ("generate", None, [2] * 3), ("generate", 1.0, [1] * 3)):
        video, predictions, calls, _ = run(model, clip, RunSettings(mode, (0, 2), NUM_STEPS, cfg=guidance))
        assert sorted((p.layer, p.step) for p in predictions) == wanted
        assert {(p.attention, p.grid) for p in predictions} == {("factorised", model.grid(clip, None))}
        assert [len(call["hidden_states"]) for call in calls] == rows
        assert (video is None) == (mode == "renoise")
        assert video is None or (video.shape, video.dtype) == (clip.video.shape, np.uint8)


def test_the_branch_that_is_read_is_the_conditional_one(model, clip):
    guided, alone = (run(model, clip, RunSettings("generate", (0,), 2, cfg=guidance))[3] for guidance in (7.0, 1.0))
    other = run(model, dataclasses.replace(clip, prompt="another"), RunSettings("generate", (0,), 2))[3]
    for layer in (1, 2, 3):  # the first layer reads the tokens before any text
        assert torch.allclose(guided[layer], alone[layer], atol=1e-5)
        assert not torch.allclose(guided[layer], other[layer], atol=1e-4)


def test_queries_lie_on_the_grid_in_spatial_and_temporal_layers(model, clip):
    """Checks which queries change with the latents of one token: its own, then its frame's, then all."""
    grid = model.grid(clip, None)
    with torch.no_grad():
        passes = model.borrow(clip, grid, RunSettings("renoise", (1,), NUM_STEPS))
    inputs = passes.inputs(torch.zeros(1, 4, 6, 4, 6), 1)
    changed = inputs["hidden_states"].clone()
    changed[:, :, 4, 2:4, 4:6] = 3  # frame 4, row 1, column 2
    found = []
    for latents in (inputs["hidden_states"], changed):
        probe = Shown()
        recorder = Recorder({"qk": probe}, clip.queries)
        with (
            torch.no_grad(),
            recorder.attach(model.pipe.transformer, model.sites(), TokenLayout(model.text, model.branches), grid),
            recorder.step(0),
        ):
            model.pipe.transformer(**{**inputs, "hidden_states": latents})
        found.append(probe.queries)
    moved = {layer: (found[0][layer] - found[1][layer]).norm(dim=-1).sum(0) > 1e-4 for layer in LAYERS}
    assert moved[0].nonzero().tolist() == [[4, 1, 2]]
    assert {place[0] for place in moved[1].nonzero().tolist()} == {
        4
    }  # the first block spreads the change over the frame
    assert moved[2].all()  # the second block spreads it over time


@pytest.mark.parametrize("token", [(0, 1, 0), (2, 0, 2), (5, 1, 1)])
def test_pixels_arrive_at_their_token(token):
    model, clip = load("random:3", height=64, width=96), random_clip(21, 64, 96)
    make_local(model.pipe.vae)
    clip = dataclasses.replace(clip, video=clip.video // 4)  # dark, so that inverted pixels are bright
    assert find_impulse(model, clip, token, NUM_STEPS - 1, NUM_STEPS) == token


@pytest.mark.parametrize(
    ("frames", "spans"),
    [
        (17, ((0, 0), (1, 4), (5, 8), (9, 12), (13, 16))),
        (16, ((0, 3), (4, 7), (8, 11), (12, 15))),
        (22, ((0, 0), (1, 4), (5, 8), (9, 12), (13, 16), (17, 17), (18, 21))),
        (6, ((0, 1), (2, 5))),
    ],
)
def test_every_chunk_of_17_frames_starts_anew(frames, spans):
    assert ChunkedCompression().time(frames) == (len(spans), spans)
    model = ENTRY.create(dataclasses.replace(SMALL, frames=51))
    assert model.grid(random_clip(frames, 32, 48), None).spans == spans  # a shorter clip is read whole


def test_too_few_frames_are_refused():
    with pytest.raises(UsageError, match="5 and more"):
        ENTRY.create(dataclasses.replace(SMALL, frames=4)).grid(Clip("p", "p", np.zeros((0, 2), np.float32)), None)


# ------------------------------------------------------------------------------------------------------------- sampler


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_renoise_passes_are_what_the_pipeline_makes(dtype, clip):
    assert_passed(check_passes(ENTRY, clip, config=SMALL, dtype=dtype))


def test_sampling_is_what_the_formulas_say(model):
    pipe, steps = model.pipe, 4
    noise = torch.randn(1, 4, 6, 4, 6, generator=torch.Generator().manual_seed(5))
    text = model._text("a red disk")
    call = {"height": 32, "width": 48, "num_frames": 21, "num_inference_steps": steps, "guidance_scale": 3.0}
    found = pipe(text=text, latents=noise, fps=8, output_type="latent", **call).frames
    a = math.sqrt(32 * 48 / 512**2) * math.sqrt(5)  # latent frames of the one whole chunk of 17 frames
    levels = [a * t / (1 + (a - 1) * t) for t in (1 - i / steps for i in range(steps + 1))]
    z = noise
    for now, after in pairwise(levels):
        with torch.no_grad():
            cond, uncond = (
                pipe.transformer(
                    hidden_states=z,
                    timestep=torch.tensor([1000 * now]),
                    encoder_hidden_states=words,
                    encoder_attention_mask=text.real,
                    fps=torch.tensor([8.0]),
                    height=32,
                    width=48,
                )
                for words in (text.tokens, pipe.transformer.y_embedder.y_embedding[None])
            )
        z = z + (uncond + 3.0 * (cond - uncond)) * (now - after)
    assert torch.allclose(found, z, atol=1e-4)
    assert (found - noise).abs().mean() > 0.1


def test_noise_levels_are_shifted_by_the_size_of_the_video(model):
    for frames, latents in ((51, 15), (60, 15), (16, 4)):  # only whole chunks of 17 frames count, if there is one
        large = ENTRY.create(dataclasses.replace(SMALL, height=512, width=512, frames=frames))
        large.adopt(model.pipe, "cpu")
        grid = large.grid(Clip("p", "p", np.zeros((0, 2), np.float32)), None)
        a, t = math.sqrt(latents), 1 - np.arange(10) / 10
        assert np.allclose(large.schedule(10, grid).noise, a * t / (1 + (a - 1) * t), atol=1e-6)


def test_the_video_is_the_pipelines_own_and_repeats(model, clip):
    video = run(model, clip, RunSettings("generate", (1,), NUM_STEPS, seed=7, cfg=3.0))[0]
    output = model.pipe(
        **model.call_inputs(clip, model.grid(clip, None)),
        height=32,
        width=48,
        num_frames=21,
        num_inference_steps=NUM_STEPS,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(7),
    )
    assert np.array_equal(video, np.rint(output.frames[0] * 255).astype(np.uint8))


def test_half_precision_tiles_and_offloading(clip):
    model = ENTRY.create(dataclasses.replace(SMALL, vae_tiling=True))
    model.load("cpu", "bfloat16", "random")
    assert model.pipe.vae.use_tiling
    assert {p.dtype for p in model.pipe.transformer.parameters()} == {torch.bfloat16}
    model.pipe.enable_model_cpu_offload(device="cpu")  # it installs the same hooks as on a GPU
    for mode in ("renoise", "generate"):
        assert len(run(model, clip, RunSettings(mode, (0,), 2))[1]) == 4


def test_a_video_end_to_end_from_the_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a red disk\n")
    command = ["run", "--model", "open-sora-1.2", "--data", "prompts:prompts.txt"]
    command += ["--probe", "qk,hidden,feature-cos,hidden-cos"]
    options = ["--mode", "generate", "--weights", "random", "--steps", "0,2", "--set", "num_steps=3", "--json"]
    sizes = [word for size in ("size=small", "height=32", "width=48") for word in ("--set", f"model.{size}")]
    with pytest.raises(SystemExit) as ended:
        program.main([*command, *options, *sizes])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code in (0, None)
    assert found["status"] == "complete"
    assert {(site["layer"], site["step"]) for site in found["sites"]} == {(i, j) for i in LAYERS for j in (0, 2)}
    assert list(tmp_path.glob("runs/*/videos/*"))


# ------------------------------------------------------------------------------------------------------------- release


def test_a_pipeline_of_ones_own_is_recorded_by_its_name(model):
    """Checks the case that the class of the network belongs to the plugin."""
    place = place_by_plugin(model.pipe, ENTRY.name)
    assert place.modules == (model.pipe.transformer,)
    assert place.sites == tuple(model.sites())


@pytest.fixture(scope="module")
def folder(model, write_encoders, tmp_path_factory):
    """Returns a folder with the release's layout that holds the small model."""
    folder = tmp_path_factory.mktemp("release")
    for name, network in (("OpenSora-STDiT-v3", model.pipe.transformer), ("OpenSora-VAE-v1.2", model.pipe.vae)):
        (folder / "hpcai-tech" / name).mkdir(parents=True)
        save_file(network.state_dict(), folder / "hpcai-tech" / name / "model.safetensors")
    write_encoders(folder / "google" / "t5-v1_1-xxl", folder / "unused")
    return folder


def test_a_folder_of_the_release_is_the_same_model(model, folder, clip):
    same = load(folder)
    assert same.weights_id(str(folder)).startswith("path:")
    settings = RunSettings("renoise", (2,), NUM_STEPS)
    one, other = (run(each, clip, settings)[2][0] for each in (model, same))
    for part in ("transformer", "vae"):
        built, read = (getattr(each.pipe, part).state_dict() for each in (model, same))
        assert all(torch.equal(built[key], read[key]) for key in built)
    # another alignment of tensors in memory changes the last bit of some sums
    torch.testing.assert_close(one["hidden_states"], other["hidden_states"])
    with torch.no_grad():
        text = same.pipe.encode_prompt("noise aesthetic score: 6.5.", 40)
    assert torch.equal(other["encoder_hidden_states"], text.tokens)
    assert 0 < text.real.sum() < 40
    assert run(same, clip, RunSettings("generate", (0,), 2))[0].shape == clip.video.shape


def test_the_release_in_the_cache_is_found(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    names = ("hpcai-tech/OpenSora-STDiT-v3", "hpcai-tech/OpenSora-VAE-v1.2", "google/t5-v1_1-xxl")
    for number, name in enumerate(names):
        repository, revision = tmp_path / f"models--{name.replace('/', '--')}", str(number) * 40
        shutil.copytree(folder / name, repository / "snapshots" / revision)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(revision)
    expected = f"hub:{names[0]}@{'0' * 40}+{names[2]}@{'2' * 40}+{names[1]}@{'1' * 40}"
    assert ENTRY.create().weights_id("hub") == expected
    assert load("hub").pipe.transformer.config.depth == 2
    shutil.rmtree(tmp_path / "models--hpcai-tech--OpenSora-VAE-v1.2")
    with pytest.raises(MissingError, match=r"OpenSora-VAE-v1\.2 \(vae\), about 1\.6 GB(.|\n)*hf download") as caught:
        ENTRY.create().weights_id("hub")
    assert "STDiT-v3 (transformer)" not in str(caught.value)


def test_weights_bring_their_sizes(folder, model):
    released = ENTRY.create(dataclasses.replace(SMALL, size="released"))
    assert len(released.sites()) == 56
    released.load("cpu", "float32", str(folder))
    assert released.sites() == model.sites()


def test_missing_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        ENTRY.create().weights_id("hub")
    for part in (
        "hpcai-tech/OpenSora-STDiT-v3 (transformer), about 4.8 GB",
        "hf download hpcai-tech/OpenSora-VAE-v1.2",
        "hf download city96/t5-v1_1-xxl-encoder-bf16",
        "--weights random",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "score", "expected"),
    [(" A Red disk", 6.5, "a red disk aesthetic score: 6.5."), ("A disk", 0, "a disk"), ("", 6.5, "")],
)
def test_prompts_are_completed_as_the_release_does(prompt, score, expected):
    assert complete_prompt(prompt, score) == expected


def test_the_card_agrees_with_the_configuration():
    model, card = ENTRY.create(), load_card(ENTRY.card, ENTRY.label)
    config, network = model.config, model.network
    assert (card.name, card.attention, card.frames) == (ENTRY.name, "factorised", config.frames)
    assert card.resolution == (config.height, config.width)
    assert (card.extra["layers"], card.extra["heads"]) == (len(model.sites()), network["num_attention_heads"])
    assert (card.extra["head_dim"], card.extra["text_tokens"]) == (network["attention_head_dim"], model.text_limit())
    assert set(card.extra["configs_seen"]) <= {"transformer", "vae", "scheduler"}
    with torch.device("meta"):
        transformer, vae = (component_from_config(part, model.config_of(part)) for part in ("transformer", "vae"))
    assert card.parameters == sum(p.numel() for p in transformer.parameters())
    assert sum(p.numel() for p in vae.parameters()) == pytest.approx(384e6, rel=0.03)  # the number of the report
