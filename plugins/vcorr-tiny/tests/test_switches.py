"""Tests the table of switches on made-up scores with known differences."""

from dataclasses import replace

import pytest
from vcorr_tiny import switches

from vcorr.contract.errors import StoreError
from vcorr.contract.variants import NamedVariant, switch_values
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import write_shard

CLIPS = [f"test-{i:04d}" for i in range(16)]
SITES = [(layer, step) for layer in (3, 7) for step in (42, 49)]
ADDED = {"corrected+time_map=stretched": 0.25, "corrected+readout=field": -0.125, "difftrack": -0.5}
"""Change of every score under a variant; the others change nothing."""


def row(clip: str, probe: str, metric: str, variant: str, layer: int, step: int) -> ScoreRow:
    """Returns a score row: 0.5 plus the variant's change, floor 0, ceiling 1."""
    named = NamedVariant.parse(variant)
    numbers = {"layer": layer, "step": step, "n": 9, "seed": 42, "noise": 0.5, "floor": 0.0, "ceiling": 1.0}
    names = {"probe": probe, "metric": metric, "variant": named.base, "switches": named.switches}
    # clips differ, but a paired difference hardly depends on it
    place = CLIPS.index(clip)
    value = 0.3 + 0.01 * place + (ADDED[variant] + 0.001 * (place % 3 - 1) if variant in ADDED else 0.0)
    return ScoreRow(**numbers, **names, clip=clip, value=value)


@pytest.fixture(scope="module")
def run_scores(tmp_path_factory) -> switches.Measured:
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), "a" * 64)
    columns = {(column.probe, column.metric) for column in switches.COLUMNS}
    for clip in CLIPS:
        rows = [row(clip, *place, v, *site) for place in columns for v in switches.all_variants() for site in SITES]
        write_shard(run.shard("scores", clip), "scores", rows, "f")
    return switches.read_measured(run)


def test_every_switch_that_a_run_depends_on_is_flipped_alone() -> None:
    flipped = [NamedVariant.parse(variant).flipped for variant in switches.flips()]
    assert [names for (names,) in [(f[0],) for f in flipped]] == [s for s in switch_values() if s != "guidance_mask"]
    assert all(len(names) == 1 for names in flipped)


def changes_of(measured: switches.Measured, *variants: str) -> switches.Changes:
    """Returns the changes of all columns at all sites."""
    cells = [switches.Cell(c, variant, site) for c in switches.COLUMNS for variant in variants for site in SITES]
    return switches.find_changes(cells, {"float32": measured})


def test_a_line_says_what_the_switch_adds(run_scores) -> None:
    variants = [*switches.flips(), "difftrack"]
    table = switches.cost_table(run_scores, (7, 49), variants, changes_of(run_scores, *variants))
    lines = {line.split(" | ")[0].strip("| `"): line.split(" | ")[1:] for line in table.splitlines()}
    assert lines["corrected"][0] == "0.375"
    assert {cell.split(" (")[0] for cell in lines["time_map=stretched"]} == {"**+0.250**"}
    assert {cell.split(" (")[0] for cell in lines["readout=field"]} == {"**-0.125**"}
    assert {cell.strip(" |") for cell in lines["pooling=everything"]} == {"0"}
    assert lines["difftrack`, all its switches"][0] == "**-0.500** (-0.501 … -0.500)"


def test_a_difference_is_bold_by_the_test_and_not_by_its_interval(run_scores) -> None:
    (cell,) = (switches.Cell(switches.ACCURACY, "difftrack", site) for site in SITES[:1])
    change = switches.find_changes([cell], {"float32": run_scores})[cell]
    assert switches.change_text(change).startswith("**-0.500**")
    assert switches.change_text(replace(change, corrected=0.06)).startswith("-0.500 (")


def test_few_clips_have_no_interval_and_say_so(run_scores) -> None:
    few = replace(run_scores, clips=run_scores.clips[:4])
    (cell,) = (switches.Cell(switches.ACCURACY, "difftrack", site) for site in SITES[:1])
    text = switches.change_text(switches.find_changes([cell], {"float32": few})[cell])
    assert text == "-0.500 (4 clips, and an interval needs 6)"


def test_other_sites_have_a_line_each(run_scores) -> None:
    changes = changes_of(run_scores, "difftrack")
    lines = switches.site_table(run_scores, SITES, ["difftrack"], changes).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| layer {layer}, step {step}" for layer, step in SITES]
    assert lines[-1].endswith("| 0.375 | **-0.500** (-0.501 … -0.500) |")


def test_the_block_is_made_of_both_runs(run_scores) -> None:
    block = switches.page_block(run_scores, run_scores, (7, 3))
    assert "on 16 held-out clips, layer 7, step 49" in block
    assert "no comparison can hold" not in block
    few = replace(run_scores, clips=run_scores.clips[:8])
    assert "With 8 clips no comparison can hold" in switches.page_block(few, few, (7, 3))
    assert block.count("| layer 7, step 49 |") == 1  # in the bfloat16 table; the text above names the same site


def test_what_was_not_measured_is_an_error(run_scores) -> None:
    with pytest.raises(StoreError, match="no matching_accuracy of 'vv'"):
        run_scores.scores_at(switches.Column("x", "vv", switches.METRIC), "corrected", (7, 49))
