"""Converts pixels to what backbones expect. Imports torch only where it computes.

Shape legend: T frames, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each colour, for pixels in [0, 1]."""

    mean: Colour
    std: Colour

    def apply(self, video: NDArray[np.uint8], device: str, dtype: torch.dtype) -> Tensor:
        """Converts (T, H, W, 3) uint8 RGB to (T, 3, H, W) in `dtype`, normalised in float32."""
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(video)).to(device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (self.mean, self.std))
        return ((pixels - mean) / std).to(dtype).contiguous()


NOTHING = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Leaves pixels in [0, 1]."""
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""The normalisation with which most of these networks were trained."""
