"""Adapts Latte: blocks of spatial and of temporal attention in turns, and an autoencoder for images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vcorr import Factorised, Site
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig

if TYPE_CHECKING:
    from torch import Tensor


class Latte(DiffusersVideoModel[VideoConfig]):
    """Latte through diffusers' `LattePipeline`."""

    pipeline_class = "LattePipeline"
    branches = ("uncond", "cond")
    frames_argument = "video_length"
    compression = Compression(spatial=8, temporal=1, patch=2)
    # T5 without its padding; cleaning of captions would depend on packages that may be missing
    encoding = PromptEncoding(120, "caption_channels", options={"clean_caption": False})

    def sites(self) -> tuple[Site, ...]:
        """Returns two sites per layer of the configuration: spatial attention, then temporal attention."""
        kinds = (("transformer_blocks", Factorised("spatial")), ("temporal_transformer_blocks", Factorised("temporal")))
        blocks = [(f"{name}.{i}", kind) for i in range(self.network["num_layers"]) for name, kind in kinds]
        heads = self.network["num_attention_heads"]
        return tuple(
            Site(layer, f"{block}.attn1", heads, "factorised", block=block, factorised=kind)
            for layer, (block, kind) in enumerate(blocks)
        )

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the sizes of the base class, with the only number of frames that has positions in time."""
        frames = self.network["video_length"]
        return {**super().sizes(site), "frames": Sizes(frames, 1, frames)}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Encodes (T, H, W, 3) uint8 RGB as (1, C, T, h, w), each frame independently."""
        from vcorr.diffusion import encode_frames

        return encode_frames(self.pipe.vae, video, self.device)
