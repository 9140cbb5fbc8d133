"""The words in rows of predictions and scores, and the order of values in an attention summary."""

from __future__ import annotations

POSITIONS, ROWS, VIDEO_KIND = "positions", "rows", "video"
"""Kinds of predictions: positions of the points, attention summaries, and a generated video."""

ROW_FIELDS = ("peak_self", "peak_text", "sum_cross", "sum_self", "sum_text")
"""Values of an attention summary after the peaks in later latents (`vcorr.RowsPrediction`)."""

STATUS_OK = "ok"
STATUS_FAILED = "failed"
STATUS_NOT_SCORED = "not_scored"
