"""Selects clips that are worth measuring: enough points move in them, and enough points are visible."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Tracks
from vcorr.data.clip_row import OK, REJECTED, ClipRow
from vcorr.metrics.pairs import select_pairs


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Thresholds: least shares in [0, 1]; 0 keeps everything.

    min_moving: least share of moving points, among the points visible in the frame of their query. A point moves if it
    is seen more than one token stride away from there in another frame. min_visible: least share of visible points,
    over all points and frames.
    """

    min_moving: float = 0.05
    min_visible: float = 0.25

    def __post_init__(self) -> None:
        for name in ("min_moving", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} must be a share in [0, 1], got {getattr(self, name)}.")


def judge(row: ClipRow, grid: TokenGrid, filters: Filters) -> ClipRow:
    """Returns the row with its shares of moving and visible points, and with the status that follows from them.

    Args:
        row: a clip that has tracks.
        grid: the model's token grid over the clip; gives the stride.
        filters: the thresholds.
    """
    moving, visible = moving_share(row.tracks, grid), visible_share(row.tracks)
    reasons = [
        f"{share:.3f} of the points {what}, under {least:g}"
        for share, least, what in (
            (moving, filters.min_moving, "move by more than a token"),
            (visible, filters.min_visible, "and frames can be seen"),
        )
        if share < least
    ]
    status = REJECTED if reasons else OK
    return replace(row, status=status, reason="; ".join(reasons), moving_share=moving, visible_share=visible)


def moving_share(tracks: Tracks, grid: TokenGrid) -> float:
    """Returns the share of moving points among those visible in the frame of their query; 0 if there are none.

    A point moves if it is seen more than one stride away from its query in another frame.
    """
    asked_in = tracks.asked_in
    seen = int(tracks.visible[np.arange(len(asked_in)), asked_in].sum())
    moving = select_pairs(tracks.xy, tracks.visible, grid, query_frame=asked_in, moving=True).any(axis=1)
    return int(moving.sum()) / seen if seen else 0.0


def visible_share(tracks: Tracks) -> float:
    """Returns the share of visible points, over all points and frames."""
    return float(np.mean(tracks.visible)) if tracks.visible.size else 0.0
