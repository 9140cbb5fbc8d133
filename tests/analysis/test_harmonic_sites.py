"""Sites ranked by the harmonic mean of accuracy, confidence and attention: against a slow loop over stored rows."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import pytest
from support import sliding

import vcorr
from vcorr.analysis.overview import overview
from vcorr.cli.views import run_view
from vcorr.plugins import builtin, registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store import shards
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow

PARTS = {"accuracy": "matching_accuracy", "confidence": "confidence_cross", "attention": "attention_cross"}


def make_run(out: Path, metrics: str) -> RunDirectory:
    modules = {registry.BUILTIN: builtin, "sliding": sliding}
    sources = [registry.PluginSource(name, name, "1", lambda m=m: m) for name, m in modules.items()]
    asked = {"probe": "qk,feature,attention", "steps": "0,4,9", "variant": "both", "metrics": metrics}
    options = {"data": {"clips": 3}, "probe": {"heads": "each"}}
    return execute(
        make_plan(RunSpec(model="sliding-model", **asked, options=options), registry.Registry(sources)), out
    ).run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    """Makes a run and gives it other scores, because all sites of this model are alike."""
    run = make_run(tmp_path_factory.mktemp("harmonic"), "matching_accuracy,confidence,attention")
    draw = random.Random(0)
    for path in run.shard_paths("scores"):
        stored = shards.read_shard(path, "scores")
        rows = [ScoreRow(**row) for row in stored.to_pylist()]
        drawn = [
            dataclasses.replace(row, value=draw.random(), floor=0.0, ceiling=1.0) if row.status == "ok" else row
            for row in rows
        ]
        drawn[0] = dataclasses.replace(drawn[0], value=math.nan, n=0, status="not_scored")  # does not count there
        shards.write_shard(path, "scores", drawn, shards.fingerprint_of(stored))
    return run


def means(rows: list[dict], metric: str, variant: str) -> dict[tuple[str, int, int], float]:
    """Returns the mean over clips by probe, layer and step, of the mean over heads."""
    found: dict[tuple[str, int, int], list[float]] = {}
    for row in rows:
        if (row["metric"], row["variant"], row["head"]) == (metric, variant, -1) and not math.isnan(row["value"]):
            found.setdefault((row["probe"], row["layer"], row["step"]), []).append(row["value"])
    return {place: sum(values) / len(values) for place, values in found.items()}


def scale(values: dict) -> dict:
    low, high = min(values.values()), max(values.values())
    return {place: (value - low) / (high - low) if high > low else 0.0 for place, value in values.items()}


@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
def test_values_and_order_are_those_of_the_loop(run, variant) -> None:
    rows = run.read("scores").to_pylist()
    accuracy, confidence, attention = (means(rows, metric, variant) for metric in PARTS.values())
    found = [site for site in vcorr.load(run.path).harmonic_sites().to_pylist() if site["variant"] == variant]
    assert {site["probe"] for site in found} == {"qk", "feature"}
    for probe in ("qk", "feature"):
        a = scale({place[1:]: value for place, value in accuracy.items() if place[0] == probe})
        c, s = (scale({place[1:]: value for place, value in part.items()}) for part in (confidence, attention))
        expected = {
            place: 0.0 if 0 in (a[place], c[place], s[place]) else 3 / (1 / a[place] + 1 / c[place] + 1 / s[place])
            for place in a
        }
        of_probe = [site for site in found if site["probe"] == probe]
        assert {(x["layer"], x["step"]): x["value"] for x in of_probe} == pytest.approx(expected)
        assert [x["value"] for x in of_probe] == pytest.approx(sorted(expected.values(), reverse=True))
        assert len({x["value"] for x in of_probe}) > 2
        for x in of_probe:
            place = x["layer"], x["step"]
            stored = accuracy[probe, *place], confidence["attention", *place], attention["attention", *place]
            assert tuple(x[name] for name in PARTS) == pytest.approx(stored)


def test_show_run_ranks_by_it_where_no_other_column_is_asked_for(run, capsys) -> None:
    found = overview(run)
    run_view.overview(found)
    assert "Sites by harmonic mean" in capsys.readouterr().out
    assert run_view.overview_dict(found)["harmonic"][0].keys() >= {"probe", "layer", "step", "value", *PARTS}
    assert overview(run, ["matching_accuracy"]).harmonic == ()


def test_a_run_without_one_of_the_parts_has_none(tmp_path) -> None:
    run = make_run(tmp_path, "matching_accuracy,attention")
    assert overview(run).harmonic == ()
    assert "harmonic" not in run_view.overview_dict(overview(run))
    empty = vcorr.load(run.path).harmonic_sites()
    assert empty.num_rows == 0
    assert empty.column_names[:3] == ["probe", "variant", "layer"]
