"""Holds an image-to-video pipeline that diffusers does not have.

Shape legend: B batch, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import torch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline
from torch import Tensor


class StillToVideoPipeline(CogVideoXImageToVideoPipeline):  # type: ignore[misc]  # diffusers is not typed
    """Image to video for CogVideoX-2B-I2V, which reads the latents of a video that repeats the image in every frame.

    diffusers' own pipeline puts the image into the first latent frame and zeros after it, as in the training of
    CogVideoX-5B-I2V.
    """

    def prepare_latents(
        self,
        image: Tensor,
        batch_size: int = 1,
        num_channels_latents: int = 16,
        num_frames: int = 13,
        height: int = 60,
        width: int = 90,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns noise and image latents, both (B, F, C, h, w), for an image (B, 3, H, W) in [-1, 1].

        It draws the noise before it encodes the image.
        """
        noise = CogVideoXPipeline.prepare_latents(
            self, batch_size, num_channels_latents, num_frames, height, width, dtype, device, generator, latents
        )
        still = image.unsqueeze(2).expand(-1, -1, num_frames, -1, -1)
        encoded = self.vae.encode(still).latent_dist.sample(generator).to(dtype)
        return noise, self.vae_scaling_factor_image * encoded.permute(0, 2, 1, 3, 4)
