"""Which clips are worth measuring on: those in which enough points move, and enough can be seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Tracks
from vcorr.data.clip_table import OK, REJECTED, ClipRow
from vcorr.metrics.pairs import scored_pairs


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Thresholds, shares in [0, 1]; 0 keeps everything.

    min_moving: of the points that can be seen in the frame of their query, at least so many must be seen more than one
    token stride from there in some other frame. min_visible: of all points in all frames at least so many must be
    visible.
    """

    min_moving: float = 0.05
    min_visible: float = 0.25

    def __post_init__(self) -> None:
        for name in ("min_moving", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} must be a share in [0, 1], got {getattr(self, name)}.")


def judge(row: ClipRow, grid: TokenGrid, filters: Filters) -> ClipRow:
    """The row with the shares that the filters look at, and what they decide.

    Args:
        row: a clip that has tracks.
        grid: how the model's tokens lie over it; gives the stride.
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
    """Of the points visible in the frame of their query the share that is seen more than one stride from there in
    another frame; 0 without any.
    """
    asked_in = tracks.asked_in
    seen = int(tracks.visible[np.arange(len(asked_in)), asked_in].sum())
    moving = scored_pairs(tracks.xy, tracks.visible, grid, query_frame=asked_in, moving=True).any(axis=1)
    return int(moving.sum()) / seen if seen else 0.0


def visible_share(tracks: Tracks) -> float:
    """The share of points in all frames that can be seen."""
    return float(np.mean(tracks.visible)) if tracks.visible.size else 0.0
