"""Passes are borrowed from the pipeline: what is kept, how it is exchanged, and what is refused."""

import numpy as np
import pytest
import torch
from support import family
from support.wan import TwoStageWan, WanConfig

from vcorr import PluginError, RunSettings, UsageError
from vcorr.diffusion import VideoConfig
from vcorr.diffusion.borrowed import exchange_timestep, rows_of_branch
from vcorr.testing import random_clip

(ENTRY,) = family.vcorr_models()
CLIP = random_clip(9, 64, 96)
SETTINGS = RunSettings("renoise", (0, 2), 4)


@pytest.fixture(scope="module")
def model():
    model = ENTRY.create(VideoConfig(size="small"))
    model.load("cpu", "float32", "random:1")
    return model


def counted(model, monkeypatch, name="encode_prompt"):
    """How often a method of the pipeline is called, and how often its denoiser runs."""
    seen = {"calls": 0, "passes": 0}
    own = model.pipe.__class__.__call__

    def call(self, *args, **kwargs):
        seen["calls"] += 1
        return own(self, *args, **kwargs)

    monkeypatch.setattr(type(model.pipe), "__call__", call)

    def ran(*_):
        seen["passes"] += 1

    for part in model.denoisers:
        getattr(model.pipe, part).register_forward_hook(ran)
    return seen


def test_the_pipeline_is_called_once_per_clip_and_its_denoiser_never_runs(model, monkeypatch):
    seen = counted(model, monkeypatch)
    passes = model.borrow(CLIP, model.grid(CLIP, None), SETTINGS)
    assert seen == {"calls": 1, "passes": 0}
    assert len(passes.schedule) == 4
    passes.run(torch.zeros(1, 4, 3, 8, 12), 2)
    assert seen == {"calls": 1, "passes": 1}


def test_denoisers_that_take_turns_are_borrowed_from_one_by_one(monkeypatch):
    model = TwoStageWan(WanConfig(height=32, width=32, frames=5))
    model.load("cpu", "float32", "random")
    seen = counted(model, monkeypatch)
    clip = random_clip(5, 32, 32)
    passes = model.borrow(clip, model.grid(clip, None), RunSettings("renoise", tuple(range(6)), 6))
    assert seen == {"calls": 2, "passes": 0}
    assert set(passes.denoisers) == {"transformer", "transformer_2"}
    change = passes.denoisers.index("transformer_2")
    assert passes.first["transformer_2"].timestep == passes.schedule.timesteps[change]
    assert passes.module(change) is model.pipe.transformer_2


def test_a_prediction_has_the_shape_of_the_latents(model):
    passes = model.borrow(CLIP, model.grid(CLIP, None), SETTINGS)
    latents = torch.randn(1, 4, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = passes.run(latents, 2)
        whole = model.pipe.transformer(**passes.inputs(latents, 2))[0]
    assert found.shape == latents.shape
    assert torch.equal(found, whole)


def test_an_error_on_the_way_leaves_nothing_behind(model, monkeypatch):
    scheduler, before = model.pipe.scheduler, dict(vars(model.pipe.scheduler))

    def fails(*args, **kwargs):
        raise RuntimeError("no luck")

    monkeypatch.setattr(model.pipe, "prepare_latents", fails)
    with pytest.raises(RuntimeError, match="no luck"):
        model.borrow(CLIP, model.grid(CLIP, None), SETTINGS)
    assert dict(vars(scheduler)) == before
    assert not model.pipe.transformer._forward_pre_hooks
    assert "cache_context" not in vars(model.pipe.transformer)


def test_a_pipeline_that_never_gets_there_is_refused(model, monkeypatch):
    monkeypatch.setattr(type(model.pipe), "__call__", lambda self, **arguments: None)
    with pytest.raises(PluginError, match=r"without a conditional pass of transformer(.|\n)*`borrow`"):
        model.borrow(CLIP, model.grid(CLIP, None), SETTINGS)


def test_a_step_that_does_not_exist_is_refused(model):
    with pytest.raises(UsageError, match="Step 4 does not exist: the scheduler has 4 steps"):
        model.borrow(CLIP, model.grid(CLIP, None), RunSettings("renoise", (4,), 4))


def test_latents_in_another_order_are_refused_with_both_shapes(model, monkeypatch):
    monkeypatch.setattr(type(model), "latent_axes", "bfchw")
    passes = model.borrow(CLIP, model.grid(CLIP, None), SETTINGS)
    with pytest.raises(PluginError, match=r"\(1, 4, 3, 8, 12\) cannot replace .* \(1, 4, 3, 8, 12\)"):
        passes.inputs(torch.zeros(1, 4, 3, 8, 12), 0)


@pytest.mark.parametrize("axes", ["bcfhw", "bfchw", "fchw"])
def test_latents_go_there_and_back_and_further_channels_stay(axes):
    model = ENTRY.create(VideoConfig(size="small"))
    type(model).latent_axes, usual = axes, type(model).latent_axes
    try:
        latents = torch.arange(2 * 3 * 4 * 5.0).view(1, 2, 3, 4, 5)
        shape = {"b": 1, "c": 6, "f": 3, "h": 4, "w": 5}
        own = -torch.ones([shape[axis] for axis in axes])
        found = model.denoiser_input(latents, own)
        assert found.shape == own.shape
        assert torch.equal(model.as_latents(found, latents), latents)
        channels = found.movedim(axes.index("c"), 0)
        assert bool((channels[2:] == -1).all())
    finally:
        type(model).latent_axes = usual


def test_timesteps_keep_the_form_the_pipeline_gives_them():
    first, step = torch.tensor(999), torch.tensor(500)
    assert exchange_timestep(step, torch.tensor([999.0]), first).tolist() == [500.0]
    each = torch.tensor([[0, 0, 999, 999]], dtype=torch.bfloat16)  # bfloat16 has no 999
    found = exchange_timestep(step, each.masked_fill(each > 0, 999), first)
    assert (found.dtype, found.tolist()) == (torch.bfloat16, [[0, 0, 500, 500]])
    assert exchange_timestep(step, 999.0, first) == 500.0
    with pytest.raises(PluginError, match=r"0\.999 where its scheduler has 999(.|\n)*timestep_input"):
        exchange_timestep(step, torch.tensor([0.999]), first)


def test_rows_of_a_branch():
    batch = {"x": torch.arange(6).view(2, 3), "frames": torch.arange(8), "table": torch.zeros(5), "n": 3}
    found = rows_of_branch(batch, "x", 1, 2, per_frame=["frames"])
    assert found["x"].tolist() == [[3, 4, 5]]
    assert found["frames"].tolist() == [4, 5, 6, 7]
    assert found["table"] is batch["table"]
    assert rows_of_branch({"x": torch.zeros(1, 3)}, "x", 1, 2)["x"].shape == (1, 3)


# -------------------------------------------------------------------------------------------------------------- sizes


def test_sizes_are_those_of_the_files():
    released, small = ENTRY.create(), ENTRY.create(VideoConfig(size="small"))
    assert (len(released.sites()), released.sites()[0].heads) == (30, 12)
    assert (len(small.sites()), small.sites()[0].heads) == (2, 2)
    assert (released.config.height, released.config.width, released.config.frames) == (480, 832, 81)
    assert (small.config.height, small.config.width, small.config.frames) == (64, 96, 9)
    assert ENTRY.create(VideoConfig(size="small", height=128)).config.height == 128


def test_one_value_can_be_another_with_random_weights():
    model = ENTRY.create(VideoConfig(size="small", network={"num_layers": 3}))
    assert len(model.sites()) == 3
    model.load("cpu", "float32", "random")
    assert len(model.pipe.transformer.blocks) == 3
    with pytest.raises(UsageError, match=r"Did you mean 'model\.network\.num_layers'"):
        ENTRY.create(VideoConfig(network={"num_layer": 3})).sites()


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    from vcorr.diffusion.configs import folder_configs, packaged_configs

    with pytest.raises(PluginError, match=r"'support:nowhere' cannot be read: the folder has no JSON file"):
        packaged_configs("support:nowhere")
    with pytest.raises(PluginError, match="'no_such_package:x' cannot be read"):
        packaged_configs("no_such_package:x")
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("[1]")
    with pytest.raises(PluginError, match="must hold the names and values"):
        folder_configs(tmp_path)


def test_random_and_loaded_weights_have_one_schedule(model, tmp_path):
    from diffusers import WanPipeline
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    sizes = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, is_encoder_decoder=False)
    pipe = WanPipeline(
        T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)], extra_ids=0),
        T5EncoderModel(sizes).eval(),
        model.pipe.vae,
        model.pipe.scheduler,
        model.pipe.transformer,
    )
    pipe.save_pretrained(tmp_path)
    loaded = ENTRY.create(VideoConfig(size="small"))
    loaded.load("cpu", "float32", str(tmp_path))
    one, other = (each.schedule(4, each.grid(CLIP, None)) for each in (model, loaded))
    assert torch.equal(one.timesteps, other.timesteps)
    assert np.array_equal(one.noise, other.noise)
