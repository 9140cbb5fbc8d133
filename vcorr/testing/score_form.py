"""Checks what every kind of metric has in common: the form of its scores, and its primary column."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from vcorr.contract.bases import MetricBase, with_defaults
from vcorr.contract.records import Score
from vcorr.metrics.score_checks import check_declaration, check_scores
from vcorr.testing.report import expect

COLUMN = re.compile(r"[A-Za-z_]\w*(@[\w-]+:[\w.+-]+)?")
"""An identifier, alone or restricted to a stratum of a dimension: accuracy@displacement:1-2."""


def check_score_form(metric: Any, scores: Mapping[str, Score]) -> str:
    """Checks the declaration of a metric, and names, types and ranges of its scores; returns the names."""
    expect(isinstance(getattr(metric, "higher_is_better", None), bool), "higher_is_better must be a bool.")
    check_declaration(metric)
    expect(bool(scores), "no score was returned.")
    for name, score in scores.items():
        expect(isinstance(name, str) and bool(COLUMN.fullmatch(name)), f"{name!r} is not a column name.")
        expect(isinstance(score, Score), f"{name}: expected a vcorr.Score, got {type(score).__name__}.")
        expect(isinstance(score.value, float), f"{name}: value must be a float, got {type(score.value).__name__}.")
        expect(type(score.n) is int and score.n >= 0, f"{name}: n must be an int of at least 0, got {score.n!r}.")
    check_scores(metric, scores)
    return ", ".join(scores)


def check_primary(metric: Any, scores: Mapping[str, Score]) -> str:
    """Checks that a metric names its columns and its primary one; returns the primary column."""
    members = with_defaults(metric, MetricBase)
    columns, declared, primary = list(scores), tuple(members.columns), members.primary
    expect(
        not declared or set(declared) == set(columns),
        f"columns names {', '.join(declared)}, but the scores are {', '.join(columns)}.",
    )
    expect(
        bool(primary) or len(columns) == 1,
        f"there are several columns, {', '.join(columns)}: set `primary` to the one that chooses sites.",
    )
    expect(not primary or primary in columns, f"primary is {primary!r}, which is none of {', '.join(columns)}.")
    return primary or columns[0]


def expect_same(first: Mapping[str, Score], second: Mapping[str, Score], case: str) -> None:
    """Checks that two calls gave the same columns, values and counts; NaN is equal to NaN."""
    expect(set(first) == set(second), f"{case}: the columns differ.")
    for name, score in first.items():
        other = second[name]
        same = math.isclose(score.value, other.value, rel_tol=1e-6) or (
            math.isnan(score.value) and math.isnan(other.value)
        )
        expect(same and score.n == other.n, f"{case}: {name} is {other} instead of {score}.")
