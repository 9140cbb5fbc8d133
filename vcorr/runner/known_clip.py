"""Keeps what a plan reads of the first clip, so that a command that is repeated need not read the clip itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vcorr.contract.records import Clip, Queries, Tracks

FIRST_CLIP = "first_clip"
"""Key of `run.json`."""


def describe_clip(clip: Clip | None) -> dict[str, Any] | None:
    """Returns what a plan reads of a clip, as plain values; None without a clip.

    size: frames, height and width of the video. last_query: the latest frame with a query; None without queries.
    """
    if clip is None:
        return None
    return {
        "id": clip.id,
        "prompt": clip.prompt,
        "fps": float(clip.fps),
        "stills": clip.stills,
        "size": None if clip.video is None else [int(length) for length in clip.video.shape[:3]],
        "last_query": int(clip.queries.t.max()) if len(clip.queries) else None,
        "tracks": None if clip.tracks is None else {"tracker": clip.tracks.tracker, "version": clip.tracks.version},
    }


def outline_clip(facts: Mapping[str, Any]) -> Clip:
    """Returns a clip with these facts. Its video is black and takes no memory; it has at most one query point.

    Raises:
        UsageError, KeyError, ValueError: no clip has such facts.
    """
    late = facts["last_query"]
    queries = Queries.at(np.zeros((0 if late is None else 1, 2), np.float32), late or 0)
    size = facts["size"]
    video = None if size is None else np.broadcast_to(np.uint8(0), (*size, 3))
    return Clip(
        id=facts["id"],
        prompt=facts["prompt"],
        queries=queries,
        video=video,
        tracks=_outline_tracks(facts["tracks"], queries, 0 if video is None else len(video)),
        fps=facts["fps"],
        stills=facts["stills"],
    )


def _outline_tracks(facts: Mapping[str, Any] | None, queries: Queries, frames: int) -> Tracks | None:
    """Returns tracks that stand still, with the tracker of the facts; None without facts."""
    if facts is None:
        return None
    points = len(queries)
    xy, visible = np.zeros((points, frames, 2), np.float32), np.ones((points, frames), bool)
    return Tracks(xy, visible, facts["tracker"], facts["version"], query_frame=queries.t)
