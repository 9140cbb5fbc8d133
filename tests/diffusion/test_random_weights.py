"""Pipelines with random weights: where they are made, in which dtype, and that a seed repeats."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, CogVideoXDDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler

from vcorr.contract.errors import VcorrError
from vcorr.diffusion.random_weights import pipeline_from_configs, random_pipeline


class Pair(DiffusionPipeline):
    """A network and two schedulers."""

    def __init__(self, vae, scheduler, other) -> None:
        super().__init__()
        self.register_modules(vae=vae, scheduler=scheduler, other=other)


def build(seed):
    network = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    return Pair(network, FlowMatchEulerDiscreteScheduler(shift=7.0), CogVideoXDDIMScheduler(snr_shift_scale=2.0))


def weights(pipe):
    return torch.cat([parameter.flatten() for parameter in pipe.vae.parameters()])


def test_a_seed_repeats_and_another_differs():
    first, again, other = (random_pipeline(build, seed, "cpu", torch.float32) for seed in (1, 1, 2))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_networks_are_made_in_their_dtype_and_ready_to_run(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "vcorr.diffusion.random_weights.cast_pipeline",
        lambda pipe, dtype: seen.extend(parameter.dtype for parameter in pipe.vae.parameters()),
    )
    random_pipeline(build, 0, "cpu", torch.bfloat16)
    assert set(seen) == {torch.bfloat16}  # before anything was cast: no float32 copy was ever there
    assert torch.get_default_dtype() == torch.float32


def test_networks_are_evaluated_not_trained():
    assert not random_pipeline(build, 0, "cpu", torch.float32).vae.training


def test_networks_are_made_on_the_device_and_schedulers_are_not():
    # the device that computes nothing stands for a GPU
    pipe = random_pipeline(build, 0, "meta", torch.bfloat16)
    assert {parameter.device.type for parameter in pipe.vae.parameters()} == {"meta"}
    assert pipe.other.alphas_cumprod.device.type == "cpu"
    plain = build(0)
    assert torch.equal(pipe.other.alphas_cumprod, plain.other.alphas_cumprod)  # and in full precision
    assert torch.equal(pipe.scheduler.sigmas, plain.scheduler.sigmas)
    assert (pipe.scheduler.config.shift, pipe.other.config.snr_shift_scale) == (7.0, 2.0)


def test_torchs_own_generator_is_left_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_pipeline(build, 0, "cpu", torch.float32)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_offloaded_is_made_on_the_cpu(monkeypatch):
    from vcorr.diffusion.adapter import DiffusersVideoModel

    made = []
    monkeypatch.setattr(
        "vcorr.diffusion.random_weights.random_pipeline",
        lambda build, seed, device, dtype, denoiser: made.append(device),
    )
    source = SimpleNamespace(folder=None, seed=0)
    for offload in (False, True):
        model = SimpleNamespace(build=build, denoiser="vae", config=SimpleNamespace(offload=offload))
        DiffusersVideoModel._load_pipeline(model, source, torch.bfloat16, "cuda:1")
    assert made == ["cuda:1", "cpu"]


VAE = {"_class_name": "AutoencoderKL", "block_out_channels": [8], "norm_num_groups": 4}
SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        ({"vae": VAE}, "needs a component 'scheduler', and the plugin's configurations have none"),
        ({"vae": {**VAE, "latent_chanels": 4}, "scheduler": SCHEDULER}, "Did you mean 'latent_channels'"),
        ({"vae": {**VAE, "_class_name": "AutoencoderKLL"}, "scheduler": SCHEDULER}, "Did you mean 'AutoencoderKL'"),
        ({"vae": {"latent_channels": 4}, "scheduler": SCHEDULER}, "does not name its class"),
    ],
)
def test_configurations_that_are_not_what_they_should_be(configs, said):
    with pytest.raises(VcorrError, match=said) as raised:
        pipeline_from_configs(f"{__name__}:Pair", configs, {"other": None})
    assert raised.value.hint


def test_values_of_libraries_own_are_let_through():
    config = {**VAE, "_diffusers_version": "0.1", "_name_or_path": "somewhere"}
    pipe = pipeline_from_configs(f"{__name__}:Pair", {"vae": config, "scheduler": SCHEDULER}, {"other": None})
    assert pipe.vae.config.block_out_channels == [8]
