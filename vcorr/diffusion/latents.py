"""Turns videos into latents and back, and draws the noise that is added to them.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.contract.seeds import stable_seed

FRAMES_AT_ONCE = 8
"""Number of frames that an image autoencoder gets in one call."""


def to_model_range(video: NDArray[np.uint8], device: str | torch.device, dtype: torch.dtype) -> Tensor:
    """Converts (T, H, W, 3) uint8 RGB to (1, 3, T, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(video)).to(device).float() / 127.5 - 1
    return pixels.permute(3, 0, 1, 2)[None].to(dtype).contiguous()


def encode_video(vae: Any, video: NDArray[np.uint8], device: str | torch.device | None = None) -> Tensor:
    """Encodes a video into latents in the model's own units: the mean of the posterior, shifted and scaled.

    Args:
        vae: a diffusers video autoencoder; its dtype is used.
        video: (T, H, W, 3) uint8 RGB of a size that it takes.
        device: where it computes. None: where its weights are, which is wrong for an offloaded autoencoder.

    Returns:
        (1, C, F, h, w) in the autoencoder's dtype.
    """
    parameter = next(vae.parameters())
    pixels = to_model_range(video, parameter.device if device is None else device, parameter.dtype)
    return normalise_latents(vae, vae.encode(pixels).latent_dist.mode())


def encode_frames(vae: Any, video: NDArray[np.uint8], device: str | torch.device | None = None) -> Tensor:
    """Encodes a video frame by frame with an image autoencoder, into the units of `encode_video`.

    A few frames go through it at a time. An autoencoder that overflows in float16 (`force_upcast` in its configuration)
    computes in float32, as in the pipelines.

    Args:
        vae: a diffusers image autoencoder.
        video: (T, H, W, 3) uint8 RGB of a size that it takes.
        device: as in `encode_video`.

    Returns:
        (1, C, T, h, w) in the autoencoder's dtype.
    """
    parameter = next(vae.parameters())
    dtype, target = parameter.dtype, parameter.device if device is None else device
    with in_float32(vae):
        frames = to_model_range(video, target, next(vae.parameters()).dtype)[0].transpose(0, 1)
        latents = torch.cat([vae.encode(some).latent_dist.mode() for some in _in_parts(frames)])
    return normalise_latents(vae, latents.to(dtype).transpose(0, 1)[None])


@contextmanager
def in_float32(vae: Any) -> Iterator[None]:
    """Makes an autoencoder that overflows in float16 (`force_upcast`) compute in float32 while the block runs."""
    upcast = next(vae.parameters()).dtype == torch.float16 and bool(vae.config.get("force_upcast"))
    if upcast:
        vae.to(dtype=torch.float32)
    try:
        yield
    finally:
        if upcast:
            vae.to(dtype=torch.float16)


def normalise_latents(vae: Any, latents: Tensor) -> Tensor:
    """Computes (x - mean) / std, then (x - shift) · scale; each only if the autoencoder has such values.

    mean and std are a list in the configuration or a buffer of the autoencoder. They have one value per channel, or one
    per channel and latent frame, up to the largest number of frames.
    """
    mean, std = (_per_channel(vae, name, latents) for name in ("latents_mean", "latents_std"))
    if mean is not None and std is not None:
        latents = (latents - mean) / std
    shift, scale = vae.config.get("shift_factor"), vae.config.get("scaling_factor")
    if shift is not None:
        latents = latents - shift
    return latents if scale is None else latents * scale


def denormalise_latents(vae: Any, latents: Tensor) -> Tensor:
    """Inverts `normalise_latents`: returns latents in the units that the autoencoder decodes."""
    shift, scale = vae.config.get("shift_factor"), vae.config.get("scaling_factor")
    latents = latents if scale is None else latents / scale
    latents = latents if shift is None else latents + shift
    mean, std = (_per_channel(vae, name, latents) for name in ("latents_mean", "latents_std"))
    return latents if mean is None or std is None else latents * std + mean


def decode_video(vae: Any, latents: Tensor) -> NDArray[np.uint8]:
    """Decodes latents in the model's own units into a video: the inverse of `encode_video`.

    Args:
        vae: a diffusers video autoencoder; its dtype is used.
        latents: (1, C, F, h, w), on the device where it computes.

    Returns:
        (T, H, W, 3) uint8 RGB.
    """
    own = latents.to(next(vae.parameters()).dtype)
    pixels = vae.decode(denormalise_latents(vae, own)).sample[0].permute(1, 2, 3, 0)
    return np.asarray(pixels.float().add(1).mul(127.5).clamp(0, 255).round().to(torch.uint8).cpu().numpy())


def clip_noise(shape: Sequence[int], seed: int, clip_id: str) -> Tensor:
    """Draws the noise of a clip: standard normal of `shape`, float32 on the CPU.

    It depends only on the seed, the clip's id and the shape: not on the steps, other clips, the device or the dtype.
    """
    generator = torch.Generator("cpu").manual_seed(stable_seed(seed, clip_id))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def clip_noise_like(latents: Tensor, seed: int, clip_id: str) -> Tensor:
    """Draws the noise of a clip, float32 in the shape and on the device of its latents.

    The copy to a GPU does not wait for the passes that the GPU still computes. So a tracker's next chunk is prepared
    meanwhile.
    """
    noise = clip_noise(latents.shape, seed, clip_id)
    if latents.device.type == "cuda":
        return noise.pin_memory().to(latents.device, non_blocking=True)
    return noise.to(latents.device)


def prompt_noise(shape: Sequence[int], prompt: str, part: str = "prompt") -> Tensor:
    """Draws a stand-in for a prompt embedding if there is no text encoder: float32 standard normal of `shape`.

    The prompt's text is the seed, so different prompts have different embeddings. `part` is also part of the seed, for
    models with several embeddings.
    """
    generator = torch.Generator("cpu").manual_seed(stable_seed(part, prompt))
    return torch.randn(tuple(shape), generator=generator)


def _in_parts(frames: Tensor) -> Iterator[Tensor]:
    return (frames[first : first + FRAMES_AT_ONCE] for first in range(0, len(frames), FRAMES_AT_ONCE))


def _per_channel(vae: Any, name: str, like: Tensor) -> Tensor | None:
    values = vae.config.get(name)
    if values is None:
        values = dict(vae.named_buffers()).get(name)
    if values is None:
        return None
    channels, frames = like.shape[1:3]
    each = torch.as_tensor(values).to(like.device, like.dtype).view(1, channels, -1, 1, 1)
    return each[:, :, :frames]
