"""VideoMAE: self-supervised video backbone that knows the positions of one size and one number of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vcorr import Clip, UsageError
from vcorr.diffusion.size_checks import check_size
from vcorr_vision.backbone import VideoBackbone, VideoConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VideoMAEConfig(VideoConfig):
    """Options of `videomae-b`; see also those of every video backbone.

    intermediate_size: width of the layers between attention. height, width and frames are sizes of the network.
    """

    height: int = 224
    width: int = 224
    frames: int = 16
    intermediate_size: int = 3072


class VideoMAE(VideoBackbone[VideoMAEConfig]):
    """VideoMAE ViT-B/16: exactly `frames` frames; of longer clips the first ones.

    A clip is not read in chunks: all but the first would have no token of frame 0 to match from.
    """

    card: ClassVar[str] = "vcorr_vision:cards/videomae-b.yaml"
    model_type: ClassVar[str] = "videomae"
    network_class: ClassVar[str] = "VideoMAEModel"
    attention: ClassVar[str] = "encoder.layer.{}.attention.attention"
    block: ClassVar[str] = "encoder.layer.{}"

    def frames_of(self, video: NDArray[np.uint8], clip: Clip, title: str) -> int:
        """`frames`, and no other number.

        Raises:
            UsageError: the clip has fewer.
        """
        frames = self.config.frames
        check_size("frames", frames, self.frame_sizes(), title)
        if len(video) < frames:
            raise UsageError(
                f"Clip {clip.id} has {len(video)} frames; {title} reads {frames}, the ones it has positions for.",
                hint="Choose data with longer clips.",
            )
        return frames

    def network_options(self) -> Mapping[str, Any]:
        """The sizes, those of the video among them."""
        config = self.config
        return {
            **super().network_options(),
            "image_size": [config.height, config.width],
            "num_frames": config.frames,
            "tubelet_size": config.tubelet_size,
            "intermediate_size": config.intermediate_size,
        }

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes, those of the video among them."""
        found = self.network.config
        size = found.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return {**super().loaded_sizes(), "height": height, "width": width, "frames": found.num_frames}

    def inputs(self, pixels: Tensor) -> Mapping[str, Any]:
        """One video."""
        return {"pixel_values": pixels[None]}
