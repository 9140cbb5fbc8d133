"""Every baseline is listed, is limited, and has rows with floor, ceiling, skill and gain, as a network has."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from vcorr.baselines.baseline_entries import ENTRIES
from vcorr.stats.series import series
from vcorr.stats.summary import site_summaries
from vcorr.store.rundir import RunDirectory


def test_all_are_listed(vcorr) -> None:
    listed = {found["name"]: found for found in json.loads(vcorr("list", "models", "--json").out)}
    assert {entry.name for entry in ENTRIES} <= listed.keys()
    text = vcorr("list", "models").out
    assert [entry.name for entry in ENTRIES if entry.name not in text] == []


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_rows_have_bounds_skill_and_gain(vcorr, name) -> None:
    ended = vcorr("run", "--model", name, "--data", "token-slide", "--limit", "3", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["clips"] == 3
    rows = series(RunDirectory(Path(found["path"])).read("scores"))
    sites = {s.key["metric"]: site_summaries(s)[0] for s in rows}
    for metric in ("matching_accuracy", "matching_accuracy_moving", "pck_8", "pck_8_moving"):
        site = sites[metric]
        assert (site.layer, site.step, site.clips) == (-1, -1, 3)
        assert 0 <= site.floor < site.ceiling <= 1
        assert math.isclose(site.skill, (site.value - site.floor) / (site.ceiling - site.floor), abs_tol=1e-6)
        assert math.isclose(site.gain, (site.value - site.floor) / (1 - site.floor), abs_tol=1e-6)
    shown = vcorr("show", "run", found["path"]).out
    assert "direct" in shown
