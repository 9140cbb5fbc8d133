"""Adapts SANA-Video: linear self-attention over the video tokens, which has no softmax; text in cross-attention.

Probes read the queries and keys of the numerator. Matching applies a softmax that the model does not have, so rows of
the tables are marked `linear`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from vcorr import Clip, Site, TokenGrid
from vcorr.diffusion import AuthorsConfig, Compression, DiffusersVideoModel, PromptEncoding, Sizes

_SIDE = 32
"""The pipeline requires height and width to be multiples of this number of pixels."""


class SanaVideo(DiffusersVideoModel[AuthorsConfig]):
    """SANA-Video through diffusers' `SanaVideoPipeline`."""

    pipeline_class = "SanaVideoPipeline"
    attention_kind = "linear"
    branches = ("uncond", "cond")
    frames_argument = "frames"
    compression = Compression(spatial=8, temporal=4, patch=2)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the sizes of the base class, with multiples of 32 pixels, although a token covers 16."""
        side = Sizes(_SIDE, _SIDE)
        return {**super().sizes(site), "height": side, "width": side}

    @property
    def encoding(self) -> PromptEncoding:
        """Gemma with its mask; the pipeline's own instruction to enhance the prompt precedes the prompt."""
        options: dict[str, Any] = {"max_sequence_length": 300, "clean_caption": False}
        if self._pipe is not None:
            name = "complex_human_instruction"
            options[name] = inspect.signature(type(self.pipe).__call__).parameters[name].default
        return PromptEncoding(300, "caption_channels", mask=1, options=options)

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the pipeline and shows its attention to the tap; see the base class."""
        super().load(device, dtype, weights)
        self._show_attention()

    def adopt(self, pipe: Any, device: str) -> None:
        """Adopts a loaded pipeline and shows its attention to the tap; see the base class."""
        super().adopt(pipe, device)
        self._show_attention()

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the prompt, and the option to use the exact size, not the nearest one of a list."""
        return {**super().call_inputs(clip, grid), "use_resolution_binning": False}

    def _show_attention(self) -> None:
        from vcorr_diffusers.linear import show_linear_attention

        show_linear_attention(self.pipe.transformer.transformer_blocks)
