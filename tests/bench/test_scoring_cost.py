"""`vcorr bench score`: runs without a model that every reading command takes, and what the commands cost."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from support.tables import same

from vcorr.analysis.overview import overview
from vcorr.bench import made_runs, scoring_cost
from vcorr.bench.made_runs import RunSize, make_run, vary_scores
from vcorr.bench.scoring_cost import run_measured
from vcorr.cli.main import cli
from vcorr.contract.errors import StoreError
from vcorr.plugins.registry import Registry, entry_point_sources
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import build_spec
from vcorr.store.columns import RowGroup, groups_to_table, to_table
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import SCORES, ScoreRow

SIZE = RunSize(clips=3, sites=4, points=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs"), SIZE)


def test_a_made_run_has_the_rows_of_a_run_of_its_size(run) -> None:
    assert run.record()["status"] == "complete"
    predictions, scores = run.read("predictions"), run.read("scores")
    assert predictions.num_rows == SIZE.clips * SIZE.sites
    columns = set(scores["metric"].to_pylist())
    assert {"pck_8", "matching_accuracy_moving"} <= columns
    assert scores.num_rows == SIZE.clips * SIZE.sites * len(columns)
    assert {len(xy) for xy in predictions["xy"].to_pylist()} == {SIZE.points * 3 * 2}


def test_true_scores_have_the_rows_and_the_identity_of_made_ones(run, tmp_path) -> None:
    """Checks that `vcorr score` changes values alone, and none of the first clip, which is scored already."""
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / run.run_id))
    made, record = list(run.iter_shards("scores")), run.record()
    rescored = rescore(copy, Registry(entry_point_sources()), build_spec({"variant": "corrected"}))
    assert (rescored.clips, rescored.failed) == (SIZE.clips, {})
    true = list(copy.iter_shards("scores"))
    assert same(true[0], made[0])
    varied = {"value", "n", "floor", "ceiling", "status"}  # made up after the first clip
    for one, other in zip(true[1:], made[1:], strict=True):
        kept = [name for name in one.column_names if name not in varied]
        assert same(one.select(kept), other.select(kept))
        assert not same(one, other)
    assert copy.record()["fingerprints"] == record["fingerprints"]


def test_a_run_of_another_seed_has_the_same_clips_and_other_values(run, tmp_path) -> None:
    other = make_run(tmp_path, RunSize(SIZE.clips, SIZE.sites, SIZE.points, seed=1))
    assert other.run_id != run.run_id
    assert same(other.read("tracks").drop(["run"]), run.read("tracks").drop(["run"]))
    assert not same(other.read("scores").select(["value"]), run.read("scores").select(["value"]))


def test_made_up_values_stay_below_their_ceilings(run) -> None:
    example = next(iter(run.iter_shards("scores")))
    made = vary_scores(example, "z", np.random.default_rng(0))
    value, ceiling = made["value"].to_numpy(), made["ceiling"].to_numpy()
    assert np.all((value <= ceiling) | np.isnan(ceiling))
    assert set(made["clip"].to_pylist()) == {"z"}
    assert overview(run).facts.clips == ("clip-0000", "clip-0001", "clip-0002")


def test_every_command_is_measured(vcorr, monkeypatch) -> None:
    """Checks that all commands take what was made. They run in this process, because each start takes seconds."""

    def measure(words):
        if tuple(words[:2]) == scoring_cost.MAKER:
            made_runs.main(words[2:])
        else:
            ended = CliRunner().invoke(cli, words[2:])
            assert ended.exit_code == 0, ended.output
        return 2.0, 1.0, 0.5

    monkeypatch.setattr(scoring_cost, "run_measured", measure)
    ended = vcorr("bench", "score", "--clips", "4", "--sites", "2", "--points", "3", "--out", "kept", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert [one["command"] for one in found] == ["score", "show run", "compare", "board build"]
    assert [one["rows"] for one in found] == [96, 96, 192, 192]
    assert [one["rows_per_second"] for one in found] == [48, 48, 96, 96]
    assert {(one["seconds"], one["cpu_seconds"], one["peak_gib"]) for one in found} == {(2.0, 1.0, 0.5)}
    again = vcorr("bench", "score", "--out", "kept")
    assert again.code == 2
    assert "--out kept is not an empty folder." in again.err


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(StoreError, match=r"exit code 3\. no room"):
        run_measured(["-c", "import sys; sys.stderr.write('no room'); sys.exit(3)"])


def test_the_peak_is_the_one_of_the_process() -> None:
    assert "numpy" in sys.modules  # this process is larger than the one that is measured
    *_, small = run_measured(["-c", "pass"])
    *_, large = run_measured(["-c", "x = bytearray(300 << 20)"])
    assert large - small > 0.25


@pytest.mark.parametrize("option", ["--clips", "--sites", "--points"])
def test_nothing_is_no_size(vcorr, option) -> None:
    ended = vcorr("bench", "score", option, "0")
    assert ended.code == 2
    assert re.search(rf"'{option}'.*0 is not in the range", ended.err)


def test_groups_are_the_rows_that_they_stand_for() -> None:
    groups = [
        RowGroup({"clip": "a", "layer": 3}, [{"metric": "m", "value": 0.5}, {"metric": "n", "floor": 0.25}]),
        RowGroup({"clip": "b"}, []),
        RowGroup({"clip": "c", "floor": 0.125, "error": "ä"}, [{"metric": "m", "value": 1.0}]),
    ]
    rows = [ScoreRow(**group.shared, **one) for group in groups for one in group.each]
    assert same(groups_to_table(groups, ScoreRow, SCORES), to_table(rows, SCORES))
    assert groups_to_table([], ScoreRow, SCORES).equals(pa.Table.from_pylist([], SCORES))
