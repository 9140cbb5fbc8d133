"""Tests every model on a small configuration: both modes, and the passes that its pipeline makes."""

import dataclasses
import inspect
import json

import diffusers
import numpy as np
import pytest
import torch
from vcorr_unet.structure import unet_blocks

import vcorr
from vcorr import Clip, MissingError, RunSettings, TokenGrid, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.capture.tap import Tap, observing
from vcorr.contract.cards import load_card
from vcorr.diffusion.random_weights import component_from_config
from vcorr.testing import assert_passed, check_model, check_passes

KINDS = ["svd", "modelscope", "animatediff"]
TEXT = ["modelscope", "animatediff"]
NUM_STEPS = 3
FRAMES, HEIGHT, WIDTH = 3, 32, 48


def build_unet(model):
    """Builds the network at the sizes of a model's configurations, without weights."""
    with torch.device("meta"):
        return model.build(0).unet


class Keeper:
    """A probe that keeps queries, by layer and step."""

    needs = frozenset({"q"})

    def __init__(self):
        self.seen = {}

    def read(self, capture, queries):
        self.seen[capture.site.layer, capture.step] = capture.q.clone()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, 2)}


def run(model, clip, settings):
    """Returns the video, the queries that the probe kept, and the arguments of every pass."""
    calls, keeper = [], Keeper()
    hook = model.pipe.unet.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(name_arguments(args, kwargs)), with_kwargs=True
    )
    try:
        video = model.run(clip, settings, Recorder({"keeper": keeper}, clip.queries))
    finally:
        hook.remove()
    return video, keeper.seen, calls


def name_arguments(args, kwargs):
    """Returns the arguments of a pass by name."""
    return {**dict(zip(("sample", "timestep"), args, strict=False)), **kwargs}


# --------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("mode", ["renoise", "generate"])
@pytest.mark.parametrize("name", KINDS)
def test_the_contract(name, mode, entries, small, make_clip):
    settings = RunSettings(mode, (0, 2), NUM_STEPS)
    plugin = "vcorr_unet.plugin" if (name, mode) == ("svd", "renoise") else None
    report = check_model(
        entries[name], make_clip(), config=small(name), settings=settings, plugin=plugin, text_tokens=0
    )
    assert_passed(report)


@pytest.mark.parametrize("name", ["svd-xt", "zeroscope"])
def test_models_that_differ_in_size_alone(name, entries, small, make_clip):
    settings = RunSettings("renoise", (0, 2), NUM_STEPS)
    assert_passed(check_model(entries[name], make_clip(), config=small(name), settings=settings, text_tokens=0))
    again = RunSettings("generate", (0, 2), NUM_STEPS)
    skip = {
        "same seed, same result",
        "only chosen layers are read",
        "what sites declare besides attention can be captured",
    }
    assert_passed(check_model(entries[name], make_clip(), config=small(name), settings=again, skip=skip))


def test_renoised_passes_are_those_of_the_pipeline(name, entries, small, make_clip):
    assert_passed(check_passes(entries[name], make_clip(), config=small(name)))


@pytest.mark.parametrize("name", KINDS)
def test_the_conditional_rows_are_read_under_guidance(name, load, make_clip):
    model, clip, calls = load(name), make_clip(), []
    sites, differing = model.sites(), []
    with Tap(
        model.pipe.unet,
        [site.name for site in sites],
        observing(lambda call: calls.append((call.name, call.q.clone()))),
    ):
        _, seen, _ = run(model, clip, RunSettings("generate", (1,), 2, cfg=4.0))
    assert [name for name, _ in calls] == [site.name for site in sites] * 2  # layers are numbered in order of execution
    for site, (_, q) in zip(sites, calls[len(sites) :], strict=True):
        grid, found = model.grid(clip, site), seen[site.layer, 1]
        rows = q[len(q) // 2 :]  # unconditional first
        for frame in range(grid.frames):
            for place in (0, 1, grid.tokens_per_frame - 1):
                row, token = (frame, place) if site.factorised.kind == "spatial" else (place, frame)
                mine = found[:, frame, place // grid.cols, place % grid.cols]
                assert torch.equal(mine, rows[row, :, token]), (site.name, frame, place)
        differing.append(not torch.equal(rows, q[: len(q) // 2]))
    # the first ones run before the network has read its condition
    assert sum(differing) >= len(sites) - 5


@pytest.mark.parametrize("name", KINDS)
def test_hidden_states_are_those_after_the_attention(name, load, make_clip):
    """Compares hidden states with block outputs, which all models return frame by frame in the end."""
    model, clip = load(name), make_clip()
    seen, outputs = {}, {}

    class Hidden(Keeper):
        needs = frozenset({"hidden"})

        def read(self, capture, queries):
            seen[capture.site.name] = capture.hidden.clone()
            return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, 2)}

    wanted = [site for site in model.sites() if site.name.startswith("up_blocks.1")]
    modules = dict(model.pipe.unet.named_modules())
    hooks = [
        modules[site.block].register_forward_hook(lambda m, a, out, name=site.name: outputs.update({name: out}))
        for site in wanted
    ]
    recorder = Recorder({"hidden": Hidden()}, clip.queries, layers={site.layer for site in wanted})
    model.run(clip, RunSettings("renoise", (1,), NUM_STEPS), recorder)
    for hook in hooks:
        hook.remove()
    for site in wanted:
        grid, out = model.grid(clip, site), outputs[site.name]
        frames = out if len(out) == grid.frames else out.transpose(0, 1)
        assert torch.equal(seen[site.name].flatten(1, 2), frames)


@pytest.mark.parametrize("name", KINDS)
def test_a_pass_can_be_timed_with_all_branches(name, entries, small):
    from vcorr.bench.random_models import one_pass

    model = entries[name].create(small(name))
    model.load("cpu", "float32", "random:3")
    both, one = one_pass(model, keep_vae=True), one_pass(model, guidance=False, keep_vae=True)
    assert (both.batch, one.batch) == (2, 1)
    seen = []
    hook = model.pipe.unet.conv_in.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    with torch.no_grad():
        both()
        one()
    hook.remove()
    assert seen == [2 * 3, 3]


# --------------------------------------------------------------------------------------------------------------- layout


def test_every_self_attention_is_a_site(name, entries):
    model = entries[name].create()
    modules = dict(build_unet(model).named_modules())
    cross = ".temporal_transformer_blocks.0.attn2" if name.startswith("svd") else ".attentions."
    known = {site.name for site in model.sites()}
    attention = {path for path in modules if path.endswith((".attn1", ".attn2"))}
    assert known <= attention
    left = {path for path in attention - known if not path.endswith(".attn2") or cross not in path}
    assert {path for path in left if ".attentions." not in path} == set()
    assert all(path.endswith(".attn2") for path in left)
    for site in model.sites():
        assert modules[site.name].heads == site.heads
        assert site.block in modules
        assert site.attention == "factorised"


@pytest.mark.parametrize(
    ("name", "counts", "size"),
    [
        ("svd", (16, 16), (14, 72, 128)),
        ("svd-xt", (16, 16), (25, 72, 128)),
        ("modelscope", (16, 34), (16, 32, 32)),
        ("zeroscope", (16, 34), (24, 40, 72)),
        ("animatediff", (16, 42), (16, 64, 64)),
    ],
)
def test_each_resolution_has_its_grid(name, counts, size, entries):
    model, clip = entries[name].create(), Clip("p", "p", np.zeros((0, 2), np.float32))
    sites = model.sites()
    assert tuple(sum(s.factorised.kind == kind for s in sites) for kind in ("spatial", "temporal")) == counts
    frames, rows, cols = size
    grids = {level: TokenGrid(frames, rows >> level, cols >> level, (8 << level, 8 << level)) for level in range(4)}
    assert {model.grid(clip, site) for site in sites} == set(grids.values())
    deepest = model.grid(clip, next(site for site in sites if site.name.startswith("mid_block")))
    assert deepest == grids[3]
    assert model.grid(clip, None) == model.grid(clip, sites[0]) == grids[0]
    assert model.grid(clip, next(site for site in sites if site.name.startswith("up_blocks.3"))) == grids[0]
    assert (grids[0].time_spans == np.arange(frames)[:, None]).all()


@pytest.mark.parametrize(
    ("name", "spatial"),
    [
        ("svd", range(0, 32, 2)),
        ("modelscope", range(2, 50, 3)),
        ("animatediff", [0, 3, 6, 9, 12, 15, 22, *range(31, 58, 3)]),
    ],
)
def test_which_layers_are_spatial_is_as_the_readme_says(name, spatial, entries):
    sites = entries[name].create().sites()
    assert [site.layer for site in sites if site.factorised.kind == "spatial"] == list(spatial)


def test_motion_modules_of_other_versions_are_not_at_the_deepest_level(entries, small, make_clip, with_text, tmp_path):
    entry, config = entries["animatediff"], small("animatediff")
    other = entry.create(config)
    sizes = {**other.config_of("motion_adapter"), "use_motion_mid_block": False, "motion_max_seq_length": 4}
    other.take_sizes({"motion_adapter": sizes})
    with_text(other.build(0)).save_pretrained(tmp_path)
    known = [site.name for site in entry.create(config).sites()]
    loaded = entry.create(config)
    loaded.load("cpu", "float32", str(tmp_path))
    names = [site.name for site in loaded.sites()]
    assert names == [name for name in known if not name.startswith("mid_block.motion_modules")]
    assert len(names) == len(known) - 2
    for mode in ("renoise", "generate"):
        assert len(run(loaded, make_clip(), RunSettings(mode, (0,), 2))[1]) == len(names)
    short = entry.create(small("animatediff", frames=5))
    short.adopt(loaded.pipe, "cpu")
    with pytest.raises(UsageError, match=r"frames=5 (.|\n)*nearest: 4"):
        short.grid(Clip("p", "p", np.zeros((0, 2), np.float32)), None)


def test_blocks_run_down_and_up_again():
    blocks = [(block.name, block.level, block.layers, block.spatial) for block in unet_blocks(2, 3)]
    assert blocks == [
        ("down_blocks.0", 0, 3, True),
        ("down_blocks.1", 1, 3, False),
        ("mid_block", 1, 1, True),
        ("up_blocks.0", 1, 4, False),
        ("up_blocks.1", 0, 4, True),
    ]


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("svd", {"height": 36}, r"height=36 (.|\n)*nearest: 32 and 40"),
        ("modelscope", {"width": 50}, r"width=50 (.|\n)*nearest: 48 and 56"),
        ("zeroscope", {"frames": 1}, r"frames=1 (.|\n)*nearest: 2"),
        ("animatediff", {"frames": 33}, r"frames=33 (.|\n)*nearest: 32"),
    ],
)
def test_sizes_the_model_does_not_take(name, options, reason, entries, small):
    model = entries[name].create(small(name, **options))
    with pytest.raises(UsageError, match=reason):
        model.grid(Clip("p", "p", np.zeros((0, 2), np.float32)), None)


def test_a_shorter_clip_is_read_as_it_is(load, make_clip):
    model, clip = load("animatediff"), make_clip(frames=2)
    _, seen, calls = run(model, clip, RunSettings("renoise", (0,), NUM_STEPS))
    assert calls[0]["sample"].shape == (1, 4, 2, 8, 12)
    assert len(seen) == len(model.sites())


# ------------------------------------------------------------------------------------------------- noise and guidance


def test_noise_of_edm(load, make_clip):
    model, clip = load("svd"), make_clip()
    schedule = model.schedule(25, model.grid(clip, None))
    sigmas = schedule.sigmas / schedule.alphas
    assert sigmas[0] == pytest.approx(700)
    assert sigmas[-1] == pytest.approx(0.002)
    assert schedule.noise == pytest.approx(sigmas / (1 + sigmas))
    timesteps = schedule.timesteps.double().numpy()
    assert timesteps == pytest.approx(0.25 * np.log(sigmas), rel=1e-5)
    assert timesteps[-1] < 0


def test_guidance_rises_over_the_frames(load, make_clip):
    model, clip = load("svd"), make_clip()
    run(model, clip, RunSettings("generate", (0,), 2, cfg=2.0))
    assert model.pipe.guidance_scale.flatten().tolist() == pytest.approx([1.0, 1.5, 2.0])
    _, _, calls = run(model, clip, RunSettings("generate", (0,), 2))
    assert len(calls[0]["sample"]) == 2
    assert model.pipe.guidance_scale.flatten().tolist() == pytest.approx([1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", KINDS)
def test_without_guidance_the_batch_is_the_conditional_branch(name, load, make_clip):
    model, clip = load(name), make_clip()
    _, seen, calls = run(model, clip, RunSettings("generate", (1,), 2, cfg=1.0))
    assert {len(call["sample"]) for call in calls} == {1}
    assert len(seen) == len(model.sites())


# ---------------------------------------------------------------------------------------------------------------- image


def test_an_image_is_needed_and_has_to_fit(load, make_clip):
    model = load("svd")
    nothing = Clip("p", "p", np.zeros((0, 2), np.float32))
    with pytest.raises(UsageError, match="Clip p has no image, which Stable Video Diffusion starts from"):
        run(model, nothing, RunSettings("generate", (0,), 2))
    with pytest.raises(UsageError, match="image of clip clip is 24x48 pixels; the model takes 32x48"):
        run(model, make_clip(height=24), RunSettings("generate", (0,), 2))


def test_the_first_frame_alone_is_the_image(load, make_clip):
    model, clip = load("svd"), make_clip()
    later = dataclasses.replace(clip, video=np.concatenate([clip.video[:1], clip.video[1:] // 2]))
    first = dataclasses.replace(clip, video=np.concatenate([clip.video[:1] // 2, clip.video[1:]]))
    one, same, other = (run(model, each, RunSettings("generate", (0,), 2))[2][0] for each in (clip, later, first))
    assert torch.equal(one["sample"], same["sample"])
    assert not torch.equal(one["sample"][1, :, 4:], other["sample"][1, :, 4:])
    assert not torch.equal(one["encoder_hidden_states"][1], other["encoder_hidden_states"][1])
    image = one["sample"][1, :, 4:]
    assert torch.equal(image, image[:1].expand_as(image))  # the same in every frame
    assert not one["sample"][0, :, 4:].any()  # and none in the unconditional branch


def test_latents_of_a_video_are_scaled_and_those_of_its_image_are_not(load, make_clip):
    model, clip = load("svd", noise_aug_strength=0.0), make_clip()
    with torch.no_grad():
        video = model.encode(clip.video)
        passes = model.borrow(clip, model.grid(clip, None), RunSettings("renoise", (0,), NUM_STEPS))
    image = passes.inputs(video, 0)["sample"][0, :, 4:]
    torch.testing.assert_close(image[0] * model.pipe.vae.config.scaling_factor, video[0, :, 0])


# -------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_pipeline_is_read(name, entries, small, make_clip, with_text, tmp_path):
    """Checks that a saved pipeline is read with its own sizes, not with the released ones."""
    model = entries[name].create(small(name))
    model.load("cpu", "float32", "random:3")
    if name in TEXT:
        with_text(model.pipe)
    model.pipe.save_pretrained(tmp_path)
    again = entries[name].create(small(name, size="released", height=HEIGHT, width=WIDTH, frames=FRAMES))
    assert len(again.sites()) > 30
    again.load("cpu", "float32", str(tmp_path))
    assert again.sites() == model.sites()
    weights, theirs = (each.pipe.unet.state_dict() for each in (model, again))
    assert all(torch.equal(weights[key], theirs[key]) for key in weights)
    settings = RunSettings("renoise", (1,), NUM_STEPS)
    one, other = (run(each, make_clip(), settings)[1] for each in (model, again))
    # another alignment of tensors in memory changes the last bit of some sums
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    if name in TEXT:
        with pytest.raises(UsageError, match=r"77"):
            again.prompt(make_clip(prompt="a red disk " * 26))


@pytest.fixture
def repositories(entries, small, with_text, tmp_path, monkeypatch):
    """Fills a hub cache with a small Stable Diffusion; returns its network, motion modules and their folder."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card, model = load_card(entries["animatediff"].card, "card"), entries["animatediff"].create(small("animatediff"))
    unet, adapter, vae = (
        component_from_config(part, model.config_of(part)) for part in ("unet", "motion_adapter", "vae")
    )
    plain = StableDiffusionPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    modules = card.extra["motion_adapter"]
    folders = [
        tmp_path / f"models--{hub_id.replace('/', '--')}" / "snapshots" / revision
        for hub_id, revision in ((card.hub_id, card.revision), (modules["hub_id"], modules["revision"]))
    ]
    with_text(plain).save_pretrained(folders[0])
    return unet, adapter, folders[1]


def test_animatediff_comes_from_two_repositories(repositories, entries, small, make_clip):
    unet, adapter, folder = repositories
    model = entries["animatediff"].create(small("animatediff"))
    with pytest.raises(MissingError, match=r"the motion modules of AnimateDiff(.|\n)*hf download guoyww/animatediff"):
        model.weights_id("hub")
    adapter.save_pretrained(folder)
    stable, motion = model.weights_id("hub").split("+")
    assert stable.startswith("hub:stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe")
    assert motion.startswith("guoyww/animatediff-motion-adapter-v1-5-2@6167b88")
    model.load("cpu", "float32", "hub")
    loaded, path = model.pipe.unet, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert torch.equal(loaded.get_parameter(path), unet.get_parameter(path))
    path = "motion_modules.0.transformer_blocks.0.attn1.to_q.weight"
    expected = adapter.down_blocks[0].get_parameter(path)
    assert torch.equal(loaded.down_blocks[0].get_parameter(path), expected)
    assert type(model.pipe.scheduler).__name__ == "DDIMScheduler"
    for mode in ("renoise", "generate"):
        assert len(run(model, make_clip(), RunSettings(mode, (0,), 2))[1]) == len(model.sites())


def test_missing_weights_are_named(name, entries, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = load_card(entries[name].card, name)
    with pytest.raises(MissingError, match=f"hf download {card.hub_id} --revision {card.revision}"):
        entries[name].create().weights_id("hub")


@pytest.mark.parametrize("name", KINDS)
def test_half_precision(name, entries, small, make_clip):
    model = entries[name].create(small(name))
    model.load("cpu", "bfloat16", "random")
    assert {p.dtype for p in model.pipe.unet.parameters()} == {torch.bfloat16}
    for mode in ("renoise", "generate"):
        assert len(run(model, make_clip(), RunSettings(mode, (0,), 2))[1]) == len(model.sites())


def test_cards_agree_with_the_configurations(name, entries):
    entry = entries[name]
    model, card = entry.create(), load_card(entry.card, entry.label)
    config, spatial = model.config, model.heads(model.transformers[0])
    assert (card.name, card.resolution, card.frames) == (name, (config.height, config.width), config.frames)
    assert card.attention == "factorised"
    assert card.extra["layers"] == len(model.sites())
    heads = card.extra["heads"]
    assert list(heads) == list(spatial) if isinstance(heads, list) else heads == spatial
    assert card.extra["token_sizes"] == [8, 16, 32, 64]
    assert card.extra["vae"]["channels"] == model.config_of("vae")["latent_channels"]
    assert set(card.extra["configs_seen"]) <= set(model._packaged)
    assert len(card.revision) == 40
    assert (model.card, model.needs_image) == (entry.card, name.startswith("svd"))
    assert card.parameters == sum(p.numel() for p in build_unet(model).parameters())


@pytest.mark.parametrize("size", ["released", "small"])
def test_configurations_name_nothing_that_diffusers_does_not_take(name, size, entries):
    for part, config in entries[name].create(entries[name].config_type()(size=size))._packaged.items():
        if part != "video":
            known = inspect.signature(getattr(diffusers, config["_class_name"]).__init__).parameters
            assert set(config) - {"_class_name"} <= set(known), part


# ------------------------------------------------------------------------------------------------------- through a run


def test_a_run_has_floors_and_ceilings_of_every_resolution(small, tmp_path):
    from vcorr.plugins.registry import installed
    from vcorr.runner.coordinator import execute
    from vcorr.runner.plan import make_plan
    from vcorr.runner.spec import RunSpec

    config = dataclasses.asdict(small("modelscope", height=64, width=64))
    options = {"model": {key: value for key, value in config.items() if value is not None}}
    probes = "qk,feature-cos,feature-cos-token,hidden-cos"
    spec = RunSpec(
        model="modelscope", probe=probes, data="sprites", limit=1, steps="last", num_steps=4, weights="random"
    )
    outcome = execute(make_plan(dataclasses.replace(spec, options=options), installed()), tmp_path)
    assert outcome.status == "complete"
    rows = [r for r in outcome.run.read("scores").to_pylist() if r["metric"] == "matching_accuracy"]
    grids = {p["layer"]: json.loads(p["grid"])["stride"][0] for p in outcome.run.read("predictions").to_pylist()}
    assert set(grids.values()) == {4.0, 8.0}
    assert {r["attention"] for r in rows} == {"factorised"}
    assert {r["probe"] for r in rows} == set(probes.split(","))
    bounds = {stride: {(r["floor"], r["ceiling"]) for r in rows if grids[r["layer"]] == stride} for stride in (4, 8)}
    assert all(len(each) == 1 for each in bounds.values())
    assert bounds[4] != bounds[8]
    with pytest.raises(UsageError, match="'attention' reads"):
        make_plan(dataclasses.replace(spec, options=options, probe="attention"), installed())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("whole", [True, False], ids=["pipeline", "unet"])
def test_a_pipeline_of_ones_own_is_recorded(name, whole, load, make_clip):
    """Checks that each resolution has its grid in a notebook too, where only the latents give the sizes."""
    model, clip = load(name), make_clip()
    pipe, grid = model.pipe, model.grid(clip, None)
    call = {**model.call_inputs(clip, grid), "height": 32, "width": 48, "num_frames": 3, "num_inference_steps": 2}
    with vcorr.record(pipe if whole else pipe.unet, layout=name, probes=["qk"], queries=clip.queries.xy) as rec:
        pipe(**call, output_type="latent")
    stride = 4 if whole else 8  # the network alone does not know the compression of its autoencoder
    expected = {site.layer: grid.coarser(round(model.grid(clip, site).stride[0] / 4)) for site in model.sites()}
    assert len(rec.predictions) == 2 * len(expected)
    for prediction in rec.predictions:
        wanted = expected[prediction.layer]
        assert (prediction.grid.rows, prediction.grid.cols) == (wanted.rows, wanted.cols)
        assert prediction.grid.stride[0] * 4 == wanted.stride[0] * stride
        assert prediction.grid.frames == 3


@pytest.mark.parametrize("name", KINDS)
def test_a_change_of_pixels_is_seen_at_its_token(name, load, make_clip):
    """Follows pixels through autoencoder and network: checks frame, row and column at both resolutions."""
    model, clip, seen = load(name), make_clip(), []
    frame, x, y = 1, 32, 8  # the corner of a token at either resolution
    for light in (0, 255):
        video = np.full_like(clip.video, 127)
        video[frame, y : y + 8, x : x + 8] = light
        seen.append(run(model, dataclasses.replace(clip, video=video), RunSettings("renoise", (24,), 25))[1])
    spatial = [site for site in model.sites() if site.factorised.kind == "spatial"]
    for site in (spatial[0], next(site for site in spatial if "mid_block" in site.name)):
        grid, (dark, bright) = model.grid(clip, site), (each[site.layer, 24] for each in seen)
        change = (bright - dark).norm(dim=-1).norm(dim=0)  # (F, h, w)
        found = np.unravel_index(int(change.argmax()), tuple(change.shape))
        assert found[0] == frame
        off = np.abs(grid.token_centres(*found[1:]) - [x + 4, y + 4])
        # convolutions spread the change over neighbours of the tokens under the patch
        assert (off <= 4 + 1.5 * np.array(grid.stride)).all(), (site.name, found, off)


@pytest.mark.parametrize("name", KINDS)
def test_offloaded_networks_are_captured(name, entries, small, load, make_clip):
    other = entries[name].create(small(name))
    other.load("cpu", "float32", "random:3")
    other.pipe.enable_model_cpu_offload(device="cpu")  # it installs the same hooks as on a GPU
    for mode in ("renoise", "generate"):
        one, two = (run(each, make_clip(), RunSettings(mode, (1,), 2))[1] for each in (load(name), other))
        assert all(torch.equal(one[site], two[site]) for site in one)


def test_models_of_one_class_are_all_checked(monkeypatch):
    from vcorr.authoring.check import suites as checks
    from vcorr.authoring.check.targets import find_target
    from vcorr.plugins.registry import installed

    asked = []
    monkeypatch.setitem(checks.SUITES, "model", lambda entry, config: asked.append(entry.name) or [])
    checks.check_plugin(find_target("vcorr-unet", installed()), installed(), {})
    assert sorted(asked) == ["animatediff", "modelscope", "svd", "svd-xt", "zeroscope"]
