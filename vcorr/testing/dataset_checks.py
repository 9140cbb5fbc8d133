"""Checks the contracts of datasets and trackers, and makes clips to check with."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import DatasetBase
from vcorr.contract.records import UNKNOWN_LAYER, Clip, Queries, Tracks
from vcorr.testing.report import Report, expect, make, run_checks

ON_QUERY = 1e-3
"""Pixels by which a track may miss its query."""
SAME_TRACK = 0.1
"""Pixels by which two tracks of one point may differ, because a query that is taken from a track is rounded."""
AT_OUTLINES = 0.02
"""Share of points that may be taken for another layer, because they are at an outline."""


def random_clip(frames: int, height: int, width: int, *, points: int = 5, seed: int = 0) -> Clip:
    """Makes a clip of still noise (frames, height, width) with `points` queries and their exact tracks."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    queries = (rng.uniform(0, 1, (points, 2)) * [width, height]).astype(np.float32)
    tracks = Tracks(np.repeat(queries[:, None], frames, axis=1), np.ones((points, frames), dtype=bool), "exact")
    video = np.repeat(picture, frames, axis=0)
    return Clip(id=f"noise-{seed}", prompt="noise", queries=queries, video=video, tracks=tracks)


def check_dataset(dataset: Any, *, config: Any = None, clips: int = 2, skip: Collection[str] = ()) -> Report:
    """Checks a dataset against the contract of `vcorr.Dataset`.

    Args:
        dataset: a DatasetEntry, a class, or the dataset itself.
        config: its options; the defaults when None.
        clips: number of clips to load.
        skip: names of checks to leave out.
    """
    label, made = make(dataset, config)
    suite = _DatasetSuite(made, clips)
    return run_checks(
        label,
        [
            ("ids are distinct names", suite.ids),
            ("clips have the id that they are loaded by", suite.clip_ids),
            ("queries are inside the frame", suite.queries),
            ("tracks start at the queries", suite.start),
            ("same id, same clip", suite.repeat),
            ("layers of points agree with the layer map", suite.layers),
            ("tracks of any query agree with the known tracks", suite.any_query),
        ],
        skip,
    )


class _DatasetSuite:
    def __init__(self, dataset: Any, clips: int) -> None:
        self._dataset = dataset
        self._clips = clips

    def ids(self) -> str:
        split, ids = self._dataset.split, list(self._dataset.ids())
        expect(isinstance(split, str) and bool(split), f"split must be a name, got {split!r}.")
        expect(
            bool(ids) and all(isinstance(name, str) and name for name in ids), "ids() must return names, at least one."
        )
        expect(len(set(ids)) == len(ids), "ids() returns an id twice.")
        expect(list(self._dataset.ids()) == ids, "ids() returns other ids the second time.")
        return f"{len(ids)} clips, split {split!r}"

    def clip_ids(self) -> None:
        for name in self._names():
            clip = self._dataset.clip(name)
            expect(isinstance(clip, Clip), f"{name}: expected a vcorr.Clip, got {type(clip).__name__}.")
            expect(clip.id == name, f"the clip of {name!r} has the id {clip.id!r}.")

    def queries(self) -> None:
        for name in self._names():
            clip: Clip = self._dataset.clip(name)
            expect(bool(np.isfinite(clip.queries.xy).all()), f"{name}: a query is not finite.")
            if clip.video is not None:
                height, width = clip.video.shape[1:3]
                inside = (clip.queries.xy >= 0) & (clip.queries.xy <= [width, height])
                expect(
                    bool(inside.all()), f"{name}: a query is outside {width} x {height} pixels; are x and y exchanged?"
                )

    def start(self) -> None:
        for name in self._names():
            clip: Clip = self._dataset.clip(name)
            if clip.tracks is not None:
                # a reference that is hidden in the query's frame need not be at the query
                own = (np.arange(len(clip.queries)), clip.queries.t)
                seen = clip.tracks.visible[own]
                off = np.abs(clip.tracks.xy[own][seen] - clip.queries.xy[seen]).max(initial=0.0)
                expect(bool(off <= ON_QUERY), f"{name}: tracks start up to {off:g} px from the queries.")

    def repeat(self) -> None:
        for name in self._names():
            first, second = self._dataset.clip(name), self._dataset.clip(name)
            same = first.queries == second.queries and first.prompt == second.prompt
            same = same and _same(first.video, second.video) and _same(first.layers, second.layers)
            expect(same, f"{name}: the clip differs the second time.")

    def layers(self) -> str:
        """Checks that visible points have the layer of their pixel, where all pixels around it have the same layer."""
        known = 0
        for name in self._names():
            clip: Clip = self._dataset.clip(name)
            known += clip.layers is not None
            points, mapped = _layers_of_points(clip)
            wrong = int((points != mapped).sum())
            expect(
                wrong <= AT_OUTLINES * len(points),
                f"{name}: {wrong} of {len(points)} visible points have another layer than their pixel of the map; are "
                "x and y exchanged?",
            )
        return f"{known} clips with layer maps" if known else "no layer maps"

    def any_query(self) -> str:
        """Checks tracks of queries that lie on known tracks, and of random ones."""
        if getattr(type(self._dataset), "track", DatasetBase.track) is DatasetBase.track:
            return "not supported"
        for name in self._names():
            clip: Clip = self._dataset.clip(name)
            if clip.video is not None and clip.tracks is not None:
                for frame in sorted({0, len(clip.video) // 2, len(clip.video) - 1}):
                    self._ask_again(clip, clip.tracks, frame)
                self._ask_anywhere(clip, *clip.video.shape[:3])
        return ""

    def _ask_again(self, clip: Clip, known: Tracks, frame: int) -> None:
        """Asks for the points that are visible in a frame, at their positions there. Their tracks must be the known."""
        points = np.flatnonzero(known.visible[:, frame])
        if not len(points):
            return
        found = self._track(clip, Queries.at(known.xy[points, frame], frame))
        wrong = int(_are_others(found, known, points).sum())
        expect(
            wrong <= AT_OUTLINES * len(points),
            f"{clip.id}: {wrong} of {len(points)} points have another track, visibility or layer when they are asked "
            f"for in frame {frame}.",
        )

    def _ask_anywhere(self, clip: Clip, frames: int, height: int, width: int) -> None:
        rng = np.random.default_rng(0)
        places = (rng.uniform(0, 1, (50, 2)) * [width, height]).astype(np.float32)
        queries = Queries(rng.integers(0, frames, len(places), dtype=np.int32), places)
        found = self._track(clip, queries)
        hidden = int((~found.visible[np.arange(len(queries)), queries.t]).sum())
        expect(hidden == 0, f"{clip.id}: {hidden} of {len(queries)} random queries are not visible in their own frame.")

    def _track(self, clip: Clip, queries: Queries) -> Tracks:
        """Returns the dataset's tracks of queries; checks their form, and that they pass through the queries."""
        assert clip.video is not None
        found: Tracks = self._dataset.track(clip.id, queries)
        expect(isinstance(found, Tracks), f"track() must return vcorr.Tracks, got {type(found).__name__}.")
        expected = (len(queries), len(clip.video), 2)
        expect(found.xy.shape == expected, f"{clip.id}: track() returned xy of shape {found.xy.shape}, not {expected}.")
        off = np.abs(found.xy[np.arange(len(queries)), queries.t] - queries.xy).max(initial=0.0)
        expect(
            bool(off <= ON_QUERY), f"{clip.id}: tracks are up to {off:g} px from their queries, in the queries' frames."
        )
        return found

    def _names(self) -> list[str]:
        return list(self._dataset.ids())[: self._clips]


def _are_others(found: Tracks, known: Tracks, points: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Returns which tracks differ from the known ones of these points: in position, visibility or known layer."""
    seen = known.visible[points]
    away = np.nan_to_num(np.abs(found.xy - known.xy[points]), nan=np.inf).max(axis=-1) > SAME_TRACK
    others: NDArray[np.bool_] = ((away & seen) | (found.visible != seen)).any(axis=1)
    if known.layer is None:
        return others
    return others | (True if found.layer is None else found.layer != known.layer[points])


def _layers_of_points(clip: Clip) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the known layers of points in all frames in which they are visible, and the layers of their pixels there.

    Points next to an outline are left out: the map has one layer for a whole pixel, and a point may be beyond the
    outline.
    """
    if clip.layers is None or clip.tracks is None or clip.tracks.layer is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    point, frame = np.nonzero(clip.tracks.visible & (clip.tracks.layer != UNKNOWN_LAYER)[:, None])
    height, width = clip.layers.shape[1:]
    x, y = np.floor(clip.tracks.xy[point, frame]).astype(np.intp).T
    around = np.arange(-1, 2)
    rows = np.clip(y[:, None] + around, 0, height - 1)[:, :, None]
    columns = np.clip(x[:, None] + around, 0, width - 1)[:, None, :]
    pixels = clip.layers[frame[:, None, None], rows, columns].reshape(len(x), around.size**2)
    inside = (pixels == pixels[:, :1]).all(axis=1)
    return clip.tracks.layer[point[inside]].astype(np.int64), pixels[inside, 0].astype(np.int64)


def check_tracker(tracker: Any, *, config: Any = None, clip: Clip | None = None, skip: Collection[str] = ()) -> Report:
    """Checks a tracker against the contract of `vcorr.Tracker`.

    Args:
        tracker: a TrackerEntry, a class, or the tracker itself.
        config: its options; the defaults when None.
        clip: what to track; still noise of 6 frames and 64 x 96 pixels when None.
        skip: names of checks to leave out. Trackers that track all queries jointly leave out "one query does not depend
            on another".
    """
    label, made = make(tracker, config)
    suite = _TrackerSuite(made, clip or random_clip(6, 64, 96))
    return run_checks(
        label,
        [
            ("tracks have the right form", suite.form),
            ("frame 0 is the query", suite.first_frame),
            ("a query may be in any frame", suite.any_frame),
            ("same video, same tracks", suite.repeat),
            ("one query does not depend on another", suite.independent),
            ("video and queries are not changed", suite.side_effects),
        ],
        skip,
    )


class _TrackerSuite:
    def __init__(self, tracker: Any, clip: Clip) -> None:
        self._tracker = tracker
        self._video: NDArray[np.uint8] = clip.video if clip.video is not None else np.zeros((1, 1, 1, 3), np.uint8)
        self._queries = clip.queries

    def form(self) -> None:
        tracks = self._track(self._queries)
        expect(isinstance(tracks, Tracks), f"expected vcorr.Tracks, got {type(tracks).__name__}.")
        expected = (len(self._queries), len(self._video), 2)
        expect(tracks.xy.shape == expected, f"xy has shape {tracks.xy.shape} instead of {expected}.")
        expect(tracks.xy.dtype == np.float32, f"xy must be float32, got {tracks.xy.dtype}.")
        expect(bool(tracks.tracker), "tracks must name their tracker.")

    def first_frame(self) -> None:
        expect(np.array_equal(self._track(self._queries).xy[:, 0], self._queries.xy), "xy[:, 0] is not the query.")

    def any_frame(self) -> str:
        timed = self._spread_queries()
        tracks = self._track(timed)
        own = (np.arange(len(timed)), timed.t)
        expect(tracks.xy.shape == (len(timed), len(self._video), 2), f"xy has shape {tracks.xy.shape}.")
        expect(np.array_equal(tracks.xy[own], timed.xy), "xy in the frame of a query is not the query.")
        return f"frames {', '.join(str(frame) for frame, _ in timed.by_frame())}"

    def repeat(self) -> None:
        first, second = self._track(self._queries), self._track(self._queries)
        expect(np.array_equal(first.xy, second.xy), "positions differ the second time.")
        expect(np.array_equal(first.visible, second.visible), "visibility differs the second time.")

    def independent(self) -> None:
        timed = self._spread_queries()
        together = self._track(timed)
        for chosen in range(0, len(timed), max(len(self._queries), 1)):
            alone = self._track(timed[chosen : chosen + 1])
            expect(
                bool(np.allclose(together.xy[chosen], alone.xy[0], atol=1e-3)),
                f"a query in frame {timed.t[chosen]} gets another track when it is tracked alone.",
            )

    def _spread_queries(self) -> Queries:
        """Returns all queries three times: in the first frame, in the middle one and in the last one."""
        last = len(self._video) - 1
        frames = np.repeat([0, last // 2, last], len(self._queries))
        return Queries(frames, np.tile(self._queries.xy, (3, 1)))

    def side_effects(self) -> None:
        video, queries = self._video.copy(), _copy(self._queries)
        self._tracker.track(video, queries)
        expect(np.array_equal(video, self._video) and queries == self._queries, "track() wrote into its arguments.")

    def _track(self, queries: Queries) -> Tracks:
        tracks: Tracks = self._tracker.track(self._video.copy(), _copy(queries))
        return tracks


def _copy(queries: Queries) -> Queries:
    return Queries(queries.t.copy(), queries.xy.copy())


def _same(first: NDArray[np.uint8] | None, second: NDArray[np.uint8] | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)
