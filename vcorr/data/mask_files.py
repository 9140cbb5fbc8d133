"""Reads and writes masks: one label per pixel, as palette or grey PNG. Label 0 is the background.

Grey masks have the grey values as labels. A file that is written has the palette of the mask that was read. A mask
without a palette gets the usual one, in which neighbouring labels have very different colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.data.image_reader import open_image
from vcorr.data.video_names import show_name
from vcorr.store.atomic_files import atomic_file

if TYPE_CHECKING:
    from PIL import Image

MOST_LABELS = 64
"""Labels of a mask, the background included. More of them mean that the file is a picture, or has soft edges."""

_TO_LABELS = "Save it as a palette or grey PNG of 8 bits, with one value per object and 0 for the background."


@dataclass(frozen=True, eq=False)
class Mask:
    """The labels of a frame. labels: (H, W) uint8. palette: (256, 3) uint8 RGB, the colour of each label."""

    labels: NDArray[np.uint8]
    palette: NDArray[np.uint8]


def usual_palette() -> NDArray[np.uint8]:
    """Returns the palette of PASCAL VOC and DAVIS, (256, 3) uint8: bit b of a label's channels comes last first."""
    label = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((label >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def read_mask(path: Path, size: tuple[int, int] | None = None) -> Mask:
    """Reads a mask from a PNG. size: (height, width) that it must have; None for any.

    A colour PNG whose three channels are equal counts as grey.

    Raises:
        MissingError: there is no such file.
        UsageError: it is no PNG or damaged, has another size, an alpha channel, 16 bits, colours without a palette, or
            more than `MOST_LABELS` labels.
    """
    name = show_name(path)
    with open_image(path, ("PNG",)) as image:
        mask = _to_mask(image, name)
    height, width = mask.labels.shape
    if size is not None and (height, width) != size:
        raise UsageError(
            f"The mask {name} has {width}x{height} pixels, its video {size[1]}x{size[0]}.",
            hint="A mask belongs to a frame of the video at its own size.",
        )
    labels = len(np.unique(mask.labels))
    if labels > MOST_LABELS:
        raise UsageError(
            f"The mask {name} has {labels} different values; a mask has at most {MOST_LABELS}.",
            hint=f"It may be a picture, or have soft edges. {_TO_LABELS}",
        )
    return mask


def write_mask(path: Path, mask: Mask) -> None:
    """Writes a mask as palette PNG, so that `read_mask` returns the same; atomic.

    Raises:
        StoreError: the file cannot be written.
    """
    from PIL import Image

    height, width = mask.labels.shape
    image = Image.frombytes("P", (width, height), mask.labels.tobytes())
    image.putpalette(mask.palette.tobytes())
    with atomic_file(path) as temporary:
        image.save(temporary, format="PNG")


def _to_mask(image: Image.Image, name: str) -> Mask:
    mode = image.mode
    if mode in {"RGBA", "LA", "PA"}:
        raise UsageError(f"The mask {name} has an alpha channel; a mask has one label per pixel.", hint=_TO_LABELS)
    if mode.startswith("I") or mode == "F":
        raise UsageError(f"The mask {name} has 16 or more bits per pixel; masks have 8.", hint=_TO_LABELS)
    if mode == "P":
        return Mask(np.asarray(image), _palette_of(image))
    values = np.asarray(image.convert("RGB") if mode not in {"1", "L"} else image)
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise UsageError(f"The mask {name} is a picture in colour, without a palette.", hint=_TO_LABELS)
        values = values[..., 0]
    return Mask(np.ascontiguousarray(values, dtype=np.uint8), usual_palette())


def _palette_of(image: Image.Image) -> NDArray[np.uint8]:
    """Returns the palette of an image; labels that it leaves out have the usual colours."""
    palette = usual_palette()
    own = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    palette[: len(own)] = own
    return palette
