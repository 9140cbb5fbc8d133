"""Checks what metrics declare and return, and hands arrays to them that cannot be written to."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from vcorr.contract.bases import MetricBase, with_defaults
from vcorr.contract.errors import PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.hit_rules import HitRule
from vcorr.contract.part_calls import show_value
from vcorr.contract.records import Score, Tracks
from vcorr.metrics.hit_distances import Floats, add_squares, axis_squares

Rules = Mapping[str, HitRule]

ROUNDING = 1e-6
"""By how much a value may leave the declared range, because sums of floats round."""
MOST_ITEMS = 2**31 - 1
"""Largest `n` of a score: the column of the table is int32."""


def check_declaration(metric: Any) -> None:
    """Checks the direction and the range of a metric.

    Raises:
        PluginError: `higher_is_better` is no bool, or `lower` and `upper` are no range.
    """
    direction = metric.higher_is_better
    if not isinstance(direction, (bool, np.bool_)):
        raise PluginError(f"higher_is_better must be True or False, got {show_value(direction)}.")
    declared = with_defaults(metric, MetricBase)
    ends = (declared.lower, declared.upper)
    if any(isinstance(end, bool) or not isinstance(end, numbers.Real) for end in ends) or not ends[0] < ends[1]:
        raise PluginError(f"lower must be a number below upper, got {show_value(ends[0])} and {show_value(ends[1])}.")


_WRONG_COUNT = "The n of {name} must be a whole number of at least 0, got {n}."


def check_scores(metric: object, found: Any) -> dict[str, Score]:
    """Checks what a metric returned, and returns it with plain numbers.

    Raises:
        PluginError: it is no mapping of column names to scores, or a value is outside the declared range. Or a count
            is no whole number of at least 0.
    """
    if not isinstance(found, Mapping):
        raise PluginError(f"It must return a mapping of columns to vcorr.Score, got {show_value(found)}.")
    declared = with_defaults(metric, MetricBase)
    return {_column(name): _check_score(name, score, declared) for name, score in found.items()}


def _column(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise PluginError(f"The name of a column must be a text, got {show_value(name)}.")
    return name


def _check_score(name: str, score: Any, declared: MetricBase) -> Score:
    if not isinstance(score, Score):
        raise PluginError(f"{name} must be a vcorr.Score, got {show_value(score)}.")
    value: Any = score.value
    n: Any = score.n
    is_plain = type(value) is float and type(n) is int  # as nearly always; the tests below take longer than a metric
    if not is_plain:
        _check_kinds(name, value, n)
    if n < 0:
        raise PluginError(_WRONG_COUNT.format(name=name, n=show_value(n)))
    if int(n) > MOST_ITEMS:
        raise PluginError(f"The n of {name} is {n}; a table holds {MOST_ITEMS} at most.")
    number = float(value)
    if math.isinf(number) or number < declared.lower - ROUNDING or number > declared.upper + ROUNDING:
        raise PluginError(
            f"The value of {name} is {number:g}, outside the range of the metric, {declared.lower:g} to "
            f"{declared.upper:g}."
        )
    return score if is_plain else Score(number, int(n))


def _check_kinds(name: str, value: Any, n: Any) -> None:
    """Raises PluginError if a value or a count is no number of its kind."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise PluginError(f"The value of {name} must be a number, got {show_value(value)}.")
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise PluginError(_WRONG_COUNT.format(name=name, n=show_value(n)))


def check_rules(metric: Any, reference: Tracks, grid: TokenGrid, tracks: Floats, scores: Mapping[str, Score]) -> Rules:
    """Returns the rules of a metric's hits, after checking them on tracks that the metric has scored.

    Args:
        metric: the metric.
        reference: the reference of the clip.
        grid: the grid of the tracks.
        tracks: (N, T, 2) pixels.
        scores: what the metric gave for these tracks.

    Raises:
        PluginError: a rule names a column that the metric does not give, has another shape, or gives another value.
    """
    rules: Any = with_defaults(metric, MetricBase).hit_rules(reference, grid)
    if not isinstance(rules, Mapping):
        raise PluginError(f"hit_rules() must return a mapping of columns to vcorr.HitRule, got {show_value(rules)}.")
    for name, rule in rules.items():
        if name not in scores:
            raise PluginError(f"hit_rules() has a rule for {show_value(name)}, a column that score() does not give.")
        if not isinstance(rule, HitRule) or rule.counted.shape != reference.visible.shape:
            raise PluginError(
                f"hit_rules(): expected a vcorr.HitRule whose counted has the shape {reference.visible.shape} for "
                f"{name}, got {show_value(rule)}."
            )
        share, value = share_of_hits(rule, tracks, reference.xy), scores[name].value
        if not math.isclose(share, value, abs_tol=ROUNDING) and not (math.isnan(share) and math.isnan(value)):
            raise PluginError(
                f"hit_rules(): by the rule of {name}, these tracks have the value {share:g}; score() gives {value:g}."
            )
    return rules


def share_of_hits(rule: HitRule, tracks: Floats, reference: Floats) -> float:
    """Returns the share of hits by a rule, NaN without pairs. tracks, reference: (N, T, 2) pixels."""
    pairs = np.nonzero(rule.counted)
    found, wanted = tracks[pairs], reference[pairs]
    x, y = (axis_squares(found[:, axis], wanted[:, axis], rule.unit[axis], single=rule.single) for axis in range(2))
    hits = add_squares(x, y, single=rule.single) < rule.limit * rule.limit
    return float(np.count_nonzero(hits) / len(hits)) if len(hits) else math.nan


def lock_arrays(record: object) -> None:
    """Makes the arrays of a record read-only: a metric that writes into them gets an error of numpy."""
    for value in vars(record).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
