"""Files of every released layout load for ever: tests/data/layout-N, written by the vcorr of their time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from vcorr.errors import StoreError
from vcorr.metrics.builtin import AttentionScore, Confidence, MatchingAccuracy, Pck
from vcorr.stages import score
from vcorr.store import schema, shards
from vcorr.variants import NamedVariant

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
        assert found.schema.equals(schema.schema(table, fingerprint), check_metadata=True)


@pytest.mark.parametrize("layout", [1, 2])
def test_before_layout_3_everything_was_corrected(layout: int) -> None:
    for table in ("predictions", "scores"):
        found = shards.read_shard(DATA / f"layout-{layout}" / table / "slide-0.arrow", table)
        assert found.num_rows
        assert set(found["variant"].to_pylist()) == {"corrected"}
        assert set(found["switches"].to_pylist()) == {""}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_predictions_of_a_former_layout_are_scored_as_they_were(layout: int) -> None:
    folder = DATA / f"layout-{layout}"
    predictions, tracks, scores = (shards.read_shard(folder / table / "slide-0.arrow", table) for table in TABLES)
    first = scores.to_pylist()[0]
    columns = ("run", "model", "weights", "dataset", "split", "mode", "seed")
    context = score.RowContext(**{name: first[name] for name in columns})
    judges = score.judges([NamedVariant()], [MatchingAccuracy(), Pck(), Confidence(), AttentionScore()])
    rows = score.score_clip(context, judges, predictions, tracks)
    made = pa.Table.from_pylist(rows, schema=schema.schema("scores")).sort_by(
        [(name, "ascending") for name in ("layer", "metric")]
    )
    then = scores.sort_by([(name, "ascending") for name in ("layer", "metric")])
    assert made.to_pydict().keys() == then.to_pydict().keys()
    for name in made.column_names:
        assert str(made[name].to_pylist()) == str(then[name].to_pylist()), name


def test_a_damaged_file_of_a_former_layout_is_named(tmp_path: Path) -> None:
    path = tmp_path / "slide-0.arrow"
    shutil.copy(DATA / "layout-1" / "scores" / "slide-0.arrow", path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"slide-0\.arrow is damaged"):
        shards.read_shard(path, "scores")
