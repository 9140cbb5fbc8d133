"""Reads image files: a few formats, upright, and only if the size that they declare is reasonable."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.video_names import show_name

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""Formats that are opened. Pillow knows others, such as EPS, which runs a program to draw it."""

MOST_PIXELS = 1 << 26
"""Pixels of the largest image that is read (8192 x 8192). A file of a few bytes can declare any size."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Reads an image file as (H, W, 3) uint8 RGB, upright as its EXIF orientation says.

    Raises:
        MissingError: there is no such file.
        UsageError: it cannot be read as an image, or declares too many pixels.
    """
    from PIL import ImageOps

    with open_image(path) as image:
        return _to_rgb(ImageOps.exif_transpose(image), show_name(path))


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Reads the content of an image file as (H, W, 3) uint8 RGB; `name` is what errors call it.

    Raises:
        UsageError: it cannot be read as an image, or declares too many pixels.
    """
    from PIL import ImageOps

    with _open(io.BytesIO(data), name, FORMATS) as image:
        return _to_rgb(ImageOps.exif_transpose(image), name)


@contextmanager
def open_image(path: Path, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Opens an image file of one of `formats`; also turns what reading its pixels raises in the block into an error.

    Raises:
        MissingError: there is no such file.
        UsageError: it cannot be read as an image, or declares too many pixels.
    """
    name = show_name(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UsageError(f"{name} cannot be read as an image: it is no ordinary file.", hint="Give the path of a file.")
    with _open(path, name, formats) as image:
        yield image


@contextmanager
def _open(source: Path | io.BytesIO, name: str, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow's own limits are compared with sizes too; ours is lower, and is no warning
            warnings.simplefilter("ignore")
            with Image.open(source, formats=formats) as image:
                _check(image.size, getattr(image, "n_frames", 1), name)
                yield image
    except FileNotFoundError as error:
        raise MissingError(f"The image {name} does not exist.") from error
    except UnidentifiedImageError as error:
        known = f"none of these: {', '.join(formats)}" if len(formats) > 1 else f"no {formats[0]}"
        raise UsageError(f"{name} cannot be read as an image: it is {known}.", hint="Save it as PNG.") from error
    except UsageError:
        raise
    except Image.DecompressionBombError as error:
        raise _size_error(name, "far too many") from error
    except MemoryError as error:
        raise UsageError(f"{name} cannot be read as an image: there is not enough memory.") from error
    except Exception as error:
        # readers of formats raise whatever a damaged file leads them to
        raise UsageError(f"{name} cannot be read as an image: {str(error).rstrip('.')}.") from error


def _check(size: tuple[int, int], pictures: int, name: str) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise _size_error(name, f"{width}x{height}")
    if pictures > 1:
        raise UsageError(f"{name} holds {pictures} pictures, and one is needed.", hint="Save one of them as PNG.")


def _size_error(name: str, declared: str) -> UsageError:
    return UsageError(
        f"{name} declares {declared} pixels; images of at most {MOST_PIXELS / 1e6:.0f} million are read.",
        hint="Make it smaller.",
    )


def _to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Returns 8 bits per colour. Pillow would make every grey value above 255 white."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in {"I", "F"}:
        raise UsageError(f"{name} has 32 bits per pixel; images of 8 or 16 are read.", hint="Save it as PNG of 8 bits.")
    return np.asarray(image.convert("RGB"))
