"""Learns which columns the metrics of a run give, and refuses metrics whose columns clash, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vcorr.contract.bases import MetricBase, with_defaults
from vcorr.contract.errors import PluginError, UsageError, VcorrError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.metric_columns import MetricColumns
from vcorr.contract.part_calls import PartName
from vcorr.contract.protocols import MaskMetric, RowMetric, TrackMetric, VideoMetric
from vcorr.contract.records import RowsPrediction, Tracks
from vcorr.metrics.score_checks import check_declaration
from vcorr.plugins.process_state import keep_settings
from vcorr.plugins.registry import Registry
from vcorr.runner.parts import Part, make_part
from vcorr.testing.mask_metric_checks import make_moving_masks
from vcorr.testing.video_metric_checks import make_sliding_video

_POINTS = 4
_GRID = TokenGrid(frames=2, rows=4, cols=4, stride=(8, 8), temporal_ratio=4)


def check_columns(metrics: Sequence[Part]) -> tuple[MetricColumns, ...]:
    """Returns the columns of every metric.

    Raises:
        UsageError: two metrics give the same column, so that one would overwrite the other.
        PluginError: a metric gives several columns and names none as its primary one, or names one that it lacks.
    """
    found = tuple(_learn(part) for part in metrics)
    givers: dict[str, MetricColumns] = {}
    for one in found:
        for column in one.columns:
            if column in givers:
                raise clash(givers[column].metric, one.metric, column)
            givers[column] = one
    return found


def find_columns(registry: Registry) -> tuple[MetricColumns, ...]:
    """Returns the columns of every installed metric with its default options; no columns if they cannot be learnt."""
    found = []
    for registered in registry.metrics.all():
        try:
            found.append(_learn(make_part(registered, {}, "metric")))
        except VcorrError:
            found.append(MetricColumns(registered.entry.name, (), ""))
    return tuple(found)


def clash(first: str, second: str, column: str) -> UsageError:
    """Returns the error for two metrics that give one column."""
    return UsageError(
        f"Metrics {first!r} and {second!r} both give the column {column!r}; one would overwrite the other.",
        hint=f"Use one of them, such as --set metrics={first}, or change the options from which the names are made.",
    )


@keep_settings()  # without a note: the scorer calls the same members, and notes what they change
def _learn(part: Part) -> MetricColumns:
    made = part.create()
    with part.name.calling("its declaration"):
        check_declaration(made)
        members = with_defaults(made, MetricBase)
        declared, named = tuple(members.columns), members.primary
    columns = declared or _try_out(part.name, made)
    primary = named or (columns[0] if len(columns) == 1 else "")
    if columns and primary not in columns:
        label, listing = part.entry.label, ", ".join(columns)
        said = f"names {primary!r} as its primary column" if primary else "names none as its primary column"
        raise PluginError(
            f"{label} of {part.plugin} gives the columns {listing}, and {said}.",
            hint=f"Set `primary` in the class of the metric to the column that chooses sites, such as {columns[0]!r}.",
        )
    return MetricColumns(part.entry.name, columns, primary, getattr(made, "higher_is_better", True) is not False)


def _try_out(name: PartName, metric: Any) -> tuple[str, ...]:
    """Returns the columns that a metric gives for invented points; none if it fails on them."""
    frames = np.arange(_GRID.video_frames, dtype=np.float32)
    start = np.linspace(4, 12, _POINTS, dtype=np.float32)
    xy = np.stack(np.broadcast_arrays(start[:, None] + frames, start[:, None]), axis=-1)
    reference = Tracks(xy, np.ones(xy.shape[:2], dtype=bool), tracker="exact")
    try:
        with name.calling("score()"):
            if isinstance(metric, RowMetric):
                return tuple(map(str, metric.score_rows(_summary(), reference, _GRID)))
            if isinstance(metric, MaskMetric):
                return tuple(map(str, metric.score_masks(make_moving_masks(), make_moving_masks())))
            if isinstance(metric, VideoMetric):
                return tuple(map(str, metric.score_video(*make_sliding_video())))
            if isinstance(metric, TrackMetric):
                size = (round(_GRID.height), round(_GRID.width))
                return tuple(map(str, metric.score_tracks(reference, reference, size)))
            return tuple(map(str, metric.score(xy + np.float32(0.5), reference, _GRID)))
    except VcorrError:
        return ()


def _summary() -> RowsPrediction:
    """Returns an attention summary of the invented points: a third of the weight on each part."""
    third, sixth = (np.full(_POINTS, share, dtype=np.float32) for share in (1 / 3, 1 / 6))
    return RowsPrediction("attention", sixth[:, None], sixth, sixth, third, third, third, _GRID)
