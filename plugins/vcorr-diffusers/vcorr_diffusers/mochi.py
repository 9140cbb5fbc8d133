"""Adapts Mochi 1: full 3D joint attention, text after the video and without its padding, so that its length differs.

Its attention handles the batch rows one at a time, and its flow-matching scheduler counts from noise to signal.
"""

from vcorr import Unrotated
from vcorr.diffusion import AuthorsConfig, Compression, DiffusersVideoModel, PromptEncoding


class Mochi(DiffusersVideoModel[AuthorsConfig]):
    """Mochi 1 through diffusers' `MochiPipeline`."""

    pipeline_class = "MochiPipeline"
    text = "after"
    branches = ("uncond", "cond")
    per_sample = True
    unrotated = Unrotated("norm_q", "norm_k", "bnhd")
    steps = 64
    compression = Compression(spatial=8, temporal=6, patch=2)
    encoding = PromptEncoding(256, "text_embed_dim", mask=1, options={"max_sequence_length": 256})
