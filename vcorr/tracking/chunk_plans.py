"""Shares out the frames of a clip among passes of a model; every pass begins with the frame of the queries.

No torch. A chunk is a tuple of frame numbers, counted from 0, with the frame of the queries first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from vcorr.tracking.track_options import Order

Chunk: TypeAlias = tuple[int, ...]


def plan_chunks(
    frames: int, query_frame: int, size: int, order: Order, *, directions_apart: bool = False
) -> list[Chunk]:
    """Returns the chunks that together hold every frame; none for a video of one frame.

    Args:
        frames: T, number of frames of the clip.
        query_frame: the frame of the queries, which leads every chunk.
        size: most frames of a chunk, at least 2.
        order: how the other frames are shared out (`TrackOptions.order`).
        directions_apart: whether a chunk holds either later or earlier frames, the earlier ones in reverse order. A
            chunk that is encoded as a video then moves away from the query.
    """
    later, earlier = range(query_frame + 1, frames), range(query_frame)
    ways = [[*later], [*reversed(earlier)]] if directions_apart else [[*earlier, *later]]
    return [(query_frame, *part) for way in ways for part in _SHARED_OUT[order](way, size - 1)]


def _spread(others: Sequence[int], count: int) -> list[Sequence[int]]:
    """Spreads each chunk over the video: every step-th frame, from a start that moves by one.

    It is the plan of DiffTrack's published code (arXiv 2506.17220) for 13 and more frames. There, shorter videos are
    an error; here, one chunk has them all.
    """
    step = max(1, (len(others) + 1) // count)
    parts: list[Sequence[int]] = []
    left = set(others)
    for start in range(len(others)):
        if not left:
            break
        part = others[start::step][:count]
        left.difference_update(part)
        parts.append(part)
    return parts


def _slide(others: Sequence[int], count: int) -> list[Sequence[int]]:
    """Takes neighbouring frames, and moves on by half of them; the last chunk ends with the last frame."""
    last = max(0, len(others) - count)
    starts = [*range(0, last, max(1, count // 2)), last] if others else []
    return [others[start : start + count] for start in starts]


def _follow(others: Sequence[int], count: int) -> list[Sequence[int]]:
    """Takes neighbouring frames, each of them once."""
    return [others[start : start + count] for start in range(0, len(others), count)]


_SHARED_OUT: Mapping[Order, Callable[[Sequence[int], int], list[Sequence[int]]]] = {
    "interval": _spread,
    "sliding": _slide,
    "consecutive": _follow,
}
