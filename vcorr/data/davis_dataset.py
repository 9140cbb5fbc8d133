"""The dataset `davis17`: a DAVIS-2017 folder at 480p, with the masks of its objects (arXiv 1704.00675).

The folder holds `ImageSets/2017/<split>.txt`, `JPEGImages/480p/<clip>/00000.jpg` and on, and
`Annotations/480p/<clip>/00000.png` and on, as its authors release it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import DatasetBase
from vcorr.contract.errors import MissingError, UsageError, unknown_name
from vcorr.contract.records import Clip
from vcorr.contract.text_files import expand_home
from vcorr.data.dataset_options import DavisConfig
from vcorr.data.image_reader import read_image
from vcorr.data.mask_files import read_mask
from vcorr.data.query_grids import query_grid

FPS = 24.0
"""Frames per second of the videos."""
_ROOT_HINT = "Give the folder that holds JPEGImages, Annotations and ImageSets: --data davis17:PATH"


class Davis17(DatasetBase):
    """Clips of DAVIS-2017 with the masks of their objects, and query points on a regular grid over the first frame.

    Raises:
        MissingError: the folder, or the list of its clips, does not exist.
        UsageError: no folder was named, or its list is empty.
    """

    def __init__(self, config: DavisConfig) -> None:
        if not config.path:
            raise UsageError("No DAVIS folder was named.", hint=_ROOT_HINT)
        self.config = config
        self.split = config.split
        self._root = expand_home(config.path)
        self._ids = self._read_list()

    def ids(self) -> Sequence[str]:
        """Returns the names of the clips, in the order of the split's list."""
        return self._ids

    def clip(self, clip_id: str) -> Clip:
        """Reads the frames of a clip.

        Raises:
            UsageError: there is no such clip, or a frame is missing, damaged or of another size.
        """
        frames = [self._read(read_image, path) for path in self._frames(clip_id)]
        for path, frame in zip(self._frames(clip_id), frames, strict=True):
            _check_size(path, frame, frames[0])
        height, width = frames[0].shape[:2]
        return Clip(clip_id, "", query_grid(self.config.grid, height, width), np.stack(frames), fps=FPS)

    def masks(self, clip_id: str) -> NDArray[np.uint8]:
        """Returns the labels of all frames, (T, H, W): 0 the background, 255 pixels that do not count.

        Raises:
            UsageError: there is no such clip, or the mask of a frame is missing, damaged or of another size.
        """
        paths = [self._annotations / clip_id / f"{path.stem}.png" for path in self._frames(clip_id)]
        masks = [self._read(lambda path: read_mask(path).labels, path) for path in paths]
        for path, mask in zip(paths, masks, strict=True):
            _check_size(path, mask, masks[0])
        return np.stack(masks)

    @property
    def _annotations(self) -> Path:
        return self._root / "Annotations" / "480p"

    @property
    def _images(self) -> Path:
        return self._root / "JPEGImages" / "480p"

    def _read_list(self) -> tuple[str, ...]:
        if not self._root.is_dir():
            raise MissingError(f"There is no folder {self.config.path}.", hint=_ROOT_HINT)
        path = self._root / "ImageSets" / "2017" / f"{self.split}.txt"
        try:
            names = tuple(path.read_text(encoding="utf-8").split())
        except FileNotFoundError as error:
            raise MissingError(f"{path}, the list of the clips, does not exist.", hint=_ROOT_HINT) from error
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}, the list of the clips, cannot be read.", hint=_ROOT_HINT) from error
        if not names:
            raise UsageError(f"{path}, the list of the clips, is empty.", hint="Get that file again.")
        return names

    def _frames(self, clip_id: str) -> list[Path]:
        """Returns the files of the frames, which count up from 00000.jpg."""
        if clip_id not in self._ids:
            raise unknown_name("clip", clip_id, self._ids)
        folder = self._images / clip_id
        found = sorted(folder.glob("*.jpg"))
        if not found:
            raise UsageError(f"{folder} holds no frames.", hint="Get DAVIS-2017 at 480p again.")
        for number, path in enumerate(found):
            if path.name != f"{number:05d}.jpg":
                raise UsageError(f"{folder} has no frame {number:05d}.jpg.", hint="Get that clip again.")
        return found

    def _read(self, reader: Callable[[Path], NDArray[np.uint8]], path: Path) -> NDArray[np.uint8]:
        """Reads a file of a clip; one that is missing is a failure of its clip, not of the whole dataset."""
        try:
            array: NDArray[np.uint8] = reader(path)
        except MissingError as error:
            raise UsageError(error.message, hint="Get that clip again.") from error
        return array


def _check_size(path: Path, array: NDArray[np.uint8], first: NDArray[np.uint8]) -> None:
    if array.shape[:2] != first.shape[:2]:
        (height, width), (rows, cols) = array.shape[:2], first.shape[:2]
        raise UsageError(
            f"{path} has {width}x{height} pixels, the first frame of its clip {cols}x{rows}.",
            hint="All frames and masks of a clip have one size.",
        )
