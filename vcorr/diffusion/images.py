"""Gets the image that image-to-video models start from: frame 0 of a clip's video."""

from __future__ import annotations

from typing import Any

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip


def starting_image(clip: Clip, grid: TokenGrid, title: str) -> Any:
    """Returns frame 0 of the clip's video as a PIL image.

    Args:
        clip: with the video.
        grid: of the model; the image must have its size.
        title: the model's name for messages.

    Raises:
        UsageError: the clip has no video, or its video has another size.
    """
    from PIL import Image

    size = (round(grid.height), round(grid.width))
    if clip.video is None:
        raise UsageError(
            f"Clip {clip.id} has no image, which {title} starts from.",
            hint="Choose data with video, whose first frame is the image, or a text-to-video model.",
        )
    if clip.video.shape[1:3] != size:
        height, width = clip.video.shape[1:3]
        raise UsageError(
            f"The image of clip {clip.id} is {height}x{width} pixels; the model takes {size[0]}x{size[1]}.",
            hint=f"Resize it, or ask for its size: --set model.height={height} --set model.width={width}",
        )
    return Image.fromarray(clip.video[0])
