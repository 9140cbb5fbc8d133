"""The two ways in which TAP-Vid asks for its tracks (arXiv 2211.03726): `first` and `strided`.

Arrays: N tracks, M queries, T video frames; positions are (x, y) raster pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks

TapMode = Literal["first", "strided"]
STRIDE = 5
"""Frames from one query of a track to the next in mode `strided`."""


@dataclass(frozen=True, eq=False)
class AskedTracks:
    """Queries, and the reference for each of them.

    queries: M points. tracks: their M tracks; in its own frame, a track has the position of its query. track: (M,)
    index of the track that each query belongs to.
    """

    queries: Queries
    tracks: Tracks
    track: NDArray[np.int64]


def choose_tap_queries(tracks: Tracks, mode: TapMode) -> AskedTracks:
    """Chooses the queries of TAP-Vid for tracks (N, T) that are known in every frame.

    Args:
        tracks: the tracks; a track that is never visible gets no query. `boundary` and `confidence` are left out.
        mode: "first": each track is asked for once, in the first frame in which it is visible. "strided": each track is
            asked for in every fifth frame, from frame 0, in which it is visible; a track comes once for each query.

    Returns:
        In mode "first" in the order of the tracks; in mode "strided" frame by frame.

    Raises:
        UsageError: there is no such mode.
    """
    if mode not in get_args(TapMode):
        raise UsageError(f"queries must be first or strided, got {mode!r}.")
    if mode == "first":
        track = np.flatnonzero(tracks.visible.any(axis=1))
        frame = tracks.visible[track].argmax(axis=1)
    else:
        step, track = np.nonzero(tracks.visible[:, ::STRIDE].T)
        frame = STRIDE * step
    queries = Queries(frame.astype(np.int32), tracks.xy[track, frame])
    kept = replace(
        tracks,
        xy=tracks.xy[track],
        visible=tracks.visible[track],
        layer=None if tracks.layer is None else tracks.layer[track],
        query_frame=queries.t,
        boundary=None,
        confidence=None,
    )
    return AskedTracks(queries, kept, track)


def move_inside(asked: AskedTracks, height: int, width: int) -> AskedTracks:
    """Returns the same with every query in the frame: one that lies outside moves to the border, with its track.

    Published positions may lie half a pixel outside, and a query has to be in the frame.
    """
    xy = asked.queries.xy.clip(0, [width, height]).astype(np.float32)
    tracks = asked.tracks.xy.copy()
    tracks[np.arange(len(xy)), asked.queries.t] = xy
    return replace(asked, queries=Queries(asked.queries.t, xy), tracks=replace(asked.tracks, xy=tracks))
