"""Videos to latents, and seeded noise."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vcorr.diffusion.latents import (
    FRAMES_AT_ONCE,
    clip_noise,
    clip_noise_like,
    encode_frames,
    encode_video,
    in_float32,
    normalise_latents,
    prompt_noise,
    stable_seed,
    to_model_range,
)


class Autoencoder(torch.nn.Module):
    """Averages blocks of 2x2 pixels: its mean is known, its samples would not be."""

    def __init__(self, **config):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.config = config

    def encode(self, pixels):
        mean = torch.nn.functional.avg_pool3d(pixels, (1, 2, 2))
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: mean))


def test_pixels_span_minus_one_to_one():
    video = np.zeros((2, 3, 4, 3), dtype=np.uint8)
    video[1, 2, 3] = (0, 51, 255)
    pixels = to_model_range(video, "cpu", torch.float32)
    assert pixels.shape == (1, 3, 2, 3, 4)
    assert pixels[0, :, 1, 2, 3].tolist() == pytest.approx([-1, -0.6, 1])


def test_the_mean_of_the_posterior_is_scaled():
    video = np.full((1, 4, 4, 3), 255, dtype=np.uint8)
    assert torch.equal(encode_video(Autoencoder(scaling_factor=0.5), video), torch.full((1, 3, 1, 2, 2), 0.5))


class ImageAutoencoder(Autoencoder):
    """The same of single images; keeps how many it was given at a time, and in which dtype."""

    def __init__(self, **config):
        super().__init__(**config)
        self.seen = []

    def encode(self, pixels):
        self.seen.append((len(pixels), pixels.dtype))
        mean = torch.nn.functional.avg_pool2d(pixels, 2)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: mean))


def test_frames_are_encoded_one_by_one_and_a_few_at_a_time():
    video = np.random.default_rng(0).integers(0, 256, (FRAMES_AT_ONCE + 3, 4, 6, 3), dtype=np.uint8)
    vae = ImageAutoencoder(scaling_factor=0.5)
    latents = encode_frames(vae, video)
    assert torch.equal(latents, encode_video(Autoencoder(scaling_factor=0.5), video))
    assert [count for count, _ in vae.seen] == [FRAMES_AT_ONCE, 3]


@pytest.mark.parametrize(("upcast", "inside"), [(True, torch.float32), (False, torch.float16)])
def test_an_autoencoder_that_overflows_computes_in_float32(upcast, inside):
    vae = ImageAutoencoder(force_upcast=upcast).half()
    assert encode_frames(vae, np.zeros((2, 4, 4, 3), dtype=np.uint8)).dtype == torch.float16
    assert {dtype for _, dtype in vae.seen} == {inside}
    with pytest.raises(ZeroDivisionError), in_float32(vae):
        raise ZeroDivisionError
    assert vae.weight.dtype == torch.float16


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [4.0, 8.0]),
        ({"scaling_factor": 0.5}, [2.0, 4.0]),
        ({"scaling_factor": 0.5, "shift_factor": 2.0}, [1.0, 3.0]),
        ({"latents_mean": [2.0, 4.0], "latents_std": [1.0, 8.0]}, [2.0, 0.5]),
        ({"latents_mean": [2.0, 4.0], "latents_std": [1.0, 8.0], "scaling_factor": 2.0}, [4.0, 1.0]),
        ({"latents_mean": None, "latents_std": None, "shift_factor": None}, [4.0, 8.0]),
    ],
)
def test_units_of_the_denoiser(config, expected):
    latents = torch.tensor([4.0, 8.0]).view(1, 2, 1, 1, 1)
    assert normalise_latents(Autoencoder(**config), latents).flatten().tolist() == expected


def test_mean_and_std_may_be_buffers():
    vae = Autoencoder()
    vae.register_buffer("latents_mean", torch.tensor([2.0, 4.0]))
    vae.register_buffer("latents_std", torch.tensor([1.0, 8.0]))
    latents = torch.tensor([4.0, 8.0]).view(1, 2, 1, 1, 1)
    assert normalise_latents(vae, latents).flatten().tolist() == [2.0, 0.5]


def test_noise_depends_on_seed_clip_and_shape_alone():
    noise = clip_noise((1, 4, 3, 8, 8), 42, "clip-1")
    torch.manual_seed(5)
    assert torch.equal(noise, clip_noise((1, 4, 3, 8, 8), 42, "clip-1"))
    assert not torch.equal(noise, clip_noise((1, 4, 3, 8, 8), 43, "clip-1"))
    assert not torch.equal(noise, clip_noise((1, 4, 3, 8, 8), 42, "clip-2"))
    assert torch.equal(clip_noise_like(torch.zeros(1, 4, 3, 8, 8), 42, "clip-1"), noise)
    assert noise.dtype == torch.float32
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1


def test_seeds_are_the_same_in_every_process():
    code = "from vcorr.diffusion.latents import stable_seed; print(stable_seed(42, 'clip'))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(out.stdout) == stable_seed(42, "clip") < 2**32


def test_parts_of_a_seed_do_not_run_together():
    assert stable_seed(1, "23") != stable_seed(12, "3")


def test_stand_ins_of_prompts_differ_by_text_and_part():
    one = prompt_noise((1, 4, 8), "a red disk")
    assert torch.equal(one, prompt_noise((1, 4, 8), "a red disk"))
    assert not torch.equal(one, prompt_noise((1, 4, 8), ""))
    assert not torch.equal(one, prompt_noise((1, 4, 8), "a red disk", "pooled"))


def test_means_may_differ_between_latent_frames():
    frames, channels = 5, 2
    means = torch.arange(float(channels * frames))
    vae = Autoencoder(latents_mean=means.tolist(), latents_std=[2.0] * (channels * frames))
    latents = torch.zeros(1, channels, 3, 1, 1)
    found = normalise_latents(vae, latents)
    assert found[0, :, :, 0, 0].tolist() == (-means.view(channels, frames)[:, :3] / 2).tolist()
