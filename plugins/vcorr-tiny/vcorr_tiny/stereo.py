"""Holds the dataset `stereo`: the motorcycle pair of the Middlebury stereo data 2014, with measured disparity.

D. Scharstein, H. Hirschmüller, Y. Kitajima, G. Krathwohl, N. Nesic, X. Wang, P. Westling: High-resolution stereo
datasets with subpixel-accurate ground truth. GCPR 2014. scikit-image has the files, at a quarter of the original size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr import Clip, DatasetBase, TokenGrid, Tracks, UsageError, fit_clip, option, query_grid
from vcorr_tiny.photos.disparity import match_points
from vcorr_tiny.photos.reading import check_pixels, data_file, read_rgb, refuse_damage

CLIP = "motorcycle"
HEIGHT, WIDTH = 500, 741
FILES = {
    "motorcycle_left.png": "6a51b16e82babbafbffdff644108b2085a8ee609f08cfdc0d60bff950e42b6fc",
    "motorcycle_right.png": "2d3f65989e244a9e92bbc2209fcd7b8337d4ead9ed45a4b4f03d1652cf6ed600",
    "motorcycle_disp.npz": "c3477a97c54821916772638138c36c00f4ff71e8d076d63cc40405369e63bc41",
}
"""Hash of the pixels, or of the disparities, of each file."""


@dataclass(frozen=True, kw_only=True)
class StereoConfig:
    """Options of `stereo`."""

    grid: int = option(
        20,
        "Points along one side of the regular grid in the left picture; points of unknown disparity are left out.",
        unit="points",
        least=1,
        most=250,
    )
    height: int = option(HEIGHT, "Height to which the pair is resized.", unit="pixels", least=32, most=4096)
    width: int = option(WIDTH, "Width to which the pair is resized.", unit="pixels", least=32, most=4096)


class Stereo(DatasetBase):
    """One clip of two frames: the left picture and the right picture, with the measured displacement of every query.

    Raises:
        UsageError: an option is out of range.
    """

    split = "test"

    def __init__(self, config: StereoConfig) -> None:
        for name, least, most in (("grid", 1, 250), ("height", 32, 4096), ("width", 32, 4096)):
            if not least <= getattr(config, name) <= most:
                raise UsageError(f"data.{name} must be from {least} to {most}, got {getattr(config, name)}.")
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Returns the hashes of the pictures and of the disparity map."""
        return {"pictures": dict(FILES)}

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Reads the files of the pair.

        Raises:
            MissingError: scikit-image is not installed, or a file is missing or is not the listed one.
        """
        for file in FILES:
            _read(file)

    def ids(self) -> Sequence[str]:
        """Returns the id of the only clip."""
        return (CLIP,)

    def clip(self, clip_id: str) -> Clip:
        """Reads the pair.

        Raises:
            UsageError: there is no such clip.
            MissingError: scikit-image is not installed, or a file is missing or is not the listed one.
        """
        if clip_id != CLIP:
            raise UsageError(f"stereo has no clip {clip_id!r}.", hint=f"Its only clip is {CLIP}.")
        left, right, disparity = (_read(file) for file in FILES)
        matches = match_points(disparity, query_grid(self.config.grid, HEIGHT, WIDTH))
        clip = Clip(
            id=CLIP,
            prompt="a red motorcycle in a garage",
            queries=matches.left,
            video=np.stack([left, right]),
            tracks=Tracks(
                np.stack([matches.left, matches.right], 1),
                np.stack([np.ones_like(matches.visible), matches.visible], 1),
                tracker="",  # neither known by construction nor made by a tracker: structured light measured it
            ),
            fps=0,
        )
        return fit_clip(clip, TokenGrid(frames=2, rows=self.config.height, cols=self.config.width, stride=(1, 1)))


def _read(file: str) -> NDArray[Any]:
    """Reads a picture as RGB, (H, W, 3) uint8, or the disparity map, (H, W) float32 pixels."""
    if not file.endswith(".npz"):
        return read_rgb(file, FILES[file])
    path = data_file(file)
    with refuse_damage(path), path.open("rb") as opened, np.load(opened) as arrays:
        disparity = np.ascontiguousarray(arrays["arr_0"], dtype=np.float32)
    check_pixels(disparity, FILES[file], path)
    return disparity
