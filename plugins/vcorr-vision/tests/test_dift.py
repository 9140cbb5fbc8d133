"""Tests DIFT on small configurations: noise and steps, several resolutions, the maps that the paper reads."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler

from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.cards import load_card
from vcorr.diffusion.latents import clip_noise
from vcorr.diffusion.random_weights import component_from_config
from vcorr.probes.matching_probes import QueryKey
from vcorr.testing import assert_passed, check_model
from vcorr.testing.impulse import find_impulse, make_local

MODELS = ["dift-sd1.5", "dift-sd2.1"]
SETTINGS = RunSettings("renoise", (0, 2), 3)


class Hidden:
    needs = frozenset({"hidden"})

    def __init__(self):
        self.seen = {}

    def read(self, capture, queries):
        self.seen[capture.site.layer] = capture.hidden.clone()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, 2)}


def see_no_neighbours(unet):
    """Keeps only the middle weight of every convolution, so that a pixel does not affect its neighbours."""
    with torch.no_grad():
        for module in unet.modules():
            if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
                middle = module.weight[..., 1, 1].clone()
                module.weight.zero_()[..., 1, 1] = middle


@pytest.mark.parametrize("name", MODELS)
def test_the_contract(name, entries, small, make_clip):
    assert_passed(check_model(entries[name], make_clip(), config=small(name), settings=SETTINGS, text_tokens=0))


def test_tokens_grow_from_level_to_level(entries, small, make_clip):
    model = entries["dift-sd2.1"].create(small("dift-sd2.1"))
    strides = {site.name: model.grid(make_clip(), site).stride[0] for site in model.sites()}
    assert list(strides.values()) == [2, 4, 2, 2]
    assert [site.heads for site in model.sites()] == [2, 4, 2, 2]
    full = entries["dift-sd2.1"].create(small("dift-sd2.1", size="released", height=64, width=64))
    found = [
        (site.layer, full.grid(make_clip(height=64, width=64), site).stride[0], site.block) for site in full.sites()
    ]
    assert len(found) == 16
    assert found[10] == (10, 16, "up_blocks.1")


def test_the_papers_timestep_is_a_step(load, make_clip):
    model = load("dift-sd2.1")
    assert float(model.schedule(50, model.grid(make_clip(), None)).timesteps[36]) == 261


@pytest.mark.parametrize("name", MODELS)
def test_hidden_is_the_map_that_an_up_block_puts_out(name, load, make_clip):
    """Compares with the network, called directly frame by frame on the same noise."""
    model, clip, probe = load(name), make_clip(), Hidden()
    recorder = Recorder({"hidden": probe}, clip.queries)
    model.run(clip, RunSettings("renoise", (1,), 3), recorder)
    assert all(0 < prediction.noise < 1 for prediction in recorder.predictions)
    grid, maps = model.grid(clip, None), []
    with torch.no_grad():
        schedule, latents = model.schedule(3, grid), model.encode(clip.video)
        noisy = schedule.add_noise(latents, clip_noise(latents.shape, 42, clip.id), 1)
        prompt = model.embed("")["prompt_embeds"]
        hook = model.pipe.unet.up_blocks[0].register_forward_hook(lambda _, __, out: maps.append(out))
        for frame in range(grid.frames):
            model.pipe.unet(noisy[:, :, frame], schedule.timesteps[1], encoder_hidden_states=prompt)
        hook.remove()
    theirs = torch.cat(maps).permute(0, 2, 3, 1)
    torch.testing.assert_close(probe.seen[2], theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_change_of_pixels_arrives_at_its_token(name, load, make_clip):
    model, clip = load(name), make_clip()
    make_local(model.pipe.vae, causal=False)
    see_no_neighbours(model.pipe.unet)
    for token in [(0, 4, 4), (2, 7, 11)]:
        assert find_impulse(model, clip, token, 49, 50) == token


def test_no_video_is_made(entries, small, load, make_clip):
    clip, model = make_clip(), load("dift-sd1.5")
    with pytest.raises(UsageError, match="generates none"):
        model.grid(Clip(id="text", prompt="a disk", queries=clip.queries), None)
    with pytest.raises(UsageError, match="generates none"):
        model.run(clip, RunSettings("generate", (0,), 3), Recorder({}, clip.queries))


def test_a_saved_pipeline_with_another_scheduler(load, make_clip, with_text, tmp_path):
    model, clip, again_at = load("dift-sd2.1"), make_clip(), tmp_path / "saved"
    with_text(model.pipe)
    other = dict(model.pipe.scheduler.config)
    model.pipe.scheduler = PNDMScheduler.from_config(other)
    model.pipe.save_pretrained(again_at)
    model.pipe.scheduler = DDIMScheduler.from_config(other)
    again = load("dift-sd2.1", size="released", height=32, width=48, weights=str(again_at))
    assert type(again.pipe.scheduler).__name__ == "DDIMScheduler"
    assert again.sites() == model.sites()
    found = []
    for each in (model, again):
        recorder = Recorder({"qk": QueryKey()}, clip.queries)
        each.run(clip, SETTINGS, recorder)
        found.append([prediction.xy for prediction in recorder.predictions])
    np.testing.assert_allclose(found[0], found[1])


@pytest.mark.parametrize("name", MODELS)
def test_passes_are_what_the_pipeline_makes(name, load, make_clip):
    """Compares with a call of the pipeline for one image per frame, in the conditional branch."""
    model, clip, calls = load(name), make_clip(), []
    grid, steps = model.grid(clip, None), 3
    hook = model.pipe.unet.register_forward_hook(
        lambda _, args, kwargs, __: calls.append({**dict(zip(("sample", "timestep"), args, strict=False)), **kwargs}),
        with_kwargs=True,
    )
    size = {"height": 32, "width": 48, "num_images_per_prompt": grid.frames}
    model.pipe(**model.call_inputs(clip, grid), **size, num_inference_steps=steps, output_type="latent")
    hook.remove()
    passes = model.borrow(clip, grid, RunSettings("renoise", tuple(range(steps)), steps))
    assert len(calls) == steps
    for step, theirs in enumerate(calls):
        rows = {"sample": slice(grid.frames, None), "encoder_hidden_states": slice(grid.frames, None)}
        own = {key: value[rows[key]] if key in rows else value for key, value in theirs.items()}
        ours = passes.inputs(own["sample"].transpose(0, 1)[None], step)
        assert ours.keys() == own.keys()
        for key, value in ours.items():
            same = torch.equal(value, own[key]) if isinstance(value, torch.Tensor) else value == own[key]
            assert same, (step, key)


@pytest.mark.parametrize("name", MODELS)
def test_cards_agree_with_the_configurations(name, entries):
    model, card = entries[name].create(), load_card(entries[name].card, name)
    assert (model.config.height, model.config.width) == card.resolution
    assert card.extra["layers"] == len(model.sites())
    assert card.extra["heads"] == model.network["attention_head_dim"]
    assert card.extra["vae"]["height"] == model.compression.spatial
    assert set(card.extra["configs_seen"]) <= {"unet", "vae", "scheduler"}
    with torch.device("meta"):
        unet = component_from_config("unet", model.network)
    assert card.parameters == sum(parameter.numel() for parameter in unet.parameters())
