"""Tests every member of the family on a small configuration: both modes, and the passes that its pipeline makes."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from vcorr_cogvideox import plugin
from vcorr_cogvideox.model import CogVideoX

from vcorr import Clip, MissingError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.cards import load_card
from vcorr.diffusion import VideoConfig, locate_weights
from vcorr.diffusion.random_weights import component_from_config
from vcorr.functional import match
from vcorr.testing import assert_passed, check_model, check_passes
from vcorr.testing.report import CheckFailedError
from vcorr.testing.rotary_checks import Rotated

ENTRIES = {entry.name: entry for entry in plugin.vcorr_models() if entry.name != "cogvideox-i2v"}
CASES = [(name, 9) for name in ENTRIES] + [("cogvideox-1.5-5b", 17)]
EVEN = ["cogvideox", "cogvideox-1.5-5b", "cogvideox-1.5-5b-i2v"]
NUM_STEPS = 3


class QueryKey:
    needs = frozenset({"q", "k"})

    def read(self, capture, queries):
        return {-1: match(capture.q, capture.k, capture.grid, queries)}


def small(name, frames=9, **options):
    return VideoConfig(**{"size": "small", "frames": frames, **options})


def make_clip(frames, height=64, width=96):
    video = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    queries = np.array([[10.5, 20.5], [70.25, 40.0]], dtype=np.float32)
    return Clip(id="clip", prompt="a red disk", queries=queries, video=video)


def load(name, frames=9, dtype="float32", **options):
    model = ENTRIES[name].create(small(name, frames, **options))
    model.load("cpu", dtype, "random:3")
    return model


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request):
    name, frames = request.param
    return load(name, frames), make_clip(frames)


def run(model, clip, settings):
    """Returns the video, the predictions, and the arguments of every pass."""
    calls = []
    hook = model.pipe.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(kwargs), with_kwargs=True
    )
    recorder = Recorder({"qk": QueryKey()}, clip.queries)
    try:
        video = model.run(clip, settings, recorder)
    finally:
        hook.remove()
    return video, recorder.predictions, calls


def test_both_modes_answer_at_every_site_and_step(case):
    model, clip = case
    wanted = [(layer, step) for layer in (0, 1) for step in (0, 2)]
    for mode, guidance in (("renoise", None), ("generate", None), ("generate", 1.0)):
        video, predictions, calls = run(model, clip, RunSettings(mode, (0, 2), NUM_STEPS, cfg=guidance))
        assert sorted((p.layer, p.step) for p in predictions) == wanted
        assert {p.grid for p in predictions} == {model.grid(clip, None)}
        assert all(np.array_equal(p.xy[:, 0], clip.queries.xy) for p in predictions)
        assert (video is None) == (mode == "renoise")
        assert [len(call["hidden_states"]) for call in calls] == {
            ("renoise", None): [1, 1],
            ("generate", None): [2, 2, 2],
            ("generate", 1.0): [1, 1, 1],
        }[mode, guidance]
        assert video is None or (video.shape, video.dtype) == (clip.video.shape, np.uint8)


@pytest.mark.parametrize("name", EVEN)
def test_an_even_number_of_latents_is_read_but_not_made(name):
    model, clip = load(name, 13), make_clip(13)
    assert len(run(model, clip, RunSettings("renoise", (0, 2), NUM_STEPS))[1]) == 4
    with pytest.raises(UsageError, match=r"from 4 latent frames(.|\n)*9 and 17"):
        run(model, clip, RunSettings("generate", (0,), NUM_STEPS))


@pytest.mark.parametrize(("name", "frames"), CASES)
def test_renoise_passes_are_what_the_pipeline_makes(name, frames):
    assert_passed(check_passes(ENTRIES[name], make_clip(frames), config=small(name, frames)))


def test_the_video_is_the_pipelines_own_and_repeats(case):
    model, clip = case
    grid = model.grid(clip, None)
    video, *_ = run(model, clip, RunSettings("generate", (1,), NUM_STEPS, seed=7, cfg=3.0))
    output = model.pipe(
        **model.call_inputs(clip, grid),
        height=64,
        width=96,
        num_frames=len(clip.video),
        num_inference_steps=NUM_STEPS,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    )
    assert np.array_equal(video, np.rint(output.frames[0] * 255).astype(np.uint8))


@pytest.mark.parametrize("name", ["cogvideox-1.5-5b", "cogvideox-2b-i2v"])
def test_the_contract_of_models(name):
    settings = RunSettings("generate" if name == "cogvideox-2b-i2v" else "renoise", (0, 2), NUM_STEPS)
    report = check_model(ENTRIES[name], make_clip(9), config=small(name), settings=settings, text_tokens=6)
    assert_passed(report)


# ------------------------------------------------------------------------------------------------------------ geometry


@pytest.mark.parametrize(
    ("frames", "padded", "spans"), [(9, 1, ((0, 0), (1, 8))), (13, 0, ((0, 4), (5, 12))), (12, 1, ((0, 0), (1, 8)))]
)
def test_latents_of_1_5_are_padded_in_front(frames, padded, spans):
    model = load("cogvideox-1.5-5b", 81)
    clip = make_clip(frames)
    grid = model.grid(clip, None)
    assert grid.spans == spans
    clip = make_clip(grid.video_frames)
    with torch.no_grad():
        latents, plain = model.encode(clip.video), super(CogVideoX, model).encode(clip.video)
    assert latents.shape[2] == 2 * grid.frames
    assert torch.equal(latents[:, :, latents.shape[2] - 3 :], plain[:, :, plain.shape[2] - 3 :])
    if padded:
        assert torch.equal(latents[:, :, 0], latents[:, :, 1])


def test_the_true_size_of_1_5_without_loading_anything():
    model = ENTRIES["cogvideox-1.5-5b"].create()
    grid = model.grid(Clip("p", "p", np.zeros((0, 2), np.float32)), model.sites()[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride, grid.video_frames) == (11, 48, 85, (16, 16), 81)
    assert grid.time_spans[1].tolist() == [1, 8]
    assert (model.sites()[41].block, model.sites()[0].unrotated.q) == ("transformer_blocks.41", "norm_q")


@pytest.mark.parametrize(
    ("name", "options", "clip", "reason"),
    [
        ("cogvideox-1.5-5b", {"frames": 7}, None, "9 and more, in steps of 4"),
        ("cogvideox-1.5-5b", {"frames": 15}, None, "13 and 17"),
        ("cogvideox-1.5-5b", {"width": 144}, None, "to 128"),
        ("cogvideox-5b", {"height": 72}, None, "64 and 80"),
        ("cogvideox-5b-i2v", {}, make_clip(5), "positions of 9 frames and takes no other number; this clip has 5"),
    ],
)
def test_sizes_the_model_does_not_take(name, options, clip, reason):
    model = ENTRIES[name].create(small(name, **options))
    with pytest.raises(UsageError, match=reason):
        model.grid(clip or Clip("p", "p", np.zeros((0, 2), np.float32)), None)


# ---------------------------------------------------------------------------------------------------------------- image


def test_an_image_is_needed_and_has_to_fit():
    model = load("cogvideox-5b-i2v")
    nothing = Clip("p", "p", np.zeros((0, 2), np.float32))
    with pytest.raises(UsageError, match=r"Clip p has no image, which CogVideoX-5B-I2V starts from"):
        run(model, nothing, RunSettings("generate", (0,), NUM_STEPS))
    with pytest.raises(UsageError, match=r"image of clip clip is 48x96 pixels; the model takes 64x96"):
        run(model, make_clip(1, height=48), RunSettings("generate", (0,), NUM_STEPS))


@pytest.mark.parametrize(("name", "still"), [("cogvideox-5b-i2v", False), ("cogvideox-2b-i2v", True)])
def test_where_the_image_is_seen(name, still):
    model, clip = load(name), make_clip(9)
    one, other = (
        run(model, dataclasses.replace(clip, video=video), RunSettings("generate", (0,), NUM_STEPS))[2][0]
        for video in (clip.video, np.concatenate([clip.video[:1], clip.video[1:] // 2]))
    )
    assert torch.equal(one["hidden_states"], other["hidden_states"])  # the model reads frame 0 only
    image = one["hidden_states"][1, :, 4:]
    assert bool(image[0].any())
    assert bool(image[1:].any()) is still


def test_weights_with_learned_positions_fit_one_size(with_text, tmp_path):
    with_text(load("cogvideox-5b-i2v").pipe).save_pretrained(tmp_path)
    for options, reason in (({"height": 128, "width": 96}, "takes 64 and no other"), ({}, "takes 64 and no other")):
        other = ENTRIES["cogvideox-5b-i2v"].create(VideoConfig(frames=9, **options))
        other.load("cpu", "float32", str(tmp_path))
        with pytest.raises(UsageError, match=reason):
            other.grid(make_clip(9), None)


def test_a_folder_saved_as_text_to_video_holds_the_2b_image_model(with_text, tmp_path):
    model = load("cogvideox-2b-i2v")
    with_text(model.pipe)
    model.pipe.save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text(index.read_text().replace("StillToVideoPipeline", "CogVideoXPipeline"))
    again = ENTRIES["cogvideox-2b-i2v"].create(small("cogvideox-2b-i2v"))
    again.load("cpu", "float32", str(tmp_path))
    settings = RunSettings("generate", (0,), 2)
    assert np.array_equal(run(model, make_clip(9), settings)[0], run(again, make_clip(9), settings)[0])
    with pytest.raises(UsageError, match="needs a CogVideoXImageToVideoPipeline"):
        ENTRIES["cogvideox-5b-i2v"].create().weights_id(str(tmp_path))


# -------------------------------------------------------------------------------------------------------------- options


def test_dtype_and_tiles():
    model = load("cogvideox-5b", dtype="bfloat16", vae_tiling=True)
    assert model.pipe.vae.use_tiling
    assert {p.dtype for p in model.pipe.transformer.parameters()} == {torch.bfloat16}
    clip = make_clip(9)
    for mode in ("renoise", "generate"):
        video, predictions, _ = run(model, clip, RunSettings(mode, (0,), 2))
        assert len(predictions) == 2
    assert video.shape == (9, 64, 96, 3)


def test_offloading_needs_something_to_offload_to():
    with pytest.raises(UsageError, match="CPU already"):
        load("cogvideox-5b", offload=True)


@pytest.mark.parametrize("name", ["cogvideox-5b", "cogvideox-5b-i2v"])
def test_offloaded_networks_are_captured(name):
    model, other, clip = load(name), load(name), make_clip(9)
    other.pipe.enable_model_cpu_offload(device="cpu")  # it installs the same hooks as on a GPU
    for mode in ("renoise", "generate"):
        one, two = (run(each, clip, RunSettings(mode, (0, 2), NUM_STEPS)) for each in (model, other))
        assert np.array_equal(*(np.stack([p.xy for p in each[1]]) for each in (one, two)))
        assert mode == "renoise" or np.array_equal(one[0], two[0])


@pytest.fixture
def lora(tmp_path):
    """Returns low-rank weights for one projection, and the change that they make to its weight."""
    down, up = torch.randn(2, 32), torch.randn(32, 2)
    prefix = "transformer.transformer_blocks.1.attn1.to_q"
    file = tmp_path / "lora.safetensors"
    save_file({f"{prefix}.lora_A.weight": down, f"{prefix}.lora_B.weight": up}, file)
    return file, up @ down


def test_low_rank_weights_are_merged_and_part_of_the_identity(lora):
    file, change = lora
    plain, tuned = load("cogvideox-5b"), load("cogvideox-5b", lora=str(file))
    before, after = (m.pipe.transformer.transformer_blocks[1].attn1.to_q.weight for m in (plain, tuned))
    assert torch.allclose(after, before + change, atol=1e-5)
    assert len(run(tuned, make_clip(9), RunSettings("renoise", (0,), 2))[1]) == 2


def test_low_rank_weights_are_identified_without_loading(lora):
    file, _ = lora
    model = ENTRIES["cogvideox-5b"].create(small("cogvideox-5b", lora=str(file)))
    name, _, digest = model.weights_id("random").partition("+lora:")
    assert (name, len(digest)) == ("random:0", 16)


def test_low_rank_weights_that_cannot_be_had(lora, tmp_path, monkeypatch):
    file, _ = lora
    for path, error, reason in (
        (tmp_path / "none.safetensors", MissingError, "no such file"),
        (tmp_path / "lora.pt", UsageError, "pickles"),
    ):
        if error is UsageError:
            path.write_bytes(b"")
        with pytest.raises(error, match=reason):
            load("cogvideox-5b", lora=str(path))
        with pytest.raises(error, match=reason):
            ENTRIES["cogvideox-5b"].create(small("cogvideox-5b", lora=str(path))).weights_id("random")
    monkeypatch.setattr("vcorr.diffusion.lora_files.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="pip install peft"):
        load("cogvideox-5b", lora=str(file))


QUERY = "transformer.transformer_blocks.1.attn1.to_q"


def pair(name, inputs=32, outputs=32, value=1.0):
    return {f"{name}.lora_A.weight": torch.ones(2, inputs), f"{name}.lora_B.weight": torch.full((outputs, 2), value)}


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"something.else": torch.zeros(2)}, "does not fit transformer of CogVideoXPipeline"),
        (pair("unet.transformer_blocks.1.attn1.to_q"), "does not fit CogVideoXPipeline: none of its weights belongs"),
        (pair("transformer_blocks.1.attn1.to_q"), "none of its weights belongs to transformer"),
        (pair("diffusion_model.blocks.1.self_attn.q"), "none of its weights belongs to transformer"),
        (pair("transformer.transformer_blocks.99.attn1.to_q"), r"does not fit .*blocks\.99"),
        (
            pair(QUERY) | pair("transformer.transformer_blocks.99.attn1.to_q"),
            r"only in part: .*no place for .*blocks\.99",
        ),
        (pair(QUERY, inputs=7), "does not fit .*size mismatch"),
        ({f"{QUERY}.lora_A.weight": torch.ones(2, 32)}, r"does not fit (.|\n)*pairs such as"),
        (pair(QUERY, value=torch.nan), r"makes weights NaN or infinite: transformer_blocks\.1\.attn1\.to_q"),
    ],
)
def test_low_rank_weights_that_do_not_fit_wholly_are_refused(keys, reason, tmp_path, capfd):
    file = tmp_path / "lora.safetensors"
    save_file(keys, file)
    with pytest.raises(UsageError, match=reason):
        load("cogvideox-5b", lora=str(file))
    assert capfd.readouterr().err == ""  # diffusers' own words would only confuse


# ---------------------------------------------------------------------------------------------------------------- cards


@pytest.mark.parametrize("name", ENTRIES)
def test_cards_agree_with_the_configurations(name):
    entry = ENTRIES[name]
    model, card = entry.create(), load_card(entry.card, entry.label)
    config, network = model.config, model.network
    assert (card.name, card.resolution, card.frames) == (name, (config.height, config.width), config.frames)
    assert (card.extra["layers"], card.extra["heads"]) == (network["num_layers"], network["num_attention_heads"])
    assert card.extra["head_dim"] == network["attention_head_dim"]
    assert card.extra["text_tokens"] == network["max_text_seq_length"]
    assert card.extra["patch"]["temporal"] == (network["patch_size_t"] or 1)
    assert len(card.revision) == 40
    assert (model.card, model.needs_image) == (entry.card, "i2v" in name)
    with torch.device("meta"):
        transformer = component_from_config("transformer", network)
    assert card.parameters == sum(p.numel() for p in transformer.parameters())


def test_cogvideox_i2v_is_another_name_of_the_2b():
    names = {entry.name: entry for entry in plugin.vcorr_models()}
    alias, named = names["cogvideox-i2v"], names["cogvideox-2b-i2v"]
    assert (alias.factory, alias.configs, alias.card) == (named.factory, named.configs, named.card)


@pytest.mark.parametrize("name", ENTRIES)
def test_missing_weights_are_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = load_card(ENTRIES[name].card, name)
    with pytest.raises(MissingError, match=f"hf download {card.hub_id} --revision {card.revision}"):
        ENTRIES[name].create().weights_id("hub")


def test_a_card_without_revision_takes_what_the_cache_has(with_text, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = dataclasses.replace(load_card(ENTRIES["cogvideox-5b"].card, "card"), hub_id="owner/some", revision=None)
    with pytest.raises(MissingError, match=r"owner/some, any revision(.|\n)*hf download owner/some\n"):
        locate_weights("hub", card, "CogVideoXPipeline")
    repository = tmp_path / "models--owner--some"
    with_text(load("cogvideox-5b").pipe).save_pretrained(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert locate_weights("hub", card, "CogVideoXPipeline").identity == "hub:owner/some@" + "a" * 40


# ------------------------------------------------------------------------------------------------------ rotary layout


def check_rotary(model, rotary=None):
    """Renoises with the check of the rotary layout; `rotary`, if given, replaces the declared one."""
    clip = make_clip(model.config.frames, model.config.height, model.config.width)
    if rotary is not None:
        sites = tuple(dataclasses.replace(site, rotary=rotary) for site in model.sites())
        model.sites = lambda: sites
    model.run(clip, RunSettings(steps=(49,), num_steps=50), Recorder({"rotary": Rotated()}, clip.queries))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 96), (48, 128), (80, 96)])
@pytest.mark.parametrize("name", ["cogvideox-5b", "cogvideox-1.5-5b"])
def test_the_rotary_layout_is_the_networks_at_every_size(name, height, width):
    check_rotary(load(name, height=height, width=width))


EXCHANGED = {"t": "t", "y": "x", "x": "y"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda right: dataclasses.replace(right, pairing="half"),
        lambda right: dataclasses.replace(right, axes=tuple(EXCHANGED[axis] for axis in right.axes)),
        lambda right: dataclasses.replace(right, frequencies=tuple(1.01 * each for each in right.frequencies)),
        lambda right: dataclasses.replace(right, starts=(1.0, 0.0, 0.0)),
    ],
)
def test_a_wrong_rotary_layout_is_found(wrong):
    model = load("cogvideox-5b")
    with pytest.raises(CheckFailedError, match="rotated as `rotary` declares differs"):
        check_rotary(model, wrong(model.rotary))


def test_models_with_sines_have_no_rotary_layout():
    assert ENTRIES["cogvideox"].create().rotary is None
