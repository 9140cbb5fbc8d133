"""Adapts EasyAnimate 5.1: full 3D joint attention, text first and with its padding, flow matching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vcorr import Clip, TokenGrid, Unrotated
from vcorr.diffusion import AuthorsConfig, Compression, DiffusersVideoModel, PromptEncoding


class EasyAnimate(DiffusersVideoModel[AuthorsConfig]):
    """EasyAnimate 5.1, text to video, through diffusers' `EasyAnimatePipeline`."""

    pipeline_class = "EasyAnimatePipeline"
    text = "before"
    branches = ("uncond", "cond")
    unrotated = Unrotated("norm_q", "norm_k", "bhnd")
    compression = Compression(spatial=8, temporal=4, patch=2)
    # Qwen2-VL with its mask, which the transformer does not use; the pipeline fixes the number of tokens
    encoding = PromptEncoding(256, "text_embed_dim", mask=2)

    def text_limit(self) -> None:
        """Returns None, which skips the check: the text encoder reads the prompt inside a chat, with further tokens."""

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the base class's inputs; the pipeline requires a negative prompt, which may be empty."""
        given = super().call_inputs(clip, grid)
        return {"negative_prompt": "", **given} if "prompt" in given else given
