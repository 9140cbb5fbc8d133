"""Computes the parts of Open-Sora 2.0's sampler: patches, positions, image condition, noise shift and guidance.

Shape legend: B batch, C latent channels, F x h x w latents; N = F * h/2 * w/2 tokens, P = 4C values per patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PATCH = 2
"""Latents per token in x and in y."""

OSCILLATES_FROM = 10
"""The step from which every second step has no guidance."""


def patchify(latents: Tensor) -> Tensor:
    """Converts latents (B, C, F, h, w) to tokens (B, N, P).

    Tokens are in order of frame, row and column; the values of a patch are ordered channel by channel.
    """
    batch, channels, frames, rows, cols = latents.shape
    cut = latents.view(batch, channels, frames, rows // PATCH, PATCH, cols // PATCH, PATCH)
    return cut.permute(0, 2, 3, 5, 1, 4, 6).reshape(batch, -1, channels * PATCH**2)


def unpatchify(tokens: Tensor, frames: int, rows: int, cols: int) -> Tensor:
    """Inverts `patchify`: (B, N, P) to (B, C, F, h, w), for F frames of rows x cols tokens."""
    cut = tokens.view(len(tokens), frames, rows, cols, -1, PATCH, PATCH)
    return cut.permute(0, 4, 1, 2, 5, 3, 6).reshape(len(tokens), -1, frames, rows * PATCH, cols * PATCH)


def positions(frames: int, rows: int, cols: int, device: torch.device | str) -> Tensor:
    """Returns frame, row and column of every token, (N, 3) float32, in the order of `patchify`."""
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in (frames, rows, cols)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def rotary_axes(head: int) -> tuple[int, int, int]:
    """Returns how many values of a head turn with the frame, the row and the column: 16, 56 and 56 of the released 128.

    The numbers are even, because values turn in pairs.
    """
    spatial = 2 * (7 * head // 32)
    return (head - 2 * spatial, spatial, spatial)


def image_condition(latents: Tensor, image: Tensor | None) -> Tensor:
    """Builds the condition on a first frame, which the model receives with the noisy latents (B, C, F, h, w).

    Args:
        latents: latents of the video; only their shape, dtype and device matter.
        image: (B, C, 1, h, w), latents of the first frame; None for text to video.

    Returns:
        (B, 1 + C, F, h, w): a mask that is 1 at the latents of the image, then these latents; zero elsewhere.
    """
    condition = latents.new_zeros(len(latents), 1 + latents.shape[1], *latents.shape[2:])
    if image is not None:
        condition[:, :1, :1] = 1
        condition[:, 1:, :1] = image
    return condition


def time_shift(tokens_per_frame: int, frames: int, low: tuple[int, float], high: tuple[int, float]) -> float:
    """Returns a of the shifted noise levels t' = a t / (1 + (a - 1) t).

    It grows with the size of the video, so that a larger video spends more steps at high noise. It is linear in the
    tokens per frame, through the points (tokens, a) `low` and `high`, times the square root of the latent frames.
    """
    slope = (high[1] - low[1]) / (high[0] - low[0])
    return (low[1] + slope * (tokens_per_frame - low[0])) * math.sqrt(frames)


def oscillate(strength: float, step: int) -> float:
    """Returns the guidance strength at a 0-based step: `strength` in the first ten, then `strength` and 1 in turns."""
    return strength if step < OSCILLATES_FROM or step % 2 == 0 else 1.0


def image_strength(strength: float, step: int, num_steps: int, frames: int) -> Tensor:
    """Returns the strength of guidance by the image at a step, (F, 1, 1) float32.

    It rises linearly over the latent frames, from 1 at the first one. At the last frame it falls over the steps, from
    `strength` at step 0 to 1 after the last step.
    """
    now = oscillate(strength, step)
    last = 1 + (now - 1) * (1 - step / num_steps)
    return torch.linspace(1.0, last, frames).view(-1, 1, 1)


def guide(branches: Tensor, text: float, image: Tensor | float) -> Tensor:
    """Combines the three branches (3, C, F, h, w) into the guided velocity (1, C, F, h, w).

    The branches are, in order: c with text and image, i with the image only, n with neither.
    v = n + image (i - n) + text (c - i).
    """
    cond, uncond, neither = branches.chunk(3)
    return neither + image * (uncond - neither) + text * (cond - uncond)
