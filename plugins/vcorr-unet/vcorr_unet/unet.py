"""What the adapters of video UNets have in common: several resolutions, and an autoencoder of images.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents; F = T, every frame is a latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from vcorr import Site
from vcorr.diffusion import Compression, DiffusersVideoModel, Sizes, VideoConfig
from vcorr_unet.structure import Place, Transformer, attention_places, unet_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

C = TypeVar("C", bound=VideoConfig)


class VideoUNet(DiffusersVideoModel[C]):
    """A UNet that attends over space and over time in turn, at several resolutions."""

    denoiser: ClassVar[str] = "unet"
    branches = ("uncond", "cond")
    transformers: ClassVar[tuple[Transformer, ...]] = ()
    """The transformer blocks of each layer, in the order they run."""

    @property
    def places(self) -> Sequence[Place]:
        """Every self-attention module, in the order of execution."""
        return tuple(attention_places(unet_blocks(self._levels, self.network["layers_per_block"]), self.transformers))

    def heads(self, kind: Transformer) -> Any:
        """The number of heads of a kind of transformer block, or one for each level."""
        return self.network["num_attention_heads"]

    def sites(self) -> Sequence[Site]:
        """Spatial and temporal self-attention, in the order of execution."""
        return tuple(self._site(layer, place) for layer, place in enumerate(self.places))

    @property
    def compression(self) -> Compression:
        """1x8x8 at the released sizes: each frame is a latent."""
        return Compression(spatial=2 ** (len(self.config_of("vae")["block_out_channels"]) - 1), temporal=1, patch=1)

    def compression_at(self, site: Site | None) -> Compression:
        """A token is a latent at the first level, and twice as large from level to level."""
        level = self.places[site.layer].level if site is not None else 0
        return replace(self.compression, patch=2**level)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Whole tokens at the deepest level, and any number of frames."""
        coarsest = self.compression.spatial * 2 ** (self._levels - 1)
        side = Sizes(coarsest, coarsest)
        return {"height": side, "width": side, "frames": Sizes(2, 1)}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w), frame by frame."""
        from vcorr.diffusion import encode_frames

        return encode_frames(self.pipe.vae, video, self.device)

    @property
    def _levels(self) -> int:
        return len(self.network["block_out_channels"])

    def _site(self, layer: int, place: Place) -> Site:
        each, kind = self.heads(place.kind), place.kind
        return Site(
            layer,
            place.name,
            place.heads or (each if isinstance(each, int) else each[place.level]),
            "factorised",
            block=place.block,
            block_axes=kind.block_axes,
            factorised=kind.factorised,
        )
