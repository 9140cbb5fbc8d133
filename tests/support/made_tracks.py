"""Makes rows of tracking runs without a model: predictions and reference tracks of invented clips."""

from __future__ import annotations

import json

import numpy as np

from vcorr import TokenGrid
from vcorr.runner.row_words import POSITIONS
from vcorr.store import schema
from vcorr.store.columns import to_table

HEIGHT, WIDTH = 128, 256


def make_tables(clip, predicted, reference, *, query_mode="first", **changes):
    """Returns the tables of predictions and tracks of one clip.

    predicted, reference: `Tracks` in the pixels of a video of WIDTH x HEIGHT; the reference has the query frames.
    changes: other values of the prediction's columns.
    """
    points, frames = reference.visible.shape
    grid = TokenGrid(frames=frames, rows=HEIGHT // 8, cols=WIDTH // 8, stride=(8, 8), temporal_ratio=1)
    asked = reference.asked_in
    queries = reference.xy[np.arange(points), asked]
    confidence = () if predicted.confidence is None else predicted.confidence.ravel()
    given = {
        "layer": -1,
        "readout": "free",
        "visible": predicted.visible.ravel(),
        "confidence": confidence,
        "grid": json.dumps(grid.to_dict()),
        "latents": frames,
        "xy": predicted.xy.ravel(),
    }
    shared = {"clip": clip, "task": "tracking", "points": points, "query_frames": asked.astype(np.int32)}
    prediction = schema.PredictionRow(
        **shared, **{**given, **changes}, probe="made", kind=POSITIONS, attention="none", variant="corrected"
    )
    track = schema.TrackRow(
        **shared,
        tracker="exact",
        height=HEIGHT,
        width=WIDTH,
        frames=frames,
        query_mode=query_mode,
        queries=queries.ravel(),
        xy=reference.xy.ravel(),
        visible=reference.visible.ravel(),
    )
    return to_table([prediction], schema.schema("predictions")), to_table([track], schema.schema("tracks"))
