"""Probes of the latents get what the denoiser got: the conditional branch, no condition, every layout of axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vcorr
from vcorr import Clip, RunSettings
from vcorr.capture.recorder import Recorder

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions

ENTRIES = {found.entry.name: found.entry for found in vcorr.installed().models.all()}
LAYOUTS = {
    "cogvideox": "bfchw, two branches in a batch",
    "cogvideox-5b-i2v": "bfchw, an image in further channels",
    "cogvideox-1.5-5b": "bfchw, two latent frames per token, padded in front",
    "wan2.2-a14b-i2v": "bcfhw, two denoisers, labelled passes, mask and image in further channels",
    "ltx-video": "packed into tokens",
    "open-sora-2.0": "packed into patches, condition channels in every token, three branches",
    "svd": "bfchw, UNet with several resolutions, an image in further channels",
    "animatediff": "bcfhw, UNet",
    "latte": "bcfhw, factorised, twice as many output channels",
}
STEPS, NUM_STEPS = (0, 2), 3


class Keeper:
    """Keeps the tokens of latents that it gets, by step."""

    needs = frozenset({"latent"})

    def __init__(self):
        self.seen = {}

    def read(self, capture, queries):
        self.seen[capture.step] = capture.latent.clone()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, 2)}


def load(name):
    entry = ENTRIES[name]
    model = entry.create(entry.config_type()(**entry.check))
    model.load("cpu", "float32", "random")
    return model


def clip_for(model):
    config = model.config
    shape = (config.frames, config.height, config.width, 3)
    video = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Clip("clip", "a red disk", np.array([[4, 4]], np.float32), video)


def run(model, clip, mode):
    """Returns the tokens by step, the record of every pass's latents, and the predictions."""
    keeper, given = Keeper(), []

    def keep(module, args, kwargs):
        given.append(next(iter(args), None) if args else next(iter(kwargs.values())))

    hooks = [
        getattr(model.pipe, name).register_forward_pre_hook(keep, with_kwargs=True, prepend=True)
        for name in model.denoisers
    ]
    recorder = Recorder({"latent": keeper}, clip.queries)
    try:
        model.run(clip, RunSettings(mode, STEPS, NUM_STEPS), recorder)
    finally:
        for hook in hooks:
            hook.remove()
    return keeper.seen, [tensor.float() for tensor in given], recorder.predictions


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_values_are_those_that_the_denoiser_got(name):
    """Looks for every token's values in the tensors that a hook sees, in any layout: as sets of numbers per pass."""
    model = load(name)
    clip = clip_for(model)
    for mode in ("renoise", "generate"):
        seen, given, predictions = run(model, clip, mode)
        grid = model.grid(clip, None)
        assert [(p.layer, p.step, p.grid) for p in predictions] == [(-1, step, grid) for step in STEPS]
        for tokens in seen.values():
            channels = tokens.shape[-1] // int(np.prod(model.compression_at(None).latents_per_token))
            assert channels == model.latent_channels
            values = set(tokens.flatten().tolist())
            holding = [tensor for tensor in given if values <= set(tensor.flatten().tolist())]
            assert holding, f"{name}, {mode}: no pass had these latents"


@pytest.mark.parametrize("name", ["cogvideox-5b-i2v", "svd", "wan2.2-a14b-i2v"])
def test_channels_of_the_image_are_left_out(name):
    """Marks the channels beyond the latents with NaN: none of it reaches the probe."""
    model = load(name)
    clip = clip_for(model)
    axis = model.latent_axes.index("c")
    whole = {}

    class Marked(Keeper):
        def read(self, capture, queries):
            assert not capture.latent.isnan().any()
            return super().read(capture, queries)

    own = type(model).latents_in

    def mark(arguments, latents, grid):
        tensor = arguments[latents].clone()
        whole["further"] = tensor.shape[axis] - model.latent_channels
        tensor.narrow(axis, model.latent_channels, whole["further"]).fill_(torch.nan)
        return own(model, {**arguments, latents: tensor}, latents, grid)

    model.latents_in = mark
    recorder = Recorder({"latent": Marked()}, clip.queries)
    model.run(clip, RunSettings("renoise", STEPS, NUM_STEPS), recorder)
    assert whole["further"] > 0
    assert len(recorder.predictions) == len(STEPS)


def test_inverted_latents_are_read_at_the_pass_that_is_read():
    model = load("cogvideox")
    clip = clip_for(model)
    seen, given, predictions = run(model, clip, "invert")
    assert [(p.layer, p.step) for p in predictions] == [(-1, step) for step in reversed(STEPS)]
    for tokens in seen.values():
        values = set(tokens.flatten().tolist())
        assert any(values <= set(tensor.flatten().tolist()) for tensor in given)


def test_a_pipeline_of_ones_own_is_read_too():
    """Reads latents with `vcorr.record`: the whole pipeline shows how they are made, a denoiser alone does not."""
    model = load("cogvideox")
    clip = clip_for(model)
    call = model.call(clip, model.grid(clip, None), RunSettings("generate", (), NUM_STEPS), "latent")
    with vcorr.record(model.pipe, layout="cogvideox", probes=["qk", "latent"], layers=[0]) as rec:
        model.pipe(**call)
    assert [(p.probe, p.layer, p.step) for p in rec.predictions if p.probe == "latent"] == [
        ("latent", -1, step) for step in range(NUM_STEPS)
    ]
    recorded = vcorr.record(model.pipe.transformer, layout="cogvideox", probes=["latent"])
    with pytest.raises(vcorr.UsageError, match="CogVideoXTransformer3DModel shows none"), recorded:
        model.pipe(**call)
