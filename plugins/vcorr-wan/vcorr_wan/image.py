"""Holds Wan's image-to-video pipeline, which also runs without an image encoder."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from torch import Tensor

from vcorr.diffusion import prompt_noise

IMAGE_TOKENS = 257
"""Number of tokens of an image from CLIP ViT-H."""


class ImageToVideo(WanImageToVideoPipeline):  # type: ignore[misc]  # diffusers is not typed
    """Image to video; without an image encoder, the image's embedding is noise with a seed computed from its pixels."""

    def encode_image(self, image: Any, device: torch.device | None = None) -> Tensor:
        """Returns the embedding of an image, (1, 257, image_dim)."""
        if self.image_encoder is not None:
            found: Tensor = super().encode_image(image, device)
            return found
        pixels = hashlib.sha256(np.asarray(image).tobytes()).hexdigest()
        return prompt_noise((1, IMAGE_TOKENS, self.transformer.config.image_dim), pixels, "image").to(device)
