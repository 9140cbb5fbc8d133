"""Point trackers without weights, which make reference tracks for videos with unknown motion.

A dataset's own tracks have the tracker name `EXACT`: it is no algorithm, and a run uses these tracks as they are.
"""

from __future__ import annotations

from vcorr.contract.entries import TrackerEntry
from vcorr.trackers.tracker_options import DIS_VERSION, LK_VERSION

EXACT = "exact"
"""Tracker name of tracks that are known by construction."""

_LICENCE = "Apache-2.0 (OpenCV)"

ENTRIES: tuple[TrackerEntry, ...] = (
    TrackerEntry(
        name="dis",
        summary="DIS optical flow chained from frame to frame; points are visible while flow and way back agree.",
        factory="vcorr.trackers.dis:Dis",
        config="vcorr.trackers.tracker_options:DisConfig",
        version=DIS_VERSION,
        licence=_LICENCE,
    ),
    TrackerEntry(
        name="lk",
        summary="Pyramidal Lucas-Kanade on single points, which are visible while a step and its way back agree.",
        factory="vcorr.trackers.lk:Lk",
        config="vcorr.trackers.tracker_options:LkConfig",
        version=LK_VERSION,
        licence=_LICENCE,
    ),
)

__all__ = ["ENTRIES", "EXACT"]
