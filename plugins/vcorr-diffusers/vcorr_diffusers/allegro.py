"""Adapts Allegro: full 3D self-attention over video tokens; an autoencoder that is not causal and uses fixed tiles."""

from __future__ import annotations

from collections.abc import Mapping

from vcorr import Site
from vcorr.diffusion import AuthorsConfig, Compression, DiffusersVideoModel, PromptEncoding, Sizes

_TILE_FRAMES, _STEP_FRAMES, _OVERLAP_ROWS, _OVERLAP_COLS = 24, 16, 120, 80
"""Of diffusers' `AutoencoderKLAllegro`: frames per tile, frames from tile to tile, overlap of tiles in pixels."""


class Allegro(DiffusersVideoModel[AuthorsConfig]):
    """Allegro through diffusers' `AllegroPipeline`."""

    pipeline_class = "AllegroPipeline"
    branches = ("uncond", "cond")
    steps = 100
    compression = Compression(spatial=8, temporal=4, patch=2, causal=False)
    # cleaning of captions would depend on packages that may be missing
    encoding = PromptEncoding(
        512, "caption_channels", mask=1, options={"max_sequence_length": 512, "clean_caption": False}
    )

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the sizes that whole tiles cover; pixels beyond the last whole tile would stay black."""
        tile = self.config_of("vae")["sample_size"]
        return {
            "height": Sizes(tile, tile - _OVERLAP_ROWS),
            "width": Sizes(tile, tile - _OVERLAP_COLS),
            "frames": Sizes(_TILE_FRAMES, _STEP_FRAMES),
        }

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the pipeline and enables tiling, because diffusers' autoencoder works only in tiles."""
        super().load(device, dtype, weights)
        self.pipe.vae.enable_tiling()
