"""The columns that a metric gives: which ones, which of them ranks sites, and which direction is better."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vcorr.contract.tasks import MAKING_VIDEOS

COLUMNS_KEY, ASKED_KEY = "metric_columns", "metrics_asked"
"""Keys of run.json: the columns of every metric, and the metrics that the user named."""
MOVING = "_moving"
"""Ends the names of columns that count only moving points; the name before it is the column over all points."""
STRATUM_MARK = "@"
"""Separates a metric from its stratum of pairs in the names of columns."""
MAIN_METRIC = "matching_accuracy"
"""The metric whose primary column ranks sites if the user named no metric."""
MAIN_COLUMN = MAIN_METRIC + MOVING
"""Its primary column."""
TRACKING_COLUMNS = ("average_pts_within_thresh", "average_jaccard", "occlusion_accuracy")
"""The three numbers of a tracking run: delta_avg, AJ and OA under TAP-Vid's names. The first one ranks."""
PROPAGATION_COLUMNS = ("region_and_contour", "region_similarity", "contour_accuracy")
"""The three numbers of a run of propagation: J&F, J and F of DAVIS. The first one ranks."""
AT_ONE_THRESHOLD = re.compile(r"(pts_within|jaccard)_\d+")
"""Names of the columns of tracks at a single threshold, whose means are among `TRACKING_COLUMNS`."""
CONFIDENCE_COLUMNS = ("calibration_error", "risk_coverage_area", "mean_confidence", "right_pairs")
"""Columns that need predictions with a confidence, which not every tracker gives."""
REDETECTION_COLUMN = "redetection_jaccard"
"""The column over pairs after an occlusion has ended; it is empty where no point returns."""
_KNOWN_PRIMARIES = (
    *(MAIN_COLUMN, "pck_8_moving", MAIN_METRIC, "pck_8", "attention_cross", "confidence_cross"),
    *(TRACKING_COLUMNS[0], PROPAGATION_COLUMNS[0]),
)
"""Columns that rank sites where no record says which one does, the first choice first."""
_RANKED_BY_ALL_POINTS = ("matching_accuracy", "pck")
"""Metrics whose primary column was over all points, before moving points became primary."""


@dataclass(frozen=True)
class MetricColumns:
    """The columns of one metric.

    metric: name of the entry. columns: all columns, in order; empty if they are not known. primary: the column that
    ranks sites; "" if it is not known.
    """

    metric: str
    columns: tuple[str, ...]
    primary: str
    higher_is_better: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for run.json."""
        return {**asdict(self), "columns": list(self.columns)}


def all_points_of(column: str) -> str:
    """Returns the column over all points that belongs to a column over moving points; "" for any other column.

    A metric gives both, `NAME` and `NAME_moving`; the one over all points is shown next to the other.
    """
    return column.removesuffix(MOVING) if column.endswith(MOVING) else ""


def read_columns(record: Mapping[str, Any]) -> tuple[MetricColumns, ...]:
    """Returns the columns of every metric that run.json lists; none for a run of an older version.

    Older records of `matching_accuracy` and `pck` name the column over all points as primary. Their sites are ranked as
    in new runs, by the column over moving points.
    """
    found = record.get(COLUMNS_KEY)
    return tuple(_read_one(item) for item in found if isinstance(item, dict)) if isinstance(found, list) else ()


def _read_one(item: Mapping[str, Any]) -> MetricColumns:
    columns, primary, metric = item.get("columns"), str(item.get("primary", "")), str(item.get("metric", ""))
    listed = tuple(map(str, columns)) if isinstance(columns, list) else ()
    if metric in _RANKED_BY_ALL_POINTS and primary + MOVING in listed:
        primary += MOVING
    return MetricColumns(metric, listed, primary, item.get("higher_is_better") is not False)


def lower_is_better(record: Mapping[str, Any]) -> frozenset[str]:
    """Returns the columns in which a lower value is better, as run.json says."""
    return frozenset(name for one in read_columns(record) if not one.higher_is_better for name in one.columns)


def ranking_columns(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the columns that summaries of a run rank sites by.

    These are the primary columns of the metrics that the user named, in this order. Without named metrics it is the
    main one; in a tracking run, `TRACKING_COLUMNS`; in a run of propagation, `PROPAGATION_COLUMNS`; in a run of
    generated videos, which has no sites, all columns. A stratum ranks nothing, since it is reported at the sites of its
    metric. It is empty if run.json does not say.
    """
    listed = [one for one in read_columns(record) if one.primary and STRATUM_MARK not in one.primary]
    primaries = {one.metric: one.primary for one in listed}
    asked = record.get(ASKED_KEY)
    if isinstance(asked, list) and asked:
        return tuple(dict.fromkeys(primaries[name] for name in asked if name in primaries))
    context = record.get("row_context")
    if isinstance(context, dict) and context.get("task") in MAKING_VIDEOS:
        return tuple(column for one in listed for column in one.columns)
    main = primaries.get(MAIN_METRIC) or next(iter(primaries.values()), "")
    several = next((names for names in (TRACKING_COLUMNS, PROPAGATION_COLUMNS) if main == names[0]), None)
    return several or ((main,) if main else ())


def primary_of(name: str, record: Mapping[str, Any]) -> str:
    """Returns `name` itself if a metric of the run has a column of this name, else the primary column of this metric.

    `matching_accuracy` names both, and means the column: whoever writes it asks for all points.
    """
    listed = read_columns(record)
    if any(name in one.columns for one in listed) or (not listed and name in _KNOWN_PRIMARIES):
        return name
    primaries = {one.metric: one.primary for one in listed if one.primary}
    known = next((column for column in _KNOWN_PRIMARIES if column.startswith(f"{name}_")), name)
    return primaries.get(name, name if listed else known)


def choose_main(columns: Sequence[str]) -> str:
    """Returns the column that ranks sites if nothing else says so: a known primary column, else the first column."""
    return next((name for name in _KNOWN_PRIMARIES if name in columns), columns[0] if columns else MAIN_COLUMN)


def is_main(column: str) -> bool:
    """Returns whether `choose_main` may choose a column because it knows it."""
    return column in _KNOWN_PRIMARIES
