"""Adapts LTX-Video: full 3D self-attention over the video tokens; the prompt enters through cross-attention."""

import math
from typing import Any

from vcorr import Rotary, Unrotated
from vcorr.diffusion import AuthorsConfig, Compression, DiffusersVideoModel, PromptEncoding

_FPS, _SPAN, _THETA = 25, (20, 2048, 2048), 10_000.0
"""From diffusers: frames per second; seconds and pixels that equal 1 in positions; base of the frequencies."""


class LTX(DiffusersVideoModel[AuthorsConfig]):
    """LTX-Video through diffusers' `LTXPipeline`."""

    pipeline_class = "LTXPipeline"
    branches = ("uncond", "cond")
    unrotated = Unrotated("norm_q", "norm_k", "bnc")
    compression = Compression(spatial=32, temporal=8, patch=1)
    encoding = PromptEncoding(128, "caption_channels", mask=1, options={"max_sequence_length": 128})
    latent_axes = ""  # the pipeline packs latents into tokens

    @property
    def rotary(self) -> Rotary:
        """Frequencies of t, y and x in turns over the channels of all heads; the remaining channels do not turn."""
        heads, width = self.network["num_attention_heads"], self.network["attention_head_dim"]
        count, pack = heads * width // 6, self.compression
        # size of a token in seconds and in pixels, divided by _SPAN; the angle is 0 in the middle
        shares = (pack.temporal / _FPS / _SPAN[0], pack.spatial / _SPAN[1], pack.spatial / _SPAN[2])
        rising = [_THETA ** (index / (count - 1)) * math.pi for index in range(count)]
        still = (heads * width % 6) // 2
        return Rotary(
            axes=("",) * still + ("t", "y", "x") * count,
            frequencies=(0.0,) * still + tuple(frequency * share for frequency in rising for share in shares),
            starts=(-0.5 / shares[0], -0.5 / shares[1], -0.5 / shares[2]),
            heads=heads,
        )

    def denoiser_input(self, latents: Any, own: Any) -> Any:
        """Packs latents into tokens, (1, F·h·w, C)."""
        return self.pipe._pack_latents(latents).to(own.dtype)

    def as_latents(self, output: Any, latents: Any) -> Any:
        """Unpacks tokens into latents."""
        return self.pipe._unpack_latents(output, *latents.shape[2:])
