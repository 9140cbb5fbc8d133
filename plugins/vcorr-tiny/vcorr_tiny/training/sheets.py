"""Draws picture sheets of data, reconstructions and samples."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

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
    path.parent.mkdir(parents=True, exist_ok=True)
    # Dithering, because plain quantisation to 256 colours draws contours that look like a fault of the model.
    palette = page.quantize(256)
    page.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
