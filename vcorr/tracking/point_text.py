"""Reads query points from text such as 120,80@35, and checks that they lie in the video."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vcorr.contract.errors import UsageError
from vcorr.contract.part_calls import show_value
from vcorr.contract.records import Queries

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_POINT = re.compile(rf"({_NUMBER}),({_NUMBER})(?:@(\d+))?", re.ASCII)
_FORM = "A point is X,Y or X,Y@FRAME, in pixels of the video: --points 120,80 or --points 120,80@35"


def parse_points(texts: Sequence[str]) -> Queries:
    """Returns the query points of texts, each of which holds one or several points with spaces between them.

    Raises:
        UsageError: there is no point, or a text that is none.
    """
    words = [word for text in texts for word in text.split()]
    if not words:
        raise UsageError("No points to track were given.", hint=f"{_FORM}; or a regular grid: --grid 20")
    found = [_POINT.fullmatch(word) for word in words]
    for word, match in zip(words, found, strict=True):
        if match is None:
            raise UsageError(f"{show_value(word)} is no point.", hint=_FORM)
    parts = [match.groups() for match in found if match is not None]
    frames = [int(frame or 0) for _, _, frame in parts]
    if max(frames) > np.iinfo(np.int32).max:
        raise UsageError(f"A point is in frame {max(frames)}, which no video has.", hint=_FORM)
    return Queries(np.array(frames), np.array([(float(x), float(y)) for x, y, _ in parts]))


def check_points(queries: Queries, size: tuple[int, int], frames: int) -> None:
    """Checks that query points lie in a video of this (width, height) and number of frames, its border included.

    Raises:
        UsageError: there is no point, or one lies outside the frame or in no frame of the video.
    """
    if not len(queries):
        raise UsageError("No points to track were given.", hint=f"{_FORM}; or a regular grid: --grid 20")
    late = np.flatnonzero(queries.t >= frames)
    if len(late):
        raise UsageError(
            f"Point {_show(queries, late[0])} is in frame {queries.t[late[0]]}, but the video has {frames} frames.",
            hint=f"Frames count from 0; the last one is {frames - 1}.",
        )
    outside = np.flatnonzero(((queries.xy < 0) | (queries.xy > size)).any(axis=1))
    if len(outside):
        raise UsageError(
            f"Point {_show(queries, outside[0])} lies outside the frame of {size[0]}x{size[1]} pixels.",
            hint="Points are pixels (x, y) of the original upright video, from 0,0 at its upper left corner.",
        )


def _show(queries: Queries, number: int) -> str:
    x, y = queries.xy[number]
    return f"{x:g},{y:g}"
