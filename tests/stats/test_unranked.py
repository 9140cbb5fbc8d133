"""A table in which no site is best says why, and nothing where one is."""

from __future__ import annotations

import pyarrow as pa
import pytest
from support.made_up import made_up

from vcorr.stats.summary import Findings
from vcorr.store.schema import SCORES


def table(floor=0.2, ceiling=0.9, value=0.5, metric="matching_accuracy") -> pa.Table:
    """Returns two sites and five clips, with the same numbers everywhere."""
    s = made_up(0, clips=5, layers=2, steps=1)
    empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in SCORES}
    numbers = {"value": value, "floor": floor, "ceiling": ceiling, "status": "ok", "metric": metric}
    rows = [{**empty, **s.key, **site, "clip": clip, **numbers} for clip in s.clips for site in s.sites]
    return pa.Table.from_pylist(rows, schema=SCORES)


def test_a_best_site_needs_no_reason() -> None:
    found = Findings.of(table())
    assert found.best
    assert found.unranked == ""


def test_still_points_are_the_reason() -> None:
    found = Findings.of(table(floor=0.985, ceiling=1.0, value=1.0))
    assert found.best == ()
    assert "standing still scores 0.985 and the best prediction 1.000, a difference under 0.02" in found.unranked


def test_nothing_to_score_is_the_reason() -> None:
    nan = float("nan")
    assert "matching_accuracy could not be scored" in Findings.of(table(floor=nan, ceiling=nan, value=nan)).unranked


@pytest.mark.parametrize("metric", ["confidence_cross", ""])
def test_metrics_without_skill_and_failed_clips_are_told_elsewhere(metric) -> None:
    found = Findings.of(table(floor=float("nan"), ceiling=float("nan"), metric=metric))
    assert (found.best, found.unranked) == ((), "")
