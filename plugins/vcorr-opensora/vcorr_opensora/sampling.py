"""The arithmetic of Open-Sora 2.0's sampler: patches, positions, the condition on an image, the shift of the noise
levels, and how three branches are mixed.

Shape legend: B batch, C latent channels, F x h x w latents, N = F * h/2 * w/2 tokens, P = 4C values of a patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PATCH = 2
"""Latents a token covers in x and y."""

OSCILLATES_FROM = 10
"""The first step from which every second one goes without guidance."""


def patchify(latents: Tensor) -> Tensor:
    """(B, C, F, h, w) to tokens (B, N, P): frame by frame and row by row, the values of a patch channel by channel."""
    batch, channels, frames, rows, cols = latents.shape
    cut = latents.view(batch, channels, frames, rows // PATCH, PATCH, cols // PATCH, PATCH)
    return cut.permute(0, 2, 3, 5, 1, 4, 6).reshape(batch, -1, channels * PATCH**2)


def unpatchify(tokens: Tensor, frames: int, rows: int, cols: int) -> Tensor:
    """The inverse of `patchify`: (B, N, P) to (B, C, F, h, w), of F frames of rows x cols tokens."""
    cut = tokens.view(len(tokens), frames, rows, cols, -1, PATCH, PATCH)
    return cut.permute(0, 4, 1, 2, 5, 3, 6).reshape(len(tokens), -1, frames, rows * PATCH, cols * PATCH)


def positions(frames: int, rows: int, cols: int, device: torch.device | str) -> Tensor:
    """(N, 3) float32: frame, row and column of every token, in the order of `patchify`."""
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in (frames, rows, cols)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def rotary_axes(head: int) -> tuple[int, int, int]:
    """How many of a head's values turn with the frame, the row and the column: 16, 56 and 56 of the released 128.

    Even numbers, because values turn in pairs.
    """
    spatial = 2 * (7 * head // 32)
    return (head - 2 * spatial, spatial, spatial)


def image_condition(latents: Tensor, image: Tensor | None) -> Tensor:
    """What the model is told of a first frame beside the noisy latents (B, C, F, h, w).

    Args:
        latents: those of the video; shape, dtype and device alone are read.
        image: (B, C, 1, h, w), latents of the first frame; None for text to video.

    Returns:
        (B, 1 + C, F, h, w): a mask that is 1 where a latent is given, then the latents given; zero elsewhere.
    """
    condition = latents.new_zeros(len(latents), 1 + latents.shape[1], *latents.shape[2:])
    if image is not None:
        condition[:, :1, :1] = 1
        condition[:, 1:, :1] = image
    return condition


def time_shift(tokens_per_frame: int, frames: int, low: tuple[int, float], high: tuple[int, float]) -> float:
    """A of the shifted noise levels t' = a t / (1 + (a - 1) t): larger for larger videos, so that more steps are noisy.

    Linear in the tokens of a frame through the points (tokens, a) `low` and `high`, times the root of the latent
    frames.
    """
    slope = (high[1] - low[1]) / (high[0] - low[0])
    return (low[1] + slope * (tokens_per_frame - low[0])) * math.sqrt(frames)


def oscillating(strength: float, step: int) -> float:
    """The strength of guidance at a 0-based step: full in the first ten, then full and none in turns."""
    return strength if step < OSCILLATES_FROM or step % 2 == 0 else 1.0


def image_strength(strength: float, step: int, num_steps: int, frames: int) -> Tensor:
    """The strength of guidance by the image at a step, (F, 1, 1) float32.

    1 at the first latent frame, rising linearly to the last one, where it falls from `strength` at step 0 to 1 after
    the last step.
    """
    now = oscillating(strength, step)
    last = 1 + (now - 1) * (1 - step / num_steps)
    return torch.linspace(1.0, last, frames).view(-1, 1, 1)


def guide(branches: Tensor, text: float, image: Tensor | float) -> Tensor:
    """The guided velocity (1, C, F, h, w) of the three branches (3, C, F, h, w).

    In order: with text and image, with the image alone, with neither. v = n + image (i - n) + text (c - i).
    """
    cond, uncond, neither = branches.chunk(3)
    return neither + image * (uncond - neither) + text * (cond - uncond)
