"""Holds what the adapters of video UNets share: several resolutions, and an autoencoder for images.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents; F = T, one latent frame per frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from vcorr import Site
from vcorr.diffusion import Compression, DiffusersVideoModel, Sizes, VideoConfig
from vcorr_unet.structure import SelfAttention, Transformer, self_attentions, unet_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

C = TypeVar("C", bound=VideoConfig)


class VideoUNet(DiffusersVideoModel[C]):
    """A UNet with spatial and temporal attention in turns, at several resolutions."""

    denoiser: ClassVar[str] = "unet"
    branches = ("uncond", "cond")
    joins_rows = False  # the way up gets outputs of the way down
    transformers: ClassVar[tuple[Transformer, ...]] = ()
    """The kinds of transformer blocks in each layer, in order of execution."""

    @property
    def attention_modules(self) -> Sequence[SelfAttention]:
        """Every self-attention module, in order of execution."""
        return tuple(self_attentions(unet_blocks(self._levels, self.network["layers_per_block"]), self.transformers))

    def heads(self, kind: Transformer) -> Any:
        """Returns the number of heads of a kind of transformer block: one number, or one number per level."""
        return self.network["num_attention_heads"]

    def sites(self) -> Sequence[Site]:
        """Returns the spatial and temporal self-attention modules, in order of execution."""
        return tuple(self._site(layer, module) for layer, module in enumerate(self.attention_modules))

    @property
    def compression(self) -> Compression:
        """1x8x8 at the released sizes; each frame has its own latent frame."""
        return Compression(spatial=2 ** (len(self.config_of("vae")["block_out_channels"]) - 1), temporal=1, patch=1)

    def compression_at(self, site: Site | None) -> Compression:
        """Returns the compression at a site: a token is one latent at the first level; its side doubles per level."""
        level = self.attention_modules[site.layer].level if site is not None else 0
        return replace(self.compression, patch=2**level)

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the sizes with whole tokens at the deepest level; any number of frames from 2."""
        coarsest = self.compression.spatial * 2 ** (self._levels - 1)
        side = Sizes(coarsest, coarsest)
        return {"height": side, "width": side, "frames": Sizes(2, 1)}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Encodes (T, H, W, 3) uint8 RGB as (1, C, F, h, w), frame by frame."""
        from vcorr.diffusion import encode_frames

        return encode_frames(self.pipe.vae, video, self.device)

    @property
    def _levels(self) -> int:
        return len(self.network["block_out_channels"])

    def _site(self, layer: int, module: SelfAttention) -> Site:
        each, kind = self.heads(module.kind), module.kind
        return Site(
            layer,
            module.name,
            module.heads or (each if isinstance(each, int) else each[module.level]),
            "factorised",
            block=module.block,
            block_axes=kind.block_axes,
            factorised=kind.factorised,
        )
