"""Draws masks over a video, and frames side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.data.video.browser_videos import enlarge, enlargement, pad_to_even
from vcorr.data.video.drawing_canvas import BLACK, PAPER, WHITE, Canvas

OPACITY = 0.45
"""Share of the label's colour inside a mask; its outline has the colour alone, between a white and a black line."""
SHEET_SIDE = 320
"""Longer side, in pixels, of a frame on a contact sheet."""
_TEXT = 22
"""Height of the line below a frame, in pixels."""


def draw_masks(
    video: NDArray[np.uint8], labels: NDArray[Any], palette: NDArray[np.uint8]
) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of a video (T, H, W, 3) uint8 with its masks in their colours, with even height and width.

    Small videos are enlarged as in `draw_overlay`.

    Args:
        video: the video.
        labels: (T, H, W); 0 is not drawn.
        palette: (256, 3) uint8 RGB, the colour of each label.

    Raises:
        UsageError: the masks have another size than the video.
    """
    if labels.shape != video.shape[:3]:
        raise UsageError(f"Masks of shape {labels.shape} do not fit a video of {video.shape[:3]}.")
    factor = enlargement(*video.shape[1:3])
    thick = max(3, 2 * round(factor * math.hypot(*video.shape[1:3]) / 640) + 1)
    return (
        _draw_frame(enlarge(frame, factor), enlarge(mask.astype(np.uint8), factor), palette, thick)
        for frame, mask in zip(video, labels, strict=True)
    )


def _draw_frame(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8], palette: NDArray[np.uint8], thick: int
) -> NDArray[np.uint8]:
    colours = palette[mask]
    mixed = (1 - OPACITY) * picture + OPACITY * colours
    drawn = np.where(mask[..., None] > 0, mixed.round().astype(np.uint8), picture)
    # any colour of a palette may be the colour behind it, but not black and white at once
    drawn[_find_edge(mask, 3 * thick - 2)] = WHITE
    edge = _find_edge(mask, 2 * thick - 1)
    drawn[edge] = colours[edge]
    drawn[_find_edge(mask, thick)] = BLACK
    return pad_to_even(drawn)


def _find_edge(mask: NDArray[np.uint8], size: int) -> NDArray[np.bool_]:
    """Returns the pixels of a mask near another label or the background: within a square of `size` pixels (odd)."""
    inner = cv2.erode(mask, np.ones((size, size), np.uint8))  # the least label near a pixel
    outer = cv2.dilate(mask, np.ones((size, size), np.uint8))
    return np.asarray((mask > 0) & ((inner != mask) | (outer != mask)))


def draw_sheet(frames: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int = 3) -> NDArray[np.uint8]:
    """Returns frames of one size (H, W, 3) uint8 side by side, each with a caption below it, (H', W', 3) uint8."""
    cells = [_draw_cell(frame, text) for frame, text in zip(frames, captions, strict=True)]
    columns = min(columns, len(cells))
    empty = np.full_like(cells[0], PAPER)
    cells += [empty] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)])


def _draw_cell(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    scale = SHEET_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    picture = np.asarray(cv2.resize(frame, size, interpolation=method), dtype=np.uint8)
    below = np.full((_TEXT, size[0], 3), PAPER, dtype=np.uint8)
    Canvas(below).text(text, 6, _TEXT - 7)
    return np.vstack([picture, below])
