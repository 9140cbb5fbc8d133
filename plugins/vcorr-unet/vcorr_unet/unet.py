"""What the adapters of video UNets have in common: several resolutions, and an autoencoder of images.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents; F = T, every frame is a latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from vcorr import Site
from vcorr.diffusion import Compression, DiffusersVideoModel, Sizes, VideoConfig
from vcorr_unet.structure import Place, Transformer, attention_places, site_at, unet_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class UNetConfig(VideoConfig):
    """Options every video UNet has.

    All but those of every model are sizes of the networks: `--weights random` builds them as they are given here, and
    weights from elsewhere must agree with those that decide where the tokens are.

    block_out_channels: width of each resolution level of the UNet. layers_per_block: layers of each level.
    cross_attention_dim: width of the text or image embedding. latent_channels: of the autoencoder. vae_channels: width
    of each of its levels, between which it halves the resolution; vae_layers_per_block: layers of each.
    """

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    cross_attention_dim: int = 1024
    latent_channels: int = 4
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2

    @property
    def levels(self) -> int:
        """Resolutions of the UNet."""
        return len(self.block_out_channels)

    @property
    def spatial_compression(self) -> int:
        """Pixels a latent covers in x and y."""
        return int(2 ** (len(self.vae_channels) - 1))

    @property
    def spatial_heads(self) -> tuple[int, ...]:
        """Heads of the spatial attention of each level."""
        return (1,) * self.levels

    @property
    def temporal_heads(self) -> tuple[int, ...]:
        """Heads of the temporal attention of each level; those of the spatial attention where not told otherwise."""
        return self.spatial_heads


C = TypeVar("C", bound=UNetConfig)


class VideoUNet(DiffusersVideoModel[C]):
    """A UNet that attends over space and over time in turn, at several resolutions."""

    denoiser: ClassVar[str] = "unet"
    branches = ("uncond", "cond")
    transformers: ClassVar[tuple[Transformer, ...]] = ()
    """The transformer blocks of each layer, in the order they run."""

    @property
    def frame_limit(self) -> int | None:
        """The most frames the network knows positions of; None where it takes any number."""
        return None

    def first_places(self) -> Sequence[Place]:
        """Attention modules that run before the blocks."""
        return ()

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every self-attention module, in the order of execution."""
        blocks = unet_blocks(self.config.levels, self.config.layers_per_block)
        return (*self.first_places(), *attention_places(blocks, self.transformers))

    def sites(self) -> Sequence[Site]:
        """Spatial and temporal self-attention, in the order of execution."""
        return tuple(site_at(layer, place, self._heads(place)) for layer, place in enumerate(self.places))

    @property
    def compression(self) -> Compression:
        """1x8x8 at the released sizes: each frame is a latent."""
        return Compression(spatial=self.config.spatial_compression, temporal=1, patch=1)

    def compression_at(self, site: Site | None) -> Compression:
        """A token is a latent at the first level, and twice as large from level to level."""
        level = self.places[site.layer].level if site is not None else 0
        return replace(self.compression, patch=2**level)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Whole tokens at the deepest level, and as many frames as there are positions for."""
        coarsest = self.config.spatial_compression * 2 ** (self.config.levels - 1)
        side = Sizes(coarsest, coarsest)
        return {"height": side, "width": side, "frames": Sizes(2, 1, self.frame_limit)}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w), frame by frame."""
        from vcorr.diffusion.latents import encode_frames

        return encode_frames(self.pipe.vae, video, self.device)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes that decide where sites and tokens are, and those of the embedding."""
        found = self.pipe.vae.config.block_out_channels
        # The number of the autoencoder's levels decides the stride; their widths do not.
        same_depth = len(found) == len(self.config.vae_channels)
        return {**super().loaded_sizes(), "vae_channels": self.config.vae_channels if same_depth else tuple(found)}

    def _heads(self, place: Place) -> int:
        config = self.config
        each = config.spatial_heads if place.kind.factorised.row == "frame" else config.temporal_heads
        return place.heads or each[place.level]
