"""A table in which no site is best says why, and nothing where one is."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from support.made_up import made_up
from support.scale import scale_count

from vcorr.cli.views import site_tables
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
    assert found.unranked == ()


def test_still_points_are_the_reason() -> None:
    found = Findings.of(table(floor=0.985, ceiling=1.0, value=1.0))
    assert found.best == ()
    (one,) = found.unranked
    assert "standing still scores 0.985 and the best prediction 1.000, a difference under 0.02" in one.reason


def test_nothing_to_score_is_the_reason() -> None:
    nan = float("nan")
    (one,) = Findings.of(table(floor=nan, ceiling=nan, value=nan)).unranked
    assert "could not be scored: no clip has a pair of a visible point" in one.reason
    assert (one.clips, one.key["metric"]) == (0, "matching_accuracy")


def test_the_reason_fits_the_metric_of_tracks() -> None:
    nan = float("nan")
    (hidden,) = Findings.of(table(floor=1.0, ceiling=1.0, value=1.0, metric="occlusion_accuracy")).unranked
    assert "The points are hardly ever hidden" in hidden.reason
    (one,) = Findings.of(table(floor=nan, ceiling=nan, value=nan, metric="redetection_jaccard")).unranked
    assert "no point of any clip is visible again after an occlusion" in one.reason


@pytest.mark.parametrize("metric", ["confidence_cross", ""])
def test_metrics_without_skill_and_failed_clips_have_no_reason(metric) -> None:
    found = Findings.of(table(floor=float("nan"), ceiling=float("nan"), metric=metric))
    assert (found.best, found.unranked) == ((), ())


def test_an_error_has_its_skill_where_it_is_low() -> None:
    errors = table(floor=8.0, ceiling=1.0, value=2.75)
    assert Findings.of(errors).best == ()
    (best,) = Findings.of(errors, lower={"matching_accuracy"}).best
    assert (best.summary.value, best.summary.skill) == (2.75, 0.75)


def test_every_probe_has_a_row_whatever_it_lacks() -> None:
    """Checks that a drawn probe is in the table with a number or a reason, be it good, still, unseen or reversed."""
    nan = float("nan")
    kinds = {
        "good": {},
        "still": {"floor": 0.99, "ceiling": 1.0, "value": 1.0},
        "unseen": {"floor": nan, "ceiling": nan, "value": nan},
        "above": {"floor": 0.9, "ceiling": 0.2, "value": 0.5},
    }
    for seed in range(scale_count(10)):
        chosen = np.random.default_rng(seed).choice(list(kinds), size=4)
        parts = [rename(table(**kinds[kind]), f"p{i}") for i, kind in enumerate(chosen)]
        found = Findings.of(pa.concat_tables(parts))
        best = {one.summary.probe for one in found.best if one.summary.skill == one.summary.skill}
        reasons = {one.key["probe"]: one.reason for one in found.unranked}
        assert best == {f"p{i}" for i, kind in enumerate(chosen) if kind == "good"}
        assert set(reasons) == {f"p{i}" for i in range(4)} - best
        shown = io.StringIO()
        made = site_tables.best_table(found.best, found.unranked, metric="matching_accuracy")
        Console(file=shown, width=120).print(made)
        assert all(f" p{i} " in shown.getvalue() for i in range(4))


def rename(scores: pa.Table, probe: str) -> pa.Table:
    column = scores.schema.get_field_index("probe")
    return scores.set_column(column, scores.schema.field(column), pa.array([probe] * scores.num_rows))
