"""Says in words how a clip is resized and cut for a model."""

from __future__ import annotations

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip


def fit_notes(clip: Clip, grid: TokenGrid, usual_frames: int = 0) -> tuple[str, ...]:
    """Returns one sentence on how the runner resizes and cuts the clip to the size of the grid; empty if it does not.

    What was done before, when a file was read, is in the dataset's `notes(clip_id)`.

    Args:
        clip: as the dataset gives it.
        grid: of the clip.
        usual_frames: the frames that the model reads of a long clip. If the clip gives fewer, the sentence says so.
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
            f"resized from {width}x{height} to {columns}x{rows} pixels{_say_stretch(columns / width, rows / height)}"
        )
    if grid.video_frames < usual_frames:
        done.append(f"read as {grid.video_frames} frames, where the model reads {usual_frames} of a longer clip")
    return (f"{clip.id}: {' and '.join(done)}.",) if done else ()


def _say_stretch(x: float, y: float) -> str:
    """Returns how resizing changes the shape of things; empty if it does not."""
    ratio = x / y
    if abs(ratio - 1) < 0.01:
        return ""
    word = "narrower" if ratio < 1 else "wider"
    return f", which makes shapes {word}: width / height is {ratio:.2f} of what it was"
