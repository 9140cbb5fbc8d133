"""Tables of studies are written and read in one way."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pytest

from vcorr.contract.errors import StoreError
from vcorr.store.arrow_files import write_table
from vcorr.store.columns import NAN, Float, Text, column
from vcorr.studies import accelerator_rows, guidance_rows, knockout_agreements, knockout_rows
from vcorr.studies.knockout_rows import CellFolder, KnockoutRow
from vcorr.studies.study_tables import DamagedTableError, StudyTable, read_fingerprint


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table that is made up."""

    clip: Text = column("", "Id of the clip.")
    error: Float = column(NAN, "Distance.", "pixels")


TABLE = StudyTable(Row, "made up", 3)
ROWS = [Row(clip="a", error=0.5), Row(clip="b", error=2.0)]


@pytest.mark.parametrize("module", [accelerator_rows, guidance_rows, knockout_agreements, knockout_rows])
def test_each_study_reads_back_what_it_wrote(module, tmp_path):
    table = module.TABLE
    texts = {one.name: f"a {one.name}" for one in fields(table.row) if one.type == "Text"}
    table.write(tmp_path / "rows.arrow", [table.row(**texts), table.row()])
    first, second = table.read(tmp_path / "rows.arrow").to_pylist()
    assert texts
    assert {name: first[name] for name in texts} == texts
    assert {name: second[name] for name in texts} != texts
    assert {path.name for path in tmp_path.iterdir()} == {"rows.arrow"}


def test_a_table_says_its_name_version_units_and_fingerprint(tmp_path):
    TABLE.write(tmp_path / "rows.arrow", ROWS, fingerprint="f00d")
    found = TABLE.read(tmp_path / "rows.arrow")
    assert found.to_pylist() == [vars(row) for row in ROWS]
    assert read_fingerprint(found) == "f00d"
    assert {key: value for key, value in found.schema.metadata.items() if key != b"vcorr.fingerprint"} == {
        b"vcorr.table": b"made up",
        b"vcorr.schema_version": b"3",
        b"vcorr.units": b"pixels: error",
    }
    TABLE.write(tmp_path / "rows.arrow", ROWS)
    assert read_fingerprint(TABLE.read(tmp_path / "rows.arrow")) == ""


def test_a_table_of_a_newer_version_is_refused_and_an_older_one_is_read(tmp_path):
    replace(TABLE, version=4).write(tmp_path / "rows.arrow", ROWS)
    with pytest.raises(StoreError, match=r"rows\.arrow has layout version 4; this vcorr reads up to 3") as caught:
        TABLE.read(tmp_path / "rows.arrow")
    assert not isinstance(caught.value, DamagedTableError)  # to make it again would lose what the newer one knows
    replace(TABLE, version=2).write(tmp_path / "rows.arrow", ROWS)
    assert TABLE.read(tmp_path / "rows.arrow").num_rows == 2
    plain = pa.table({"clip": ["a"], "error": pa.array([1.0], pa.float32())})
    write_table(tmp_path / "rows.arrow", plain)  # as the first knock-out studies, under another key
    assert TABLE.read(tmp_path / "rows.arrow").num_rows == 1


def test_columns_that_came_later_have_their_defaults_in_older_tables(tmp_path):
    path = tmp_path / "rows.arrow"
    write_table(path, pa.table({"clip": ["a", "b"]}))
    found = replace(TABLE, added=("error",)).read(path).to_pylist()
    assert [row["clip"] for row in found] == ["a", "b"]
    assert all(np.isnan(row["error"]) for row in found)
    write_table(path, pa.table({"clip": ["a"], "other": ["b"]}))
    with pytest.raises(DamagedTableError, match="other columns"):
        replace(TABLE, added=("error",)).read(path)


def test_a_file_that_does_not_hold_the_table_is_damaged(tmp_path):
    path = tmp_path / "rows.arrow"
    with pytest.raises(DamagedTableError, match=r"rows\.arrow cannot be read"):
        TABLE.read(path)
    TABLE.write(path, ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedTableError, match=r"rows\.arrow cannot be read"):
        TABLE.read(path)
    write_table(path, pa.table({"clip": ["a"]}))
    with pytest.raises(DamagedTableError, match="other columns than a table of made up"):
        TABLE.read(path)


def test_cells_of_another_study_or_damaged_ones_are_computed_again(tmp_path):
    cells = CellFolder(tmp_path, "f00d")
    assert cells.read("clip", "plain") is None
    cells.write("clip", "plain", [KnockoutRow(clip="clip", value=0.25)])
    found = cells.read("clip", "plain")
    assert found is not None
    assert [(row["clip"], row["value"]) for row in found] == [("clip", 0.25)]
    assert CellFolder(tmp_path, "beef").read("clip", "plain") is None
    cells.file("clip", "plain").write_bytes(b"no arrow")
    assert cells.read("clip", "plain") is None
