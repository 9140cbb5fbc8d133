"""Cuts square textures from a bank of pictures: random windows, turned by any angle, in one batch.

Legend: P pictures, L levels of their pyramids, c crops, S side of a crop in texels. A pyramid holds the picture and
its halvings. A crop that shrinks its window is sampled from pixels about as large as its texels.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from vcorr import MissingError, UsageError
from vcorr_tiny.photos.photographs import check_picture, pixels_hash
from vcorr_tiny.sprites.draws import Draws

FORMAT = "vcorr-tiny pictures 1"
LEVELS = 6
"""Sizes of every pyramid: the picture itself, and 1/2 to 1/32 of it."""
LEAST_SIDE = 2**LEVELS
"""Pixels that every side of a picture must have, so that its smallest halving has two."""
SMALLEST_WINDOW = 0.3
"""Side of the smallest windows, as a share of the largest window that fits at the same angle."""
LARGEST_ZOOM = 4 / 3
"""Texels per pixel of the smallest windows, unless the picture is too small: a larger zoom would blur the texture."""


@dataclass(frozen=True)
class _Windows:
    """Square windows, one per crop: index of the picture, side and centre in its pixels, angle in radians, mirror ±1.

    All (c,); centre complex.
    """

    picture: Tensor
    side: Tensor
    centre: Tensor
    angle: Tensor
    mirror: Tensor


class Pictures:
    """A bank of RGB pictures on one device.

    Attributes: names; split; images, (H, W, 3) uint8 on the CPU by name, as they were given.

    Args:
        images: (H, W, 3) uint8 by name, every side at least 64 pixels.
        split: the split that all of them belong to.
        device: where crops are made.
    """

    def __init__(self, images: Mapping[str, Tensor], split: str, device: torch.device | str = "cpu") -> None:
        if not images:
            raise ValueError("a bank of pictures needs at least one picture")
        self.images, self.split, self.device = dict(images), split, torch.device(device)
        pyramids = [_pyramid(name, image) for name, image in images.items()]
        sizes = torch.tensor([[level.shape[:2] for level in pyramid] for pyramid in pyramids])
        ends = sizes.prod(-1).flatten().cumsum(0)
        starts = functional.pad(ends[:-1], (1, 0)).view(sizes.shape[:2])
        self._sizes, self._starts = sizes.to(self.device), starts.to(self.device)
        self._pixels = torch.cat([level.reshape(-1, 3) for pyramid in pyramids for level in pyramid]).to(self.device)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the pictures, in the order of their indices."""
        return tuple(self.images)

    def crops(self, draws: Draws, count: int, side: int) -> Tensor:
        """Cuts random windows and resamples them to ``side`` texels, (count, 3, side, side) float32 in [0, 1].

        Picture, angle, scale, position and mirror are drawn, and nothing else; a window never leaves its picture.
        """
        return self._sample(self._draw(draws, count, side), side)

    def _draw(self, draws: Draws, count: int, side: int) -> _Windows:
        picture = draws.index((count,), len(self.images)).to(self.device)
        angle = draws.uniform((count,), 0, 2 * math.pi).to(self.device)
        shares = draws.uniform((count, 3), 0, 1).to(self.device)
        mirror = 1 - 2 * draws.chance((count,), 0.5).to(self.device)
        size = self._sizes[picture, 0].float()
        spread = angle.cos().abs() + angle.sin().abs()  # side of the upright square around a window of side 1
        largest = size.amin(-1) / spread
        smallest = torch.minimum(largest, (SMALLEST_WINDOW * largest).clamp(min=side / LARGEST_ZOOM))
        width = smallest * (largest / smallest) ** shares[:, 0]
        margin = width * spread / 2
        y, x = (margin + shares[:, axis + 1] * (size[:, axis] - 2 * margin) for axis in (0, 1))
        return _Windows(picture, width, torch.complex(x, y), angle, mirror)

    def _sample(self, windows: _Windows, side: int) -> Tensor:
        axis = (torch.arange(side, device=self.device) + 0.5) / side - 0.5
        texel = torch.complex(
            windows.mirror[:, None, None] * axis.expand(side, side), axis[:, None].expand(len(windows.side), side, side)
        )
        point = texel * torch.polar(windows.side, windows.angle)[:, None, None] + windows.centre[:, None, None]
        level = torch.log2(windows.side / side).round().clamp(0, LEVELS - 1).long()
        start = self._starts[windows.picture, level][:, None, None]
        height, width = (self._sizes[windows.picture, level, axis][:, None, None] for axis in (0, 1))
        scale = (0.5 ** level.float())[:, None, None]
        return self._bilinear(point.real * scale, point.imag * scale, start, height, width)

    def _bilinear(self, x: Tensor, y: Tensor, start: Tensor, height: Tensor, width: Tensor) -> Tensor:
        """Looks up the pictures at raster positions (x, y), (c, S, S) pixels, bilinear between pixel centres."""
        x, y = (x - 0.5).clamp(min=0).minimum(width - 1), (y - 0.5).clamp(min=0).minimum(height - 1)
        column, row = x.floor().long().minimum(width - 2), y.floor().long().minimum(height - 2)
        right, down = (x - column)[..., None], (y - row)[..., None]
        corner = start + row * width + column
        upper = torch.lerp(self._at(corner), self._at(corner + 1), right)
        lower = torch.lerp(self._at(corner + width), self._at(corner + width + 1), right)
        return torch.lerp(upper, lower, down).permute(0, 3, 1, 2).contiguous()

    def _at(self, index: Tensor) -> Tensor:
        return self._pixels[index].float() / 255

    def save(self, path: Path | str) -> None:
        """Writes the pictures, their names and their split as one safetensors file.

        Raises:
            UsageError: the file cannot be written.
        """
        metadata = {"format": FORMAT, "split": self.split, "names": json.dumps(self.names)}
        try:
            save_file({name: image.contiguous() for name, image in self.images.items()}, path, metadata)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{path} cannot be written: {error}") from error

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu", split: str = "train") -> "Pictures":
        """Reads a file that `save` wrote, and checks by name and by content that it holds pictures of ``split`` alone.

        Raises:
            MissingError: there is no such file.
            UsageError: it is no file of pictures, or a picture is not listed, is changed, or is of another split.
        """
        if not Path(path).is_file():
            raise MissingError(
                f"There is no file {path}.", hint=f"python -m vcorr_tiny.photos export {path} --split {split}"
            )
        images = _read_images(path)
        for name, image in images.items():
            check_picture(name, hash_image(image), split, str(path))
        return cls(images, split, device)


def hash_image(image: Tensor) -> str:
    """Returns the hash of a picture (H, W, 3) uint8 by which the list of photographs knows it."""
    return pixels_hash(image.cpu().contiguous().numpy().tobytes(), image.shape)


def _read_images(path: Path | str) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") == FORMAT:
                return {name: file.get_tensor(name) for name in json.loads(metadata["names"])}
    except SafetensorError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    raise UsageError(f"{path} is no file of pictures.", hint=f"python -m vcorr_tiny.photos export {path} --split train")


def _pyramid(name: str, image: Tensor) -> list[Tensor]:
    """Returns a picture and its halvings, each (h, w, 3) uint8; made on the CPU, so that they are the same anywhere."""
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[-1] != 3 or min(image.shape[:2]) < LEAST_SIDE:
        raise ValueError(
            f"picture {name!r} must be uint8 (H, W, 3) of at least {LEAST_SIDE} pixels, "
            f"got {image.dtype} {tuple(image.shape)}"
        )
    level = image.cpu().permute(2, 0, 1).float()
    levels = [level]
    for _ in range(1, LEVELS):
        level = functional.avg_pool2d(level, 2)
        levels.append(level)
    return [level.round().to(torch.uint8).permute(1, 2, 0) for level in levels]
