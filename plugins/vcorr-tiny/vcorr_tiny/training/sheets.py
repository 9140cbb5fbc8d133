"""Draws picture sheets of data, reconstructions and samples, and writes titles above stored strips of frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from vcorr import StoreError

MARGIN, LINE = 2, 14
"""Pixels between pictures, and height of a line of text in pixels."""


def sheet(path: Path, videos: Sequence[Tensor], titles: Sequence[str], columns: int = 6, across: int = 1) -> None:
    """Saves ``columns`` evenly spaced frames of every video under its title; ``across`` videos share a line.

    videos: each uint8 (T, H, W, 3), all of one size.
    """
    height, width = videos[0].shape[1:3]
    strip = columns * (width + MARGIN) + 4 * MARGIN
    lines = -(-len(videos) // across)
    page = Image.new("RGB", (across * strip, lines * (height + LINE + MARGIN)), "white")
    draw = ImageDraw.Draw(page)
    for number, (video, title) in enumerate(zip(videos, titles, strict=True)):
        left, top = number % across * strip, number // across * (height + LINE + MARGIN)
        draw.text((left + 1, top), title[: strip // 5], fill="black")
        chosen = torch.linspace(0, len(video) - 1, columns).round().long()
        for column, frame in enumerate(video[chosen]):
            page.paste(Image.fromarray(frame.numpy()), (left + column * (width + MARGIN), top + LINE))
    _save(page, path)


def title_strips(picture: Path, titles: Sequence[str], path: Path) -> None:
    """Saves a picture of strips, which lie below each other with white between them, each under its title.

    Raises:
        StoreError: there are more or fewer strips than titles.
    """
    strips = _split(np.asarray(Image.open(picture).convert("RGB")))
    if len(strips) != len(titles):
        raise StoreError(
            f"{picture} shows {len(strips)} strips, and the study has {len(titles)}.", hint="Measure the study again."
        )
    heights = [len(strip) + LINE + MARGIN for strip in strips]
    page = Image.new("RGB", (strips[0].shape[1], sum(heights)), "white")
    draw = ImageDraw.Draw(page)
    for strip, title, bottom in zip(strips, titles, np.cumsum(heights).tolist(), strict=True):
        top = bottom - len(strip) - MARGIN
        draw.text((1, top - LINE), title, fill="black")
        page.paste(Image.fromarray(strip), (0, top))
    _save(page, path)


def _split(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Returns the strips of a picture (H, W, 3), from the top."""
    drawn = np.flatnonzero((pixels != 255).any(axis=(1, 2)))
    ends = np.flatnonzero(np.diff(drawn) > MARGIN) + 1  # a white line within a frame is no gap
    return [pixels[lines[0] : lines[-1] + 1] for lines in np.split(drawn, ends) if len(lines)]


def _save(page: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # 256 colours, moved to the means of what they stand for: else rare strong colours turn dull. They come from a
    # sixteenth of the pixels, because of all it takes a minute. Dithering, because plain quantisation draws contours
    # that look like a fault of the model.
    sample = page.resize((max(page.width // 4, 1), max(page.height // 4, 1)), Image.Resampling.NEAREST)
    palette = sample.quantize(256, kmeans=3)
    page.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
