"""Builds the network of XFeat, written from the paper (Potje et al., arXiv 2404.19174) and the shapes of its weights.

Only the part that makes descriptors is built: the heads that find and refine key points are left out. Module names
follow the released weights.

Shape legend: B frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

CHANNELS = 64
"""Channels of a descriptor."""
UNUSED = ("heatmap_head.", "keypoint_head.", "fine_matcher.")
"""Beginnings of the names of released tensors that descriptors do not need."""


class _Unit(nn.Module):
    """Convolution without bias, normalisation by stored statistics without a learned scale, ReLU."""

    def __init__(self, inward: int, outward: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(inward, outward, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outward, affine=False),
            nn.ReLU(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.layer(maps)
        return found


def _block(units: Iterable[tuple[int, int, int, int]]) -> nn.Sequential:
    """Returns units in a row; of each, the channels in and out, the side of the kernel and the stride."""
    return nn.Sequential(*(_Unit(*unit) for unit in units))


class UnitLength(nn.Module):
    """Brings the channels of every position to length 1."""

    def forward(self, maps: Tensor) -> Tensor:
        """Returns unit vectors (B, C, h, w), from maps of the same shape."""
        return F.normalize(maps, dim=1)


class XFeatNetwork(nn.Module):
    """Descriptors of grey frames: three scales (strides 8, 16, 32) are added at stride 8 and fused."""

    def __init__(self) -> None:
        super().__init__()
        self.skip1 = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 24, 1))
        self.block1 = _block([(1, 4, 3, 1), (4, 8, 3, 2), (8, 8, 3, 1), (8, 24, 3, 2)])
        self.block2 = _block([(24, 24, 3, 1), (24, 24, 3, 1)])
        self.block3 = _block([(24, 64, 3, 2), (64, 64, 3, 1), (64, 64, 1, 1)])
        self.block4 = _block([(64, 64, 3, 2), (64, 64, 3, 1), (64, 64, 3, 1)])
        self.block5 = _block([(64, 128, 3, 2), (128, 128, 3, 1), (128, 128, 3, 1), (128, 64, 1, 1)])
        self.block_fusion = nn.Sequential(_Unit(64, 64), _Unit(64, 64), nn.Conv2d(64, CHANNELS, 1))
        self.descriptors = UnitLength()

    def forward(self, grey: Tensor) -> Tensor:
        """Returns descriptors of length 1, (B, 64, H/8, W/8).

        grey: (B, 1, H, W), each frame with mean 0 and variance 1; H and W are multiples of 32.
        """
        eighth = self.block3(self.block2(self.block1(grey) + self.skip1(grey)))
        sixteenth = self.block4(eighth)
        coarser = (sixteenth, self.block5(sixteenth))
        size = eighth.shape[-2:]
        pyramid = eighth + sum(F.interpolate(maps, size, mode="bilinear", align_corners=False) for maps in coarser)
        found: Tensor = self.descriptors(self.block_fusion(pyramid))
        return found
