"""Checks the contract of metrics on invented tracks or attention summaries.

N points, T frames; positions are (x, y) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase, with_defaults
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import RowsPrediction, Score, Tracks
from vcorr.metrics.score_checks import check_rules
from vcorr.testing.mask_metric_checks import MaskMetricSuite
from vcorr.testing.report import CheckFunction, Report, expect, make, run_checks
from vcorr.testing.score_form import check_primary, check_score_form, expect_same
from vcorr.testing.video_metric_checks import VideoMetricSuite

POINTS = 24
GRID = TokenGrid(frames=4, rows=8, cols=12, stride=(16, 16), temporal_ratio=4)
ERRORS = (0.5, 2.0, 8.0, 32.0)
"""Errors of the test tracks, in pixels, from small to large."""
ROW_FIELDS = ("peak_cross", "peak_self", "peak_text", "sum_cross", "sum_self", "sum_text", "traits")


def check_metric(metric: Any, *, config: Any = None, skip: Collection[str] = ()) -> Report:
    """Checks a metric against the contract of its kind, such as `vcorr.Metric` or `VideoMetric`, by its members.

    Args:
        metric: a MetricEntry, a class, or the metric itself.
        config: its options; the defaults when None.
        skip: names of checks to leave out. A metric that does not compare positions leaves out "perfect tracks are
            best"; a `RowMetric` does not have that check.
    """
    label, made = make(metric, config)
    if hasattr(made, "score_masks"):
        return run_checks(label, MaskMetricSuite(made).checks(), skip)
    if hasattr(made, "score_video"):
        return run_checks(label, VideoMetricSuite(made).checks(), skip)
    kinds = {"score_rows": _RowMetricSuite, "score_tracks": _TrackMetricSuite}
    suite = next((kind for member, kind in kinds.items() if hasattr(made, member)), _MetricSuite)(made)
    return run_checks(
        label,
        [
            ("scores have the right form", suite.form),
            *suite.about_tracks(),
            ("the order of the points does not matter", suite.order),
            ("n counts what was scored", suite.count),
            *suite.about_nothing(),
            ("hidden positions of the reference are not read", suite.hidden),
            ("columns do not change with the data", suite.columns),
            ("a column is primary", suite.primary),
            ("same tracks, same scores", suite.repeat),
            ("tracks are not changed", suite.side_effects),
        ],
        skip,
    )


class _MetricSuite:
    def __init__(self, metric: Any) -> None:
        self._metric = metric
        rng = np.random.default_rng(0)
        start = rng.uniform(0.2, 0.8, (POINTS, 1, 2)) * [GRID.width, GRID.height]
        # half of the points hardly move, half move far
        speed = rng.normal(0, 1, (POINTS, 1, 2)) * np.where(np.arange(POINTS) % 2, 4.0, 0.1)[:, None, None]
        self._xy = (start + speed * np.arange(GRID.video_frames)[None, :, None]).astype(np.float32)
        self._visible = rng.random((POINTS, GRID.video_frames)) < 0.8
        self._visible[: POINTS // 2, 0] = True
        self._noise = rng.normal(0, 1, self._xy.shape).astype(np.float32)

    def about_tracks(self) -> Sequence[tuple[str, CheckFunction]]:
        """Returns the checks that only metrics of positions or tracks have."""
        return [("perfect tracks are best", self.perfect), ("rules of hits give the values", self.hits)]

    def about_nothing(self) -> Sequence[tuple[str, CheckFunction]]:
        """Returns the check of a clip in which nothing counts."""
        return [("without visible points, scores are NaN with n = 0", self.nothing_visible)]

    def form(self) -> str:
        return check_score_form(self._metric, self._off_by(2.0))

    def perfect(self) -> None:
        sign = 1 if self._metric.higher_is_better else -1
        best = self._off_by(0.0)
        for name, score in best.items():
            expect(
                math.isfinite(score.value) or _may_be_empty(name, score), f"{name}: perfect tracks give {score.value}."
            )
        worst: Mapping[str, Score] = best
        for pixels in ERRORS:
            worst = self._off_by(pixels)
            for name, score in worst.items():
                better = sign * (score.value - best[name].value) > 1e-9
                expect(
                    not better,
                    f"{name}: tracks that are {pixels} px off give {score.value:g}, better than perfect tracks with "
                    f"{best[name].value:g}.",
                )
        expect(
            any(worst[name].value != best[name].value for name in best if best[name].n),
            f"tracks that are {ERRORS[-1]} px off score like perfect tracks.",
        )

    def hits(self) -> str:
        """Checks `hit_rules` on tracks with small and large errors, and on NaN where the reference is hidden."""
        unknown = np.where(self._visible[..., None], self._xy, np.float32("nan"))
        rules: Mapping[str, Any] = {}
        for pixels in ERRORS:
            tracks = self._xy + np.float32(pixels) * self._noise
            reference = Tracks(unknown, self._visible, tracker="exact")
            rules = check_rules(self._metric, reference, GRID, tracks, self._metric.score(tracks, reference, GRID))
        return ", ".join(rules) or "no column has a rule, so none has a ceiling"

    def order(self) -> None:
        order = np.random.default_rng(1).permutation(POINTS)
        tracks = self._xy + 3 * self._noise
        expect_same(
            self._score(tracks, self._xy, self._visible),
            self._score(tracks[order], self._xy[order], self._visible[order]),
            "with points in another order",
        )

    def count(self) -> None:
        tracks = self._xy + 3 * self._noise
        once = self._score(tracks, self._xy, self._visible)
        twice = self._score(*(np.concatenate([part, part]) for part in (tracks, self._xy, self._visible)))
        for name, score in once.items():
            counted = 0 < score.n <= self._visible.size or _may_be_empty(name, score)
            expect(counted, f"{name}: n = {score.n} for {self._visible.size} pairs.")
            expect(
                twice[name].n == 2 * score.n, f"{name}: n = {score.n}, but {twice[name].n} when every point is twice."
            )
            close = math.isclose(twice[name].value, score.value, rel_tol=1e-6)
            expect(
                close or not score.n,
                f"{name}: {score.value:g}, but {twice[name].value:g} when every point is there twice.",
            )

    def nothing_visible(self) -> None:
        for name, score in self._score(self._xy, self._xy, np.zeros_like(self._visible)).items():
            expect(
                math.isnan(score.value) and score.n == 0,
                f"{name}: {score.value:g} with n = {score.n} when no point is visible.",
            )

    def hidden(self) -> None:
        unknown = np.where(self._visible[..., None], self._xy, np.float32("nan"))
        tracks = self._xy + 3 * self._noise
        expect_same(
            self._score(tracks, self._xy, self._visible),
            self._score(tracks, unknown, self._visible),
            "with NaN as hidden positions",
        )

    def columns(self) -> None:
        columns = set(self._off_by(2.0))
        others = {
            "nothing visible": self._score(self._xy, self._xy, np.zeros_like(self._visible)),
            "one point": self._score(self._xy[:1], self._xy[:1], self._visible[:1]),
            "no motion": self._score(*(np.repeat(self._xy[:, :1], GRID.video_frames, 1),) * 2, self._visible),
        }
        for case, scores in others.items():
            expect(set(scores) == columns, f"{case}: columns {sorted(scores)} instead of {sorted(columns)}.")

    def primary(self) -> str:
        return check_primary(self._metric, self._off_by(2.0))

    def repeat(self) -> None:
        expect_same(self._off_by(2.0), self._off_by(2.0), "the second time")

    def side_effects(self) -> None:
        tracks, xy, visible = self._xy + self._noise, self._xy.copy(), self._visible.copy()
        before = tracks.copy()
        self._score(tracks, xy, visible)
        same = (
            np.array_equal(tracks, before) and np.array_equal(xy, self._xy) and np.array_equal(visible, self._visible)
        )
        expect(same, "the metric wrote into its arguments.")

    def _off_by(self, pixels: float) -> Mapping[str, Score]:
        return self._score(self._xy + np.float32(pixels) * self._noise, self._xy, self._visible)

    def _score(
        self, tracks: NDArray[np.float32], xy: NDArray[np.float32], visible: NDArray[np.bool_]
    ) -> Mapping[str, Score]:
        scores: Mapping[str, Score] = self._metric.score(tracks, Tracks(xy, visible, tracker="exact"), GRID)
        return scores


class _RowMetricSuite(_MetricSuite):
    """Gives the metric attention summaries instead of tracks; each point's summary is computed from its track."""

    def about_tracks(self) -> Sequence[tuple[str, CheckFunction]]:
        return []

    def side_effects(self) -> None:
        rows, xy, visible = _rows(self._xy), self._xy.copy(), self._visible.copy()
        self._metric.score_rows(rows, Tracks(xy, visible, tracker="exact"), GRID)
        before = _rows(self._xy)
        same = all(np.array_equal(getattr(rows, part), getattr(before, part)) for part in ROW_FIELDS)
        same = same and np.array_equal(xy, self._xy) and np.array_equal(visible, self._visible)
        expect(same, "the metric wrote into its arguments.")

    def _score(
        self, tracks: NDArray[np.float32], xy: NDArray[np.float32], visible: NDArray[np.bool_]
    ) -> Mapping[str, Score]:
        scores: Mapping[str, Score] = self._metric.score_rows(_rows(tracks), Tracks(xy, visible, tracker="exact"), GRID)
        return scores


class _TrackMetricSuite(_MetricSuite):
    """Gives the metric tracks whose visibility and confidence are right."""

    def about_tracks(self) -> Sequence[tuple[str, CheckFunction]]:
        return [("perfect tracks are best", self.perfect), ("accuracies are 1 for perfect tracks", self.accuracies)]

    def about_nothing(self) -> Sequence[tuple[str, CheckFunction]]:
        # a hidden point counts: a prediction that shows it is wrong
        return [("without points, scores are NaN with n = 0", self.no_points)]

    def accuracies(self) -> str:
        named, best = tuple(with_defaults(self._metric, MetricBase).accuracies), self._off_by(0.0)
        for name in named:
            expect(name in best, f"accuracies names {name!r}, which is none of {', '.join(best)}.")
            expect(
                best[name].value == 1 or _may_be_empty(name, best[name]),
                f"{name}: perfect tracks give {best[name].value:g}, but accuracies says that they give 1.",
            )
        return ", ".join(named) or "no column has a floor and the ceiling 1"

    def no_points(self) -> None:
        for name, score in self._score(self._xy[:0], self._xy[:0], self._visible[:0]).items():
            expect(
                math.isnan(score.value) and score.n == 0,
                f"{name}: {score.value:g} with n = {score.n} when there is no point.",
            )

    def _score(
        self, tracks: NDArray[np.float32], xy: NDArray[np.float32], visible: NDArray[np.bool_]
    ) -> Mapping[str, Score]:
        seen = visible.astype(np.float32)
        predicted = Tracks(tracks, visible.copy(), tracker="predicted", confidence=seen, query_mode="first")
        reference = Tracks(xy, visible, tracker="exact", query_mode="first")
        size = (round(GRID.height), round(GRID.width))
        scores: Mapping[str, Score] = self._metric.score_tracks(predicted, reference, size)
        return scores


def _rows(tracks: NDArray[np.float32]) -> RowsPrediction:
    """Computes possible summaries from tracks: weights between 0 and 1 with sum 1, and no sum below its peak."""
    x = tracks[:, : GRID.frames, 0] / np.float32(GRID.width)
    weights = np.exp(np.sin(8 * x[:, :3]))
    cross, own, text = (weights / weights.sum(axis=1, keepdims=True)).T
    share = (1.5 + np.cos(8 * x)) / (4 * GRID.frames)
    peaks = cross[:, None] * share[:, 1:]
    traits = np.stack([own, cross, *share[:, :4].T], axis=1)
    fields = (peaks, own * share[:, 0], text * share[:, 0], cross, own, text, GRID)
    return RowsPrediction("attention", *fields, traits=traits)


def _may_be_empty(name: str, score: Score) -> bool:
    """Returns whether a column belongs to a stratum, and reports that the test tracks have no pair in it."""
    return "@" in name and score.n == 0 and math.isnan(score.value)
