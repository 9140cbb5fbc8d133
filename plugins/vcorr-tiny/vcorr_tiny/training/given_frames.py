"""Draws the latent frames that a training video shows without noise, as models of image-to-video are trained.

The denoiser has to look up in these frames what the noisy ones hold. That trains its attention to find the same point
in another frame. Open-Sora trains with such masks (arXiv 2412.20404); siamese masked autoencoders learn correspondence
so (arXiv 2305.14344). Unlike there, frames that are given have no timestep of their own: they look noiseless.
"""

import torch
from torch import Tensor

MOST_GIVEN = 2
"""Most latent frames of a video that are given."""


def draw_given(videos: int, frames: int, share: float, generator: torch.Generator) -> Tensor:
    """Returns which latent frames are given, (videos, frames) bool.

    share: probability that a video has given frames, in [0, 1]. Such a video has one or two of them, equally likely,
    at any places; one frame at least stays noisy.
    """
    device = generator.device
    chosen = torch.rand(videos, generator=generator, device=device) < share
    most = min(MOST_GIVEN, frames - 1)
    numbers = torch.randint(1, most + 1, (videos,), generator=generator, device=device) if most else chosen * 0
    ranks = torch.rand((videos, frames), generator=generator, device=device).argsort(1).argsort(1)
    return (ranks < numbers[:, None]) & chosen[:, None]


def mean_of_noisy(values: Tensor, given: Tensor) -> Tensor:
    """Returns the mean (videos,) of values (videos, frames) over the frames that are not given."""
    noisy = ~given
    return (values * noisy).sum(1) / noisy.sum(1)
