"""The words in rows of predictions and scores, and the order of values in an attention summary."""

from __future__ import annotations

POSITIONS, ROWS, VIDEO_KIND, MASKS = "positions", "rows", "video", "masks"
"""Kinds of predictions: positions of the points, attention summaries, a generated video, and masks.

Videos and masks are in files of their own.
"""

ROW_FIELDS = ("peak_self", "peak_text", "sum_cross", "sum_self", "sum_text")
"""Values of an attention summary after the peaks in later latents (`vcorr.RowsPrediction`)."""

STATUS_OK = "ok"
STATUS_FAILED = "failed"
STATUS_NOT_SCORED = "not_scored"
