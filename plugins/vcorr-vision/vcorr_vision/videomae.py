"""Adapts VideoMAE, a self-supervised video backbone with positions for one size and one number of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vcorr import Clip, UsageError, option
from vcorr.diffusion import check_size
from vcorr_vision.backbone import VideoBackbone, VideoConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VideoMAEConfig(VideoConfig):
    """Options of `videomae-b`, in addition to the options of every video backbone.

    height, width and frames are sizes of the network.
    """

    height: int = 224
    width: int = 224
    frames: int = 16
    intermediate_size: int = option(3072, "Size of the network: width of the feed-forward layers.", least=1)


class VideoMAE(VideoBackbone[VideoMAEConfig]):
    """VideoMAE ViT-B/16: reads exactly `frames` frames, the first ones of a longer clip.

    It does not read a clip in chunks, because only the first chunk would have tokens of frame 0 for the queries.
    """

    card: ClassVar[str] = "vcorr_vision:cards/videomae-b.yaml"
    model_type: ClassVar[str] = "videomae"
    network_class: ClassVar[str] = "VideoMAEModel"
    attention: ClassVar[str] = "encoder.layer.{}.attention.attention"
    block: ClassVar[str] = "encoder.layer.{}"

    def frames_of(self, video: NDArray[np.uint8], clip: Clip, title: str) -> int:
        """Returns `frames`, the only possible number.

        Raises:
            UsageError: the clip has fewer frames.
        """
        frames = self.config.frames
        check_size("frames", frames, self.frame_sizes(), title)
        if len(video) < frames:
            raise UsageError(
                f"Clip {clip.id} has {len(video)} frames; {title} reads {frames}, for which it has positions.",
                hint="Choose data with longer clips.",
            )
        return frames

    def count_stills(self, video: NDArray[np.uint8], title: str) -> int:
        """Returns the only possible number of stills, one per token in time; raises UsageError for another one."""
        stills = self.config.frames // self.tubelet
        if len(video) != stills:
            raise UsageError(
                f"{len(video)} frames to read one by one; {title} reads {stills}, for which it has positions."
            )
        return stills

    def network_options(self) -> Mapping[str, Any]:
        """Returns the sizes of the network and of the video."""
        config = self.config
        return {
            **super().network_options(),
            "image_size": [config.height, config.width],
            "num_frames": config.frames,
            "tubelet_size": config.tubelet_size,
            "intermediate_size": config.intermediate_size,
        }

    def network_sizes(self) -> Mapping[str, Any]:
        """Returns the sizes of the loaded network and of its video."""
        found = self.network.config
        size = found.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return {**super().network_sizes(), "height": height, "width": width, "frames": found.num_frames}

    def inputs(self, pixels: Tensor) -> Mapping[str, Any]:
        """Returns the frames as one video."""
        return {"pixel_values": pixels[None]}
