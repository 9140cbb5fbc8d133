"""What happens to a clip on its way into a model, in words."""

from __future__ import annotations

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip


def fit_notes(clip: Clip, grid: TokenGrid) -> tuple[str, ...]:
    """How the runner resizes and cuts the clip to the size of the grid, one sentence; empty when it does not.

    Datasets that read files tell with `notes(clip_id)` what was done before that.
    """
    if clip.video is None:
        return ()
    frames, height, width = clip.video.shape[:3]
    rows, columns = round(grid.height), round(grid.width)
    done: list[str] = []
    if frames > grid.video_frames:
        done.append(f"cut to the first {grid.video_frames} of {frames} frames")
    if (rows, columns) != (height, width):
        done.append(
            f"resized from {width}x{height} to {columns}x{rows} pixels{_stretch(columns / width, rows / height)}"
        )
    return (f"{clip.id}: {' and '.join(done)}.",) if done else ()


def _stretch(x: float, y: float) -> str:
    """What resizing does to the shape of things."""
    ratio = x / y
    return "" if abs(ratio - 1) < 0.01 else f", which makes everything {ratio:.2f} times as wide for its height"
