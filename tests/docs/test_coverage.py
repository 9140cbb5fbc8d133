"""The statistics that are shipped reach what docs/statistics.md says: a small version of its simulation."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
from support.pages import ROOT, read

from vcorr.stats.intervals import skill


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    """Loads docs/simulate_coverage.py as a module."""
    spec = importlib.util.spec_from_file_location("simulate_coverage", ROOT / "docs" / "simulate_coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sites(simulation):
    return simulation.Sites.load()


@pytest.mark.parametrize("clips", [8, 16, 64])
def test_intervals_cover_the_truth_where_that_is_required(simulation, sites, clips) -> None:
    found = {
        s.name: simulation.coverage(s, clips, simulation.SMALL)[0] for s in simulation.scenarios(sites) if s.required
    }
    assert len(found) >= 4
    # 2000 samples know a coverage of 0.95 to 0.01; the page says what 7500 samples find
    assert {name: share for name, share in found.items() if not 0.92 <= share <= 0.97} == {}


def test_the_percentile_bootstrap_would_not(simulation, sites) -> None:
    found = [simulation.bootstrap_coverage(s, 8, simulation.SMALL) for s in simulation.scenarios(sites)]
    assert max(found) < 0.9


def test_heavy_tails_and_ties_are_not_covered_as_promised(simulation, sites) -> None:
    found = {s.name: simulation.coverage(s, 8, simulation.SMALL) for s in simulation.scenarios(sites) if not s.required}
    inside, without = found["ties: nine clips of ten have 1"]
    assert 0.8 < found["heavy tail: log-normal"][0] < 0.9
    assert inside < 0.95
    assert 0.3 < without < 0.6  # samples in which all clips have the same value get no interval


def test_a_chosen_site_is_covered_as_well_and_its_regret_is_not_too_large(simulation, sites) -> None:
    found = simulation.choose(sites, 8, simulation.SMALL)
    assert 0.9 <= found.coverage <= 0.98
    assert found.old_regret > found.true_regret > found.regret > 0


@pytest.mark.parametrize("null", ["normal", "heavy tails: Student's t with 2 degrees"])
def test_the_sign_flip_test_is_wrong_no_more_often_than_it_says(simulation, null) -> None:
    rates = {clips: simulation.false_positives(null, clips, simulation.SMALL) for clips in (2, 4, 6, 8)}
    assert all(test <= 0.06 for test, _ in rates.values())
    assert rates[4][0] == 0  # four clips cannot give p under 0.125
    assert rates[8][0] > 0.03
    assert rates[2][1] > 0.45  # the bootstrap interval of two clips leaves out 0 in half of all comparisons


def test_holm_keeps_the_rate_of_a_family(simulation) -> None:
    plain, corrected = simulation.family_rates(10, simulation.SMALL)
    assert plain > 0.15
    assert corrected <= 0.06


def test_the_stored_sites_are_those_of_a_run(sites) -> None:
    assert sites.score.shape == (62, 80)  # ten layers at eight steps; two of 64 clips have no moving point
    assert (sites.score <= sites.ceiling + 1e-6).all()
    assert np.array_equal(sites.skills, skill(*(array.mean(axis=0) for array in sites.arrays)))


def test_the_page_shows_the_block(simulation) -> None:
    page = read(ROOT / "docs" / "statistics.md")
    block = page.split(simulation.MARKERS[0])[1].split(simulation.MARKERS[1])[0]
    assert all(name in block for name in simulation.NULLS)
    assert "bootstrap, 8 clips" in block
