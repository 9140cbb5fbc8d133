"""Tests of what holds for every installed model of a diffusers pipeline, at its small size and with random weights."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module

import vcorr
from vcorr import Clip, RunSettings
from vcorr.capture.recorder import Recorder
from vcorr.contract.cards import load_card
from vcorr.diffusion import DiffusersVideoModel, packaged_configs
from vcorr.diffusion.loading import networks
from vcorr.diffusion.options import place

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions, once per model

ENTRIES = {found.entry.name: found.entry for found in vcorr.installed().models.all()}
POSITIONED = (
    *("allegro", "cogvideox", "cosmos-7b", "easyanimate", "hunyuanvideo", "hunyuanvideo-1.5", "latte", "ltx-video"),
    *("mochi", "open-sora-1.2", "open-sora-2.0", "sana-video", "skyreels-v2-14b-540p", "wan2.1-1.3b", "wan2.2-5b"),
)
"""One model per transformer."""


def load(name: str) -> DiffusersVideoModel:
    """Returns a model at its small size."""
    entry = ENTRIES[name]
    model = entry.create(entry.config_type()(**entry.check))
    model.load("cpu", "float32", "embedded" if name.startswith("tiny") else "random")
    return model


def clip_for(model: DiffusersVideoModel) -> Clip:
    """Returns a clip of noise of the size that the model reads."""
    config = model.config
    shape = (config.frames, config.height, config.width, 3)
    video = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Clip("clip", "a red disk", np.array([[4, 4]], np.float32), video)


class Away(ModelHook):
    """Keeps the weights of a network away until it is called, as on a device that cannot compute with them."""

    def init_hook(self, module):
        self.kept = {tensor: tensor.data for tensor in module.parameters() if tensor.numel()}
        for tensor in self.kept:
            tensor.data = torch.empty(0, dtype=tensor.dtype)
        return module

    def pre_forward(self, module, *args, **kwargs):
        for tensor, own in self.kept.items():
            tensor.data = own
        return args, kwargs


def put_away(pipe) -> None:
    """Stands for `enable_model_cpu_offload`, on a machine without a GPU."""
    for network in networks(pipe):
        add_hook_to_module(network, Away())


@pytest.mark.parametrize("name", ["open-sora-1.2", "wan2.1-14b-i2v-480p", "mochi", "latte", "svd"])
def test_offloaded_networks_come_to_the_device_for_every_method(name, monkeypatch):
    model = load(name)
    clip, settings = clip_for(model), RunSettings("generate", (0,), 2)
    read, made = encode(model, clip), generate(model, clip, settings)
    monkeypatch.setattr(type(model.pipe), "enable_model_cpu_offload", lambda pipe, device: put_away(pipe))
    place(model.pipe, "elsewhere", offload=True)
    assert all(parameter.numel() == 0 for parameter in model.pipe.vae.parameters())
    assert torch.equal(encode(model, clip), read)
    model.pipe.vae._hf_hook.init_hook(model.pipe.vae)  # away again
    assert np.array_equal(generate(model, clip, settings), made)


def encode(model, clip):
    with torch.no_grad():
        return model.encode(clip.video)


def generate(model, clip, settings):
    return model.run(clip, settings, Recorder({"qk": Still()}, clip.queries))


class Still:
    """A probe that predicts that nothing moves."""

    needs = frozenset({"q"})

    def read(self, capture, queries):
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


class Keep(Still):
    """A probe that also keeps the queries of all sites, without text: (H, F, h, w, D) each."""

    def __init__(self):
        self.queries = []

    def read(self, capture, queries):
        self.queries.append(capture.q.float())
        return super().read(capture, queries)


@pytest.mark.parametrize("name", POSITIONED)
def test_positions_matter_with_random_weights(name):
    """Tokens of one content differ by their position alone: along the frames, the rows and the columns."""
    model, keep = load(name), Keep()
    clip, settings = clip_for(model), RunSettings("renoise", (0,), 4)
    with torch.no_grad():
        passes = model.borrow(clip, model.grid(clip, None), settings)
        even = torch.full_like(model.encode(clip.video), 0.5)
        recorder = Recorder({"keep": keep}, clip.queries)
        attached = recorder.attach([passes.module(0)], model.sites(), model.layout(), partial(model.grid, clip))
        with attached, recorder.step(0, noise=1.0):
            passes.module(0)(**passes.inputs(even, 0))
    for axis in (1, 2, 3):
        spread = max(float(q.std(dim=axis).mean() / q.abs().mean()) for q in keep.queries)
        assert spread > 0.05, f"axis {axis}: {spread}"


PACKAGED = [name for name, entry in ENTRIES.items() if entry.card and entry.configs]


@pytest.mark.parametrize("name", PACKAGED)
def test_cards_agree_with_the_packaged_configurations(name):
    model = ENTRIES[name].create()
    card, sites = model.model_card(), model.sites()
    size = (model.config.height, model.config.width, model.config.frames)
    assert size == (*card.resolution, card.frames) or "video" in packaged_configs(model.configs)
    assert card.extra["layers"] == len(sites)
    assert {site.attention for site in sites} == {card.attention}
    assert f"{model.steps} steps" in card.extra["scheduler"]
    scheduler = model.config_of("scheduler")
    assert scheduler.get("_class_name", "") in card.extra["scheduler"]
    assert set(card.extra.get("configs_seen", ())) <= {*packaged_configs(model.configs), "motion_adapter"}
    settings = {one["option"]: one for one in card.extra.get("settings", ())}
    assert len(settings) == len(card.extra.get("settings", ())), "each option once"
    for option, one in settings.items():
        assert option == "steps" or hasattr(model.config, option), option
        if "folder" in one:
            assert one["folder"] in (scheduler.get("flow_shift"), scheduler.get("shift"))


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.card])
def test_cards_say_whether_revision_and_weights_were_seen(name):
    card = load_card(ENTRIES[name].card, name)
    released_in_a_package = "package index" in card.extra.get("weights", "")
    assert ("weights_seen" in card.extra) == (card.hub_id is not None or released_in_a_package)
    assert ("revision_seen" in card.extra) == (card.revision is not None)
