"""Calls into a tracker, and checks the tracks that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import TrackerBase, with_defaults
from vcorr.contract.errors import NumericalError, PluginError
from vcorr.contract.geometry import FARTHEST
from vcorr.contract.part_calls import show_value
from vcorr.contract.records import Queries, Tracks
from vcorr.runner.called import CalledPart, plain_identity
from vcorr.runner.parts import Part

QUERY_TOLERANCE = 1e-3
"""Pixels by which a track may miss its query, because a tracker that resizes the video rounds."""


class CalledTracker(CalledPart):
    """A `vcorr.Tracker` whose calls name its plugin when they fail."""

    def identity(self) -> dict[str, Any]:
        """Returns plain values that identify the tracker's files.

        Raises:
            MissingError: weights or a package are not available.
            PluginError: the tracker raises, or returns something else.
        """
        with self._calling("identity()"):
            return plain_identity(with_defaults(self.made, TrackerBase).identity(), str(self.name))

    def track(self, video: NDArray[np.uint8], queries: Queries) -> Tracks:
        """Returns what the tracker finds in copies of the video and of the queries.

        Raises:
            PluginError: the tracker raises, the tracks have the wrong type or shape, or they do not pass through their
                queries.
            NumericalError: a position is farther from the frame than any motion.
        """
        with self._calling("track()"):
            found = self.made.track(video.copy(), Queries(queries.t.copy(), queries.xy.copy()))
            _check_form(found, (len(queries), len(video), 2))
            tracks: Tracks = replace(found)  # checks its fields again: they may have been changed after it was made
            _check_queries(tracks, queries)
            _check_positions(tracks, video.shape[1], video.shape[2])
            return tracks


def tracker_files(tracker: Part | None) -> Mapping[str, Any]:
    """Returns what identifies the files that a tracker reads; raises `MissingError` if they are not available."""
    return CalledTracker(tracker).identity() if tracker else {}


def _check_form(tracks: Any, expected: tuple[int, int, int]) -> None:
    if not isinstance(tracks, Tracks):
        raise PluginError(f"track() must return vcorr.Tracks, got {show_value(tracks)}.")
    for name, kind in (("tracker", str), ("licence", str), ("version", int)):
        if not isinstance(getattr(tracks, name), kind):
            raise PluginError(f"Tracks: {name} must be {kind.__name__}, got {show_value(getattr(tracks, name))}.")
    if np.shape(tracks.xy) != expected:
        raise PluginError(
            f"Tracker {tracks.tracker!r} must return tracks of shape {expected}, got {np.shape(tracks.xy)}."
        )


def _check_queries(tracks: Tracks, queries: Queries) -> None:
    off = np.abs(tracks.xy[np.arange(len(queries)), queries.t] - queries.xy).max(axis=1)
    lost = np.flatnonzero(~np.isfinite(off))
    if len(lost):
        raise NumericalError(
            f"Tracker {tracks.tracker!r} returned NaN or infinity for {len(lost)} of {len(queries)} points in the "
            "frame of the query."
        )
    if (off > QUERY_TOLERANCE).any():
        n = int(off.argmax())
        raise PluginError(
            f"Tracker {tracks.tracker!r} must return the query itself in the frame of the query; its track {n} is "
            f"{off[n]:.3g} pixels away from it in frame {queries.t[n]}.",
            hint="vcorr.track_both_ways completes a tracker that starts in the first frame it gets.",
        )


def _check_positions(tracks: Tracks, height: int, width: int) -> None:
    far = (np.abs(tracks.xy) > (FARTHEST + 1) * np.array([width, height])).any(axis=-1)
    if far.any():
        n, t = (int(i) for i in np.argwhere(far)[0])
        x, y = (float(value) for value in tracks.xy[n, t])
        raise NumericalError(
            f"Tracker {tracks.tracker!r} has point {n} at ({x:.4g}, {y:.4g}) in frame {t} of a video of "
            f"{width}x{height} pixels."
        )
