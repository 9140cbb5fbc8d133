"""Holds the autoencoder of Open-Sora 1.2: it encodes each frame alone, then merges the latents of four frames.

Modules are named as in the released files, so that these load without conversion. A clip is cut into chunks of 17
frames; each is padded in front to a multiple of four frames and encoded independently.

Shape legend: B batch, T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from vcorr_opensora.v1.chunks import CHUNK, CHUNK_LATENTS, padding_of

FRAMES_AT_ONCE = 4
"""Frames that the spatial part encodes or decodes at once."""
SPATIAL_SCALE = 0.18215
"""Factor of the spatial part's latents; its own configuration is not used."""

_SHRINKS = (False, True, True)
"""Whether the temporal part halves the number of frames after its first, second and third level."""
_MULTIPLES = (1, 2, 2, 4)
_NORMALISED = {"shift": (-0.10, 0.34, 0.27, 0.98), "scale": (3.85, 2.32, 2.33, 3.06)}
"""One value per latent channel; latents are (x - shift) / scale."""


class OpenSoraAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is not typed
    """Encodes videos to latents and decodes them, 4 x 8 x 8 pixels per latent.

    Args:
        spatial_channels: widths of the levels of the spatial part, an image autoencoder.
        spatial_layers: residual blocks per level of the spatial part.
        norm_groups: groups of the norms in both parts.
        temporal_width: width of the first level of the temporal part.
        temporal_layers: residual blocks per level of the temporal part.
        latent_channels: C.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers is not typed
    def __init__(
        self,
        spatial_channels: Sequence[int] = (128, 256, 512, 512),
        spatial_layers: int = 2,
        norm_groups: int = 32,
        temporal_width: int = 128,
        temporal_layers: int = 4,
        latent_channels: int = 4,
    ) -> None:
        super().__init__()
        levels = len(spatial_channels)
        image = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(spatial_channels),
            layers_per_block=spatial_layers,
            norm_num_groups=norm_groups,
            latent_channels=latent_channels,
        )
        self.spatial_vae = nn.ModuleDict({"module": image})
        self.temporal_vae = Temporal(latent_channels, temporal_width, temporal_layers, norm_groups)
        for name, values in self.compute_missing({}).items():
            self.register_buffer(name, values)
        self.shift: Tensor
        self.scale: Tensor

    @staticmethod
    def sizes_in(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Returns the arguments for a network of these shapes; raises KeyError if a needed tensor is missing."""
        spatial, temporal = "spatial_vae.module.encoder.down_blocks", "temporal_vae.encoder"
        levels = _numbers(shapes, f"{spatial}.")
        width, channels = shapes[f"{temporal}.conv_in.conv.weight"][:2]
        return {
            "spatial_channels": tuple(shapes[f"{spatial}.{i}.resnets.0.conv1.weight"][0] for i in range(levels)),
            "spatial_layers": _numbers(shapes, f"{spatial}.0.resnets."),
            "temporal_width": width,
            "temporal_layers": _numbers(shapes, f"{temporal}.res_blocks."),
            "latent_channels": channels,
        }

    @staticmethod
    def compute_missing(sizes: Mapping[str, Any]) -> dict[str, Tensor]:
        """Returns the tensors that a file may lack."""
        return {name: torch.tensor(values).view(1, -1, 1, 1, 1) for name, values in _NORMALISED.items()}

    @property
    def _image(self) -> Any:
        """The spatial part, which works on single frames."""
        return self.spatial_vae["module"]

    @property
    def use_tiling(self) -> bool:
        """Whether the spatial part works tile by tile."""
        return bool(self._image.use_tiling)

    def enable_tiling(self) -> None:
        """Makes the spatial part work tile by tile."""
        self._image.enable_tiling()

    def encode(self, video: Tensor) -> Tensor:
        """Encodes (B, 3, T, H, W) in [-1, 1] as (B, C, F, h, w): the mean of the posterior, shifted and scaled."""
        frames = self._by_frame(video, lambda x: self._image.encode(x).latent_dist.mode())
        coded = [self.temporal_vae.encode(chunk) for chunk in (frames * SPATIAL_SCALE).split(CHUNK, dim=2)]
        return (torch.cat(coded, dim=2) - self.shift) / self.scale

    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """Decodes (B, C, F, h, w) to (B, 3, T, H, W) in [-1, 1]."""
        chunks, made = (latents * self.scale + self.shift).split(CHUNK_LATENTS, dim=2), []
        for index, chunk in enumerate(chunks):
            length = min(CHUNK, num_frames - index * CHUNK)
            made.append(self.temporal_vae.decode(chunk)[:, :, padding_of(length) :])
        frames = torch.cat(made, dim=2) / SPATIAL_SCALE
        return self._by_frame(frames, lambda x: self._image.decode(x).sample)

    def _by_frame(self, video: Tensor, code: Callable[[Tensor], Tensor]) -> Tensor:
        batch = len(video)
        frames = video.transpose(1, 2).flatten(0, 1)
        coded = torch.cat([code(part) for part in frames.split(FRAMES_AT_ONCE)])
        result: Tensor = coded.unflatten(0, (batch, -1)).transpose(1, 2)
        return result


class Temporal(nn.Module):
    """The temporal part: merges the latents of four frames into one and back, and reads earlier frames only."""

    def __init__(self, channels: int, width: int, layers: int, groups: int) -> None:
        super().__init__()
        widths = [width * multiple for multiple in _MULTIPLES]
        self.encoder = _Encoder(channels, widths, layers, groups)
        self.quant_conv = _Conv(2 * channels, 2 * channels, 1)
        self.post_quant_conv = _Conv(channels, channels, 1)
        self.decoder = _Decoder(channels, widths, layers, groups)

    def encode(self, frames: Tensor) -> Tensor:
        """Encodes (B, C, T, h, w) as the mean of the posterior, (B, C, F, h, w)."""
        padded = F.pad(frames, (0, 0, 0, 0, padding_of(frames.shape[2]), 0))
        mean: Tensor = self.quant_conv(self.encoder(padded)).chunk(2, dim=1)[0]
        return mean

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes (B, C, F, h, w) to (B, C, 4F, h, w), padding included."""
        frames: Tensor = self.decoder(self.post_quant_conv(latents))
        return frames


class _Encoder(nn.Module):
    def __init__(self, channels: int, widths: Sequence[int], layers: int, groups: int) -> None:
        super().__init__()
        self.conv_in = _Conv(channels, widths[0], 3, bias=False)
        self.block_res_blocks = nn.ModuleList(
            _level(before, after, layers, groups)
            for before, after in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            _Conv(width, width, 3, stride=2) if shrinks else nn.Identity()
            for width, shrinks in zip(widths[:-1], _SHRINKS, strict=True)
        )
        self.res_blocks = _level(widths[-1], widths[-1], layers, groups)
        self.norm1 = nn.GroupNorm(groups, widths[-1])
        self.conv2 = _Conv(widths[-1], 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level, shrink in zip(self.block_res_blocks, [*self.conv_blocks, nn.Identity()], strict=True):
            x = shrink(level(x))
        result: Tensor = self.conv2(F.silu(self.norm1(self.res_blocks(x))))
        return result


class _Decoder(nn.Module):
    def __init__(self, channels: int, widths: Sequence[int], layers: int, groups: int) -> None:
        super().__init__()
        self.conv1 = _Conv(channels, widths[-1], 3)
        self.res_blocks = _level(widths[-1], widths[-1], layers, groups)
        self.block_res_blocks = nn.ModuleList(
            _level(before, after, layers, groups)
            for before, after in zip([*widths[1:], widths[-1]], widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            _Conv(width, 2 * width, 3) if grows else nn.Identity()
            for width, grows in zip(widths[1:], _SHRINKS, strict=True)
        )
        self.norm1 = nn.GroupNorm(groups, widths[0])
        self.conv_out = _Conv(widths[0], channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(x))
        for index in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[index](x)
            if index and _SHRINKS[index - 1]:
                # the channels of one frame hold two frames
                x = self.conv_blocks[index - 1](x).unflatten(1, (-1, 2)).transpose(2, 3).flatten(2, 3)
        result: Tensor = self.conv_out(F.silu(self.norm1(x)))
        return result


class _Residual(nn.Module):
    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before)
        self.conv1 = _Conv(before, after, 3, bias=False)
        self.norm2 = nn.GroupNorm(groups, after)
        self.conv2 = _Conv(after, after, 3, bias=False)
        if before != after:
            self.conv3 = _Conv(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(x)))
        inner = self.conv2(F.silu(self.norm2(inner)))
        result: Tensor = inner + (self.conv3(x) if hasattr(self, "conv3") else x)
        return result


class _Conv(nn.Module):
    """A convolution over a frame and earlier ones; with a stride of 2, it keeps every second frame."""

    def __init__(self, before: int, after: int, size: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(before, after, size, (stride, 1, 1), (0, size // 2, size // 2), bias=bias)
        self.earlier = size - stride

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(F.pad(x, (0, 0, 0, 0, self.earlier, 0)))
        return result


def _numbers(shapes: Mapping[str, Any], prefix: str) -> int:
    """Counts the modules whose names start with `prefix` and a number."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


def _level(before: int, after: int, layers: int, groups: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(before if layer == 0 else after, after, groups) for layer in range(layers)))
