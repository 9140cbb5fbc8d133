"""LTX-Video: full 3D self-attention over the video tokens alone; the prompt comes in through cross-attention."""

from typing import Any

from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, VideoConfig
from vcorr.records import Unrotated


class LTX(DiffusersVideoModel[VideoConfig]):
    """LTX-Video through diffusers' `LTXPipeline`."""

    pipeline_class = "LTXPipeline"
    branches = ("uncond", "cond")
    unrotated = Unrotated("norm_q", "norm_k", "bnc")
    compression = Compression(spatial=32, temporal=8, patch=1)
    encoding = PromptEncoding(128, "caption_channels", mask=1, options={"max_sequence_length": 128})
    latent_axes = ""  # packed into tokens

    def denoiser_input(self, latents: Any, own: Any) -> Any:
        """Latents as tokens, (1, F·h·w, C)."""
        return self.pipe._pack_latents(latents).to(own.dtype)

    def as_latents(self, output: Any, latents: Any) -> Any:
        """Tokens as latents."""
        return self.pipe._unpack_latents(output, *latents.shape[2:])
