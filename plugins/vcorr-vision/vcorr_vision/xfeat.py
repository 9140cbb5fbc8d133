"""Adapts XFeat, a small convolutional network for matching pictures, trained by others and really released."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vcorr import Clip, Site, UsageError, option
from vcorr.diffusion import Sizes, check_size, seed_generators, torch_dtype
from vcorr_vision.pixel_model import Batched, FrameSize, PixelConfig, PixelModel, batches, video_of
from vcorr_vision.xfeat_weights import locate, read_tensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STRIDE = 8
"""Pixels between two descriptors."""
SIDES = Sizes(32, 32)
"""Heights and widths that the network takes: its coarsest scale has stride 32."""


@dataclass(frozen=True, kw_only=True)
class XFeatConfig(Batched, PixelConfig):
    """Options of `xfeat`."""

    height: int | None = option(
        None,
        "Height to which clips are resized, a multiple of 32; null for the largest one that is at most the clip's.",
        unit="pixels",
        least=32,
    )
    width: int | None = option(
        None,
        "Width to which clips are resized, a multiple of 32; null for the largest one that is at most the clip's.",
        unit="pixels",
        least=32,
    )


class XFeat(PixelModel[XFeatConfig]):
    """XFeat: descriptors of length 1 with 64 channels at stride 8. It has no attention."""

    card: ClassVar[str] = "vcorr_vision:cards/xfeat.yaml"

    def sites(self) -> Sequence[Site]:
        """Returns the only place: the descriptors, which are a hidden state."""
        return (Site(0, "descriptors", attention="none", block="descriptors", block_axes="fchw"),)

    def frame_size(self, clip: Clip) -> FrameSize:
        """Returns height and width: the options, or the clip's own, rounded down to multiples of 32.

        Raises:
            UsageError: an option is no multiple of 32, or the clip is smaller than 32 pixels.
        """
        title = self.model_card().title
        _, height, width = video_of(clip, title).shape[:3]
        sides = {"height": height, "width": width}
        found = [self._side(name, own, clip, title) for name, own in sides.items()]
        return FrameSize(found[0], found[1], (STRIDE, STRIDE))

    def _side(self, name: str, own: int, clip: Clip, title: str) -> int:
        asked: int | None = getattr(self.config, name)
        if asked is not None:
            check_size(name, asked, SIDES, title)
            return asked
        fitting = SIDES.fitting(own)
        if fitting is None:
            raise UsageError(
                f"Clip {clip.id} has a {name} of {own} pixels; {title} reads at least {SIDES.first}.",
                hint=f"To enlarge it: --set model.{name}={SIDES.first}",
            )
        return fitting

    def weights_id(self, weights: str) -> str:
        """Returns the identity of the weights, without loading them; raises as `locate`."""
        return locate(weights).identity

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the network; raises as `locate` and `read_tensors`."""
        from vcorr_vision.xfeat_network import XFeatNetwork

        source = locate(weights)
        with seed_generators(source.seed):
            network = XFeatNetwork()
        if source.file is not None:
            network.load_state_dict(read_tensors(source, network.state_dict()))
        self._network = network.to(device, torch_dtype(dtype)).eval()
        self.device = device

    def pixels(self, frames: NDArray[np.uint8], dtype: torch.dtype) -> Tensor:
        """Returns grey frames (T, 1, H, W), each brought to mean 0 and variance 1, from (T, H, W, 3)."""
        import torch

        colours = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2)
        grey = (colours.float() / 255).mean(dim=1, keepdim=True)
        return torch.nn.functional.instance_norm(grey).to(dtype)

    def inputs(self, pixels: Tensor) -> Mapping[str, Any]:
        """Returns the frames as batch rows."""
        return {"grey": pixels}

    def passes(self, video: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
        """Returns the frames of each pass; raises as `batches`."""
        return batches(video, self.config.batch)
