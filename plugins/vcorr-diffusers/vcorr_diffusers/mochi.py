"""Adapts Mochi 1: full 3D joint attention, text after the video and without its padding, so that its length differs.

Its attention handles the batch rows one at a time, and its flow-matching scheduler counts from noise to signal.
"""

from __future__ import annotations

from typing import Any

from vcorr import Unrotated
from vcorr.diffusion import AuthorsConfig, Compression, DiffusersVideoModel, PromptEncoding

_FREQUENCIES = (0.5, 0.02, 0.02)
"""Standard deviations of random rotary frequencies of t, y and x: radians per latent frame, and per row or column of a
video that is brought to about 192x192 tokens."""


class Mochi(DiffusersVideoModel[AuthorsConfig]):
    """Mochi 1 through diffusers' `MochiPipeline`."""

    pipeline_class = "MochiPipeline"
    text = "after"
    branches = ("uncond", "cond")
    per_sample = True
    unrotated = Unrotated("norm_q", "norm_k", "bnhd")
    steps = 64
    fewest_steps = 2  # half of them are linear in noise, the others quadratic
    compression = Compression(spatial=8, temporal=6, patch=2)
    encoding = PromptEncoding(256, "text_embed_dim", mask=1, options={"max_sequence_length": 256})

    def build(self, seed: int) -> Any:
        """Builds random weights; see the base class. It also draws the rotary frequencies, which are learned.

        The constructor leaves them at zero, so that no token would know its position.
        """
        import torch

        pipe = super().build(seed)
        with torch.no_grad():
            for frequencies, size in zip(pipe.transformer.pos_frequencies, _FREQUENCIES, strict=True):
                frequencies.normal_(std=size)
        return pipe
