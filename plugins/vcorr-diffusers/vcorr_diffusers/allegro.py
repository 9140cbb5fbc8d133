"""Allegro: full 3D self-attention over the video tokens, an autoencoder that is not causal and works in fixed tiles."""

from __future__ import annotations

from collections.abc import Mapping

from vcorr import Site
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig

_TILE_FRAMES, _STEP_FRAMES, _OVERLAP_ROWS, _OVERLAP_COLS = 24, 16, 120, 80
"""Of diffusers' `AutoencoderKLAllegro`: frames of a tile, frames from one tile to the next, pixels they overlap in."""


class Allegro(DiffusersVideoModel[VideoConfig]):
    """Allegro through diffusers' `AllegroPipeline`."""

    pipeline_class = "AllegroPipeline"
    branches = ("uncond", "cond")
    steps = 100
    compression = Compression(spatial=8, temporal=4, patch=2, causal=False)
    # captions are not cleaned, which would depend on packages that may not be there
    encoding = PromptEncoding(
        512, "caption_channels", mask=1, options={"max_sequence_length": 512, "clean_caption": False}
    )

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """What the autoencoder's tiles cover without a rest; pixels beyond the last whole tile would be left black."""
        tile = self.config_of("vae")["sample_size"]
        return {
            "height": Sizes(tile, tile - _OVERLAP_ROWS),
            "width": Sizes(tile, tile - _OVERLAP_COLS),
            "frames": Sizes(_TILE_FRAMES, _STEP_FRAMES),
        }

    def load(self, device: str, dtype: str, weights: str) -> None:
        """See the base class. The autoencoder always works in tiles: diffusers has no other way for it."""
        super().load(device, dtype, weights)
        self.pipe.vae.enable_tiling()
