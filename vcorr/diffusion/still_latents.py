"""Encodes frames one by one and keeps their latents, because the chunks of a tracker share frames.

Shape legend: T frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.diffusion.kept_inputs import content_of

KEPT = 256
"""Number of frames whose latents are kept: 88 MB of CogVideoX's 16 x 60 x 90 latents in float32."""


class StillLatents:
    """Latents of single frames, by the frame's content and the autoencoder's state; those used last are kept.

    Attributes:
        encoded: number of frames encoded so far; a frame that was kept does not count.
    """

    def __init__(self) -> None:
        self.encoded = 0
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def encode(
        self, video: NDArray[np.uint8], encode: Callable[[NDArray[np.uint8]], Tensor], state: Hashable = None
    ) -> Tensor:
        """Returns the latents of all frames one after the other, (1, C, F, h, w).

        Each frame goes through the autoencoder alone, so its latents are the same to the bit in every clip.

        Args:
            video: (T, H, W, 3) uint8 RGB.
            encode: encodes one frame, (1, H, W, 3), into (1, C, F', h, w), with F' the latents of a token in time.
            state: what changes with the autoencoder.
        """
        frames = [video[index : index + 1] for index in range(len(video))]
        return torch.cat([self._latents(frame, encode, state) for frame in frames], dim=2)

    def _latents(
        self, frame: NDArray[np.uint8], encode: Callable[[NDArray[np.uint8]], Tensor], state: Hashable
    ) -> Tensor:
        key = content_of(frame), state
        found = self._kept.pop(key, None)
        if found is None:
            found = encode(frame)
            self.encoded += 1
        self._kept[key] = found  # the last one in the order is the one used last
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found
