"""Files of every released layout load for ever: tests/data/layout-N, written by the vcorr of their time."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from vcorr.analysis.comparable import are_comparable, earlier_scoring_note
from vcorr.analysis.overview import overview
from vcorr.analysis.stored_scores import load_scores
from vcorr.board.tables.board_runs import load_run
from vcorr.cli.views.run_view import overview_dict
from vcorr.contract.errors import StoreError
from vcorr.contract.variants import NamedVariant
from vcorr.metrics.builtin_metrics import AttentionScore, Confidence, MatchingAccuracy, Pck
from vcorr.runner import judges as judging
from vcorr.runner import score
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import RunSpec
from vcorr.runner.unpacking import unpack_tracks
from vcorr.store import schema, shards
from vcorr.store.arrow_rows import rows_of
from vcorr.store.columns import to_table
from vcorr.store.run_search import open_run

LATER = {
    "metric_version",
    "scoring_version",
    "tracker_version",
    "ceiling_kind",
    "token_width",
    "token_height",
    "height",
    "width",
    "frames",
}
"""Columns that only rows made anew can fill."""

DATA = Path(__file__).parents[1] / "data"
LAYOUTS = range(1, schema.SCHEMA_VERSION)
TABLES: tuple[schema.TableName, ...] = ("predictions", "tracks", "scores")


def test_every_former_layout_has_its_files() -> None:
    found = sorted(int(path.name.removeprefix("layout-")) for path in DATA.glob("layout-*"))
    assert found == list(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("table", TABLES)
def test_a_former_layout_reads_as_the_one_of_now(layout: int, table: schema.TableName) -> None:
    paths = sorted((DATA / f"layout-{layout}" / table).glob("*.arrow"))
    assert len(paths) == 2
    for path in paths:
        found = shards.read_shard(path, table)
        fingerprint = shards.fingerprint_of(found)
        assert len(fingerprint) == 64
        now = schema.schema(table, fingerprint)
        assert found.schema.equals(now)
        # since layout 5 a shard also says which clip it is of, and what is behind it
        assert found.schema.metadata.items() >= now.metadata.items()


@pytest.mark.parametrize("layout", [1, 2])
def test_before_layout_3_everything_was_corrected(layout: int) -> None:
    for table in ("predictions", "scores"):
        found = shards.read_shard(DATA / f"layout-{layout}" / table / "slide-0.arrow", table)
        assert found.num_rows
        assert set(found["variant"].to_pylist()) == {"corrected"}
        assert set(found["switches"].to_pylist()) == {""}


def same_as_then(scores: pa.Table) -> pa.Table:
    """Returns the rows without `pck_*_moving`, which counts other pairs since version 3 of pck."""
    return scores.filter(pc.invert(pc.match_like(scores["metric"], "pck\\__%\\_moving")))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_predictions_of_a_former_layout_are_scored_as_they_were(layout: int) -> None:
    folder = DATA / f"layout-{layout}"
    predictions, tracks, scores = (shards.read_shard(folder / table / "slide-0.arrow", table) for table in TABLES)
    first = scores.to_pylist()[0]
    columns = ("run", "model", "weights", "dataset", "split", "mode", "seed")
    context = score.RowContext(**{name: first[name] for name in columns})
    metrics = (MatchingAccuracy(), Pck(), Confidence(), AttentionScore())
    judges = judging.make_judges([NamedVariant()], [judging.VersionedMetric(metric, 7) for metric in metrics])
    rows = score.score_clip(context, judges, predictions, tracks)
    order = [(name, "ascending") for name in ("layer", "metric")]
    made, then = (same_as_then(table).sort_by(order) for table in (to_table(rows, schema.schema("scores")), scores))
    for name in set(made.column_names) - LATER:
        assert str(made[name].to_pylist()) == str(then[name].to_pylist()), name
    # what could not be read off the old rows is known now that they are made anew
    assert set(made["metric_version"].to_pylist()) == {7}
    assert set(made["token_width"].to_pylist()) == {8.0}
    assert set(made["ceiling_kind"].to_pylist()) == {"token_maximum", "none"}


@pytest.mark.parametrize("layout", range(1, 6))
@pytest.mark.parametrize("table", ["tracks", "scores"])
def test_before_layout_6_nothing_said_how_still_a_clip_is(layout: int, table: schema.TableName) -> None:
    found = shards.read_shard(DATA / f"layout-{layout}" / table / "slide-0.arrow", table)
    assert found["still"].type == pa.float32()
    assert np.isnan(found["still"].to_numpy()).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_before_layout_7_no_layer_was_known(layout: int) -> None:
    (row,) = rows_of(shards.read_shard(DATA / f"layout-{layout}" / "tracks" / "slide-0.arrow", "tracks"))
    assert list(row["point_layers"]) == []
    assert unpack_tracks(row).layer is None


@pytest.mark.parametrize("layout", [1, 2, 3, 4])
def test_before_layout_5_all_queries_were_in_frame_0(layout: int) -> None:
    folder = DATA / f"layout-{layout}"
    whole, failed = (shards.read_shard(folder / "scores" / f"slide-{i}.arrow", "scores").to_pylist() for i in (0, 1))
    assert {(r["task"], r["query_frame"], r["query_mode"]) for r in whole} == {("correspondence", 0, "frame")}
    assert {(r["task"], r["query_frame"], r["query_mode"]) for r in failed} == {("correspondence", -1, "")}
    # an older vcorr did not say which ceiling it was, where there is one
    assert {r["ceiling_kind"] for r in whole if r["ceiling"] == r["ceiling"]} == {""}
    for table in ("predictions", "tracks"):
        for row in shards.read_shard(folder / table / "slide-0.arrow", table).to_pylist():
            assert row["query_frames"] == [0] * 25
            assert row["confidence"] == []


def test_the_strength_of_guidance_has_its_name_of_now() -> None:
    run = open_run(DATA / "layout-4")
    record = run.record()
    assert record["record_version"] == 2
    for values in (record["spec"], record["resolved"]["settings"]):
        assert values["cfg"] == 2.0
        assert "guidance" not in values


def test_a_former_run_is_scored_and_compared(tmp_path: Path, plugins) -> None:
    shutil.copytree(DATA / "layout-4", tmp_path / "old")
    old = open_run(tmp_path / "old")
    before = [row for row in old.read("scores").to_pylist() if row["metric"] == "matching_accuracy"]
    assert rescore(old, plugins(), RunSpec()).clips == 2
    after = [row for row in old.read("scores").to_pylist() if row["metric"] == "matching_accuracy"]
    numbers = ("clip", "layer", "value", "floor", "ceiling", "n")
    assert [[row[name] for name in numbers] for row in after] == [[row[name] for name in numbers] for row in before]
    assert {row["metric_version"] for row in after} == {plugins().metrics.get("matching_accuracy").entry.version}
    shutil.copytree(old.path, tmp_path / "other")
    sides = [load_scores(open_run(tmp_path / name)).read_measured_on() for name in ("old", "other")]
    assert are_comparable(*sides)


@pytest.mark.parametrize("layout", [4, 5])
def test_ceilings_of_a_former_run_are_not_trusted_until_it_is_scored_again(
    layout: int, tmp_path: Path, plugins
) -> None:
    for name in ("a", "b"):
        shutil.copytree(DATA / f"layout-{layout}", tmp_path / name / "run")
    a, b = (open_run(tmp_path / name / "run") for name in ("a", "b"))
    (note,) = earlier_scoring_note(a.path, a.record())
    assert "so skills may be too high" in note
    assert f"vcorr score {a.path}" in note
    assert overview_dict(overview(a))["notes"][-1] == note
    rescore(a, plugins(), RunSpec())
    assert earlier_scoring_note(a.path, a.record()) == []
    assert earlier_scoring_note(b.path, b.record()) != []


@pytest.mark.parametrize("layout", [4, 5, 6])
def test_a_former_run_has_its_place_on_a_board(layout: int, tmp_path: Path) -> None:
    shutil.copytree(DATA / f"layout-{layout}", tmp_path / "old")
    (tmp_path / "site").mkdir()
    run = load_run(open_run(tmp_path / "old"), ["matching_accuracy"], tmp_path / "site" / "old.arrow")
    assert (run.model, run.failed, len(run.series)) == ("sliding-model", 1, 1)
    download = pa.ipc.open_file(str(tmp_path / "site" / "old.arrow")).read_all()
    assert download.schema.names == schema.SCORES.names


def test_a_damaged_file_of_a_former_layout_is_named(tmp_path: Path) -> None:
    path = tmp_path / "slide-0.arrow"
    shutil.copy(DATA / "layout-1" / "scores" / "slide-0.arrow", path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"slide-0\.arrow is damaged"):
        shards.read_shard(path, "scores")
