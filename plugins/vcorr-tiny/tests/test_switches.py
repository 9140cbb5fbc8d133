"""Tests the table of switches on made-up scores with known differences."""

from pathlib import Path

import pytest
from vcorr_tiny import switches
from vcorr_tiny.findings import METRIC

from vcorr.contract.errors import StoreError
from vcorr.contract.variants import NamedVariant, switch_values
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import write_shard

CLIPS = [f"test-{i:04d}" for i in range(6)]
SITES = [(layer, step) for layer in (3, 7) for step in (42, 49)]
ADDED = {"corrected+time_map=stretched": 0.25, "corrected+readout=field": -0.125, "difftrack": -0.5}
"""Change of every score under a variant; the others change nothing."""


def row(clip: str, probe: str, metric: str, variant: str, layer: int, step: int) -> ScoreRow:
    """Returns a score row: 0.5 plus the variant's change, floor 0, ceiling 1."""
    named = NamedVariant.parse(variant)
    numbers = {"layer": layer, "step": step, "n": 9, "seed": 42, "noise": 0.5, "floor": 0.0, "ceiling": 1.0}
    names = {"probe": probe, "metric": metric, "variant": named.base, "switches": named.switches}
    varied = 0.01 * CLIPS.index(clip)  # clips differ, but a paired difference does not depend on it
    value = 0.5 + varied + ADDED.get(variant, 0.0)
    return ScoreRow(**numbers, **names, clip=clip, value=value)


@pytest.fixture
def run_scores(tmp_path: Path) -> switches.Measured:
    run = RunDirectory.create(tmp_path, "a" * 64)
    columns = {(column.probe, column.metric) for column in switches.COLUMNS}
    for clip in CLIPS:
        rows = [row(clip, *place, v, *site) for place in columns for v in switches.all_variants() for site in SITES]
        write_shard(run.shard("scores", clip), "scores", rows, "f")
    return switches.read_measured(run)


def test_every_switch_that_a_run_depends_on_is_flipped_alone() -> None:
    flipped = [NamedVariant.parse(variant).flipped for variant in switches.flips()]
    assert [names for (names,) in [(f[0],) for f in flipped]] == [s for s in switch_values() if s != "guidance_mask"]
    assert all(len(names) == 1 for names in flipped)


def test_a_line_says_what_the_switch_adds(run_scores) -> None:
    table = switches.cost_table(run_scores, (7, 49), [*switches.flips(), "difftrack"], switches.COLUMNS)
    lines = {line.split(" | ")[0].strip("| `"): line.split(" | ")[1:] for line in table.splitlines()}
    assert lines["corrected"][0] == "0.525"
    assert {cell.strip(" |") for cell in lines["time_map=stretched"]} == {"**+0.250** (+0.250 … +0.250)"}
    assert {cell.strip(" |") for cell in lines["readout=field"]} == {"**-0.125** (-0.125 … -0.125)"}
    assert {cell.strip(" |") for cell in lines["pooling=everything"]} == {"0"}
    assert lines["difftrack`, all its switches"][0] == "**-0.500** (-0.500 … -0.500)"


def test_other_sites_have_a_line_each(run_scores) -> None:
    lines = switches.site_table(run_scores, SITES, ["difftrack"]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| layer {layer}, step {step}" for layer, step in SITES]
    assert lines[-1].endswith("| 0.525 | **-0.500** (-0.500 … -0.500) |")


def test_the_block_is_made_of_both_runs(run_scores) -> None:
    block = switches.page_block(run_scores, run_scores, (7, 3))
    assert "on 6 held-out clips, layer 7, step 49" in block
    assert block.count("| layer 7, step 49 |") == 1  # in the bfloat16 table; the text above names the same site


def test_what_was_not_measured_is_an_error(run_scores) -> None:
    with pytest.raises(StoreError, match="no matching_accuracy of 'vv'"):
        run_scores.scores_at(switches.Column("x", "vv", METRIC), "corrected", (7, 49))
