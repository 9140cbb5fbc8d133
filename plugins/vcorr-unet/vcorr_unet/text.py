"""Video UNets that read a prompt: its embedding is what the cross-attention sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from vcorr.diffusion import PromptEncoding
from vcorr_unet.unet import UNetConfig, VideoUNet


@dataclass(frozen=True, kw_only=True)
class TextUNetConfig(UNetConfig):
    """Options of video UNets that read a prompt. text_tokens: what prompts are padded to, and the most they hold."""

    text_tokens: int = 77


C = TypeVar("C", bound=TextUNetConfig)


class TextUNet(VideoUNet[C]):
    """A video UNet that reads a prompt. Random weights come without a text encoder."""

    @property
    def encoding(self) -> PromptEncoding:
        """By the pipeline's CLIP text encoder, padded."""
        config = self.config
        return PromptEncoding(config.text_tokens, config.cross_attention_dim, options={"num_images_per_prompt": 1})
